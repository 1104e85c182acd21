// D = activation(alpha * A B + beta * C + bias), one matrix or a strided batch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cutplan/device.hpp"
#include "cutplan/error.hpp"
#include "cutplan/export.hpp"
#include "cutplan/plan.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

/// Order of A and B; D is row-major. r: row-major (last dimension contiguous), c: column-major.
enum class GemmLayout : std::uint8_t { rcr, rrr, crr, ccr };

/// gelu_erf: x/2 (1 + erf(x/sqrt 2)); gelu_tanh: its tanh approximation (Hendrycks and Gimpel 2016, section 2); silu: x
/// sigmoid(x).
enum class Activation : std::uint8_t { none, relu, gelu_erf, gelu_tanh, silu };

constexpr const char* name(GemmLayout l) noexcept {
  switch (l) {
    case GemmLayout::rcr: return "rcr";
    case GemmLayout::rrr: return "rrr";
    case GemmLayout::crr: return "crr";
    case GemmLayout::ccr: return "ccr";
  }
  return "";
}

constexpr const char* name(Activation a) noexcept {
  switch (a) {
    case Activation::none: return "none";
    case Activation::relu: return "relu";
    case Activation::gelu_erf: return "gelu_erf";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::silu: return "silu";
  }
  return "";
}

struct Epilogue {
  bool bias = false;  // one value per column of D
  bool c = false;     // a matrix of D's shape, scaled by beta
  Activation activation = Activation::none;
};

struct GemmDescriptor {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t batch = 1;
  DType a = DType::none, b = DType::none, d = DType::none;
  DType c = DType::none, bias = DType::none;  // none: D's type
  GemmLayout layout = GemmLayout::rcr;
  Epilogue epilogue;
  /// Bytes to which A's and B's addresses, leading dimensions and batch strides are aligned. 0: what contiguous operands of
  /// these extents have, 16 at most.
  int alignment = 0;
};

/// Shapes: a [m, k], b [k, n], c and d [m, n], bias [n]; with batch > 1 all but bias may have a leading dimension `batch`,
/// and a, b and c may leave it out or give it stride 0 to be shared by the whole batch.
struct GemmArguments {
  TensorView a, b, c, d, bias;
  double alpha = 1.0;
  double beta = 0.0;
};

/// Thread-safe after selection; holds no device memory; copies are cheap.
class CUTPLAN_API GemmPlan {
 public:
  /// Chooses a kernel. Throws InvalidProblem or Unsupported with the reason; succeeds only if `run` can.
  static GemmPlan select(const GemmDescriptor& descriptor, Device device, const PlanPreference& preference = {});

  /// Throws what `run` would throw for these arguments; touches no device.
  void can_implement(const GemmArguments& arguments) const;

  /// Scratch that `run` needs, in bytes, aligned to workspace_alignment.
  std::size_t workspace_size() const noexcept;

  const KernelSku& sku() const noexcept;
  const PrecisionGuarantee& precision_guarantee() const noexcept;
  const GemmDescriptor& descriptor() const noexcept;
  Device device() const noexcept;

  /// Checks the arguments, enqueues on `stream` and returns. Never allocates, synchronises or copies. On the host it
  /// computes before it returns.
  void run(const GemmArguments& arguments, Stream stream = nullptr, Workspace workspace = {}) const;

  /// Host seconds that one bare launch of the plan's kernel takes: checks the arguments and packs them once, enqueues the
  /// kernel `launches` times, and divides. What run() costs beyond this is cutplan's own.
  double measure_launch(const GemmArguments& arguments, int launches, Stream stream = nullptr,
                        Workspace workspace = {}) const;

  struct Impl;

 private:
  explicit GemmPlan(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// The descriptor that these arguments fit: extents, layout, types and alignment read off the tensors.
CUTPLAN_API GemmDescriptor describe(const GemmArguments& arguments, Activation activation = Activation::none);

/// The kernels that can serve `descriptor` on a device of these properties, best first. For inspection: no device is
/// touched.
CUTPLAN_API std::vector<KernelSku> gemm_kernels(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                                                const PlanPreference& preference = {});

/// One row of the support table: what a kernel family serves.
struct GemmSupport {
  Arch arch;
  DType operand;         // of A and B
  std::vector<DType> d;  // output types
  std::vector<GemmLayout> layouts;
  int minimum_compute_capability;  // 0: none needed
  std::string note;
};

/// The rows that this build holds.
CUTPLAN_API std::vector<GemmSupport> gemm_support();

/// Every kernel of this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> gemm_registry();

}  // namespace cutplan
