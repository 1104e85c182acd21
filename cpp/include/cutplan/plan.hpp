// What every op family shares: the plan itself, preferences, the identity of the kernel that runs, and how exact it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cutplan/device.hpp"
#include "cutplan/dtype.hpp"
#include "cutplan/error.hpp"
#include "cutplan/export.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

enum class Arch : std::uint8_t { host, sm80, sm89, sm90 };
enum class Backend : std::uint8_t { host, cute };

constexpr const char* name(Arch a) noexcept {
  switch (a) {
    case Arch::host: return "host";
    case Arch::sm80: return "sm80";
    case Arch::sm89: return "sm89";
    case Arch::sm90: return "sm90";
  }
  return "";
}

constexpr const char* name(Backend b) noexcept {
  switch (b) {
    case Backend::host: return "host";
    case Backend::cute: return "cute";
  }
  return "";
}

/// How float32 and fp8 operands may be multiplied, by growing accuracy; a kernel that is more accurate than asked for is welcome.
/// fast: as below, and fp8's sums stay in the tensor core, of which some keep 14 bits; otherwise they leave it every 128 products.
/// tf32: rounded to TF32's 11 bits; tf32x3: as three TF32 products, about as exact as float32; strict: IEEE float32.
enum class Math : std::uint8_t { fast, tf32, tf32x3, strict };

constexpr const char* name(Math m) noexcept {
  switch (m) {
    case Math::fast: return "fast";
    case Math::tf32: return "tf32";
    case Math::tf32x3: return "tf32x3";
    case Math::strict: return "strict";
  }
  return "";
}

/// Where the choice among kernels that can serve a problem comes from. off: the cost model alone; cached: a measured entry
/// for the problem and the device, where there is one (tuning.hpp), wins over it; measure: where there is none, the
/// candidates are timed on the device, once, and the result is kept. Measuring allocates operands and waits for the device.
enum class Tune : std::uint8_t { off, cached, measure };

constexpr const char* name(Tune t) noexcept {
  switch (t) {
    case Tune::off: return "off";
    case Tune::cached: return "cached";
    case Tune::measure: return "measure";
  }
  return "";
}

/// What the caller insists on. A field that cannot be honoured makes `select` refuse, naming the field.
struct PlanPreference {
  std::optional<std::size_t> max_workspace_bytes;  // none: any amount
  bool deterministic = false;                      // same inputs, same device: the same bits
  bool batch_invariant = false;       // a row's bits do not depend on how many rows or batches are computed with it
  std::optional<Arch> arch;           // only kernels of this architecture
  std::optional<std::string> kernel;  // only the kernel of this SKU name
  int sm_count = 0;                   // use at most this many SMs (host: threads); 0: all
  Math math = Math::tf32x3;           // least accuracy for float32 operands
  Tune tune = Tune::cached;           // how the kernel is chosen
};

/// The kernel that a plan runs.
struct KernelSku {
  std::string name;  // selects the same kernel again through PlanPreference::kernel
  std::string category = "matmul";
  std::string op;
  DType a = DType::none, b = DType::none, accumulator = DType::none, d = DType::none;
  std::string layout;
  std::string epilogue;
  Arch arch = Arch::host;
  Backend backend = Backend::host;
  int tile_m = 0, tile_n = 0, tile_k = 0;
  int stages = 0;
  int cluster_m = 1, cluster_n = 1;
  std::string schedule;
  int split_k = 1;                // slices of K; 0: stream-K, blocks share out tiles and K evenly
  int alignment = 1;              // bytes to which A and B rows must be aligned
  int threads = 0;                // of a block; on the host 0
  std::size_t shared_memory = 0;  // dynamic, bytes of a block
};

/// How exact a plan's result is. See error_bound().
struct PrecisionGuarantee {
  DType math = DType::none;         // type that the multiplier reads
  DType accumulator = DType::none;  // type that products are summed in
  bool deterministic = false;
  bool bit_stable_on_same_hardware = false;
  bool batch_invariant = false;

  double accumulation = 0;  // error of the sum before the activation, relative to `magnitude`
  double lipschitz = 1;     // how much the activation can stretch an error
  double evaluation = 0;    // error of evaluating the activation or the softmax, relative to `magnitude`
  double scores = 0;        // attention: absolute error that a score carries into its weight, per unit of `score_magnitude`
  double rounding = 0;      // unit roundoff of D
  double smallest = 0;      // absolute error where D underflows
  double largest = 0;       // beyond this magnitude D overflows and no bound holds

  /// Bound on |computed - exact| of one element of D, where `exact` is the element in exact arithmetic on the operands as
  /// given. GEMM: `magnitude` = |alpha r_i s_j| sum_k |a_ik b_kj| + |beta c_ij| + |bias|, r and s being the scales, times
  /// the same of the other product where there is a gate, + |residual_ij|. Attention: docs/numerics.md gives `magnitude` for
  /// each output; `score_magnitude` is the largest scale sum_d |q_id k_jd| + |slope (i + off - j)| + |bias_ij| that the
  /// output depends on; without it there is no bound: infinity.
  CUTPLAN_API double error_bound(double magnitude, double exact,
                                 double score_magnitude = std::numeric_limits<double>::infinity()) const noexcept;
};

/// Of a measured kernel, by growing precedence.
enum class TuningSource : std::uint8_t { shipped, imported, measured };

constexpr const char* name(TuningSource s) noexcept {
  return s == TuningSource::shipped ? "shipped" : s == TuningSource::imported ? "imported" : "measured";
}

/// The kernel that was the fastest for one problem on one kind of device.
struct TuningEntry {
  std::string device;
  int compute_capability = 0;
  std::string problem;       // everything that the choice depends on
  std::string kernel;        // SKU name of the fastest; ignored by a build that has no such kernel
  double seconds = 0;        // that it took
  double model_seconds = 0;  // that the cost model's choice took
  TuningSource source = TuningSource::measured;
};

/// How long one kernel takes for a problem.
struct KernelMeasurement {
  KernelSku sku;
  double seconds;                           // median
  std::optional<double> predicted_seconds;  // by the cost model; on the host it predicts nothing
};

/// Called before each round of measurements, and at the end with done == total. May select and tune itself.
using TuningProgress = std::function<void(int done, int total)>;

struct Operands;

/// A kernel chosen for one descriptor and one device. Thread-safe after selection; holds no device memory; copies are cheap.
template <typename Descriptor, typename Arguments>
class Plan {
 public:
  /// Chooses a kernel. Throws InvalidProblem or Unsupported with the reason; succeeds only if `run` can.
  static Plan select(const Descriptor& descriptor, Device device, const PlanPreference& preference = {});

  /// Throws what `run` would throw for these arguments; touches no device.
  void can_implement(const Arguments& arguments) const;

  /// Scratch that `run` needs, in bytes, aligned to workspace_alignment.
  std::size_t workspace_size() const noexcept;

  const KernelSku& sku() const noexcept;
  const PrecisionGuarantee& precision_guarantee() const noexcept;

  /// With its defaults filled in.
  const Descriptor& descriptor() const noexcept;
  Device device() const noexcept;

  /// What it was selected with.
  const PlanPreference& preference() const noexcept;

  /// Checks the arguments, enqueues on `stream` and returns. Never allocates, synchronises or copies. On the host it computes
  /// before it returns.
  void run(const Arguments& arguments, Stream stream = nullptr, Workspace workspace = {}) const;

  /// Host seconds that one bare launch of the plan's kernels takes: checks the arguments once, enqueues `launches` times, and
  /// divides. What run() costs beyond this is cutplan's own.
  double measure_launch(const Arguments& arguments, int launches, Stream stream = nullptr, Workspace workspace = {}) const;

  /// The kernels that can serve a descriptor on a device of these properties, best first. No device is touched.
  static std::vector<KernelSku> kernels(const Descriptor& descriptor, const DeviceProperties& properties,
                                        const PlanPreference& preference = {});

  /// Times the kernels that can serve a descriptor, or the `candidates` (> 0) of them that the cost model expects most of, on
  /// operands of its own; fastest first. Groups and packed sequences are of one size. Allocates device memory, waits for the
  /// device, and keeps nothing. Throws what select() does, InvalidProblem for an extent of 0, and Unsupported where the device
  /// has too little memory.
  static std::vector<KernelMeasurement> measure(const Descriptor& descriptor, Device device,
                                                const PlanPreference& preference = {}, int candidates = 0,
                                                const TuningProgress& progress = {});

  /// Measures the most promising kernels, whatever is known already, and keeps the fastest for select() to find.
  static std::vector<KernelMeasurement> tune(const Descriptor& descriptor, Device device,
                                             const PlanPreference& preference = {}, const TuningProgress& progress = {});

  /// The entry that select() follows on such a device if the build has its kernel. Touches no device.
  static std::optional<TuningEntry> tuned(const Descriptor& descriptor, const DeviceProperties& properties,
                                          const PlanPreference& preference = {});

  struct Impl;

  /// What it asks of its operands, for the bindings: the type is not part of the API.
  const Operands& operands() const noexcept;

 private:
  explicit Plan(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace cutplan
