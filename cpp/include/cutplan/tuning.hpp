// Measured choices of kernels. What was measured once, on this device or on another of its name, decides between the kernels
// that can serve a problem; where nothing was measured, the cost model does. PlanPreference::tune says whether to look and
// whether to measure.
//
// Measurements are kept as text in $CUTPLAN_CACHE_DIR, else $XDG_CACHE_HOME/cutplan, else ~/.cache/cutplan: one file for a
// device name, compute capability, CUDA driver version and cutplan version. Files are replaced whole, under a lock, so any
// number of processes may write. Below what this machine measured lies what was imported, and below that what cutplan or a
// program ships; these two hold for every device of the name and compute capability.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cutplan/export.hpp"
#include "cutplan/gemm.hpp"
#include "cutplan/grouped_gemm.hpp"

namespace cutplan {

/// By growing precedence.
enum class TuningSource : std::uint8_t { shipped, imported, measured };

constexpr const char* name(TuningSource s) noexcept {
  return s == TuningSource::shipped ? "shipped" : s == TuningSource::imported ? "imported" : "measured";
}

struct TuningEntry {
  std::string device;
  int compute_capability = 0;
  std::string problem;       // everything that the choice depends on
  std::string kernel;        // SKU name of the fastest; ignored by a build that has no such kernel
  double seconds = 0;        // that it took
  double model_seconds = 0;  // that the cost model's choice took
  TuningSource source = TuningSource::measured;
};

struct TuningCache {
  std::string folder;                 // empty: the environment names none
  std::vector<TuningEntry> entries;   // that count for this driver and this version of cutplan
  std::vector<std::string> problems;  // what was unreadable or could not be written, one sentence each
};

/// Reads the files again and tells what there is.
CUTPLAN_API TuningCache tuning_cache();

/// Grows whenever what is known of measured kernels may have changed in this process: select() may now choose another
/// kernel. For caches of plans.
CUTPLAN_API std::uint64_t tuning_generation() noexcept;

/// The problems that no call has returned before.
CUTPLAN_API std::vector<std::string> take_tuning_problems();

/// What was measured and imported, as text for import_tuning().
CUTPLAN_API std::string export_tuning();

/// Keeps the entries of an exported table; returns their number. Throws InvalidProblem for text that is no whole table, and
/// std::system_error where it cannot be written.
CUTPLAN_API std::size_t import_tuning(const std::string& table);

/// Adds an exported table to this process alone, beside what cutplan ships: for programs that bring their own. Returns the
/// number of entries. Throws InvalidProblem for text that is no whole table.
CUTPLAN_API std::size_t add_tuning(const std::string& table);

/// Forgets what was measured and imported, for every driver and version, and deletes the files. Throws std::system_error
/// where they cannot be deleted.
CUTPLAN_API void clear_tuning();

/// How long one kernel takes for a problem.
struct GemmMeasurement {
  KernelSku sku;
  double seconds;            // median
  double predicted_seconds;  // by the cost model; on the host it predicts nothing: 0
};

/// Called before each round of measurements, and at the end with done == total. May select and tune itself.
using TuningProgress = std::function<void(int done, int total)>;

/// Times the kernels that can serve `descriptor`, or the `candidates` (> 0) of them that the cost model expects most of, on
/// operands of its own; fastest first. Groups are of one size. Allocates device memory, waits for the device, and keeps
/// nothing. Throws what the plan's select does, InvalidProblem for an extent of 0, and Unsupported where the device has too
/// little memory.
CUTPLAN_API std::vector<GemmMeasurement> measure_gemm(const GemmDescriptor& descriptor, Device device,
                                                      const PlanPreference& preference = {}, int candidates = 0,
                                                      const TuningProgress& progress = {});
CUTPLAN_API std::vector<GemmMeasurement> measure_gemm(const GroupedGemmDescriptor& descriptor, Device device,
                                                      const PlanPreference& preference = {}, int candidates = 0,
                                                      const TuningProgress& progress = {});

/// Measures the most promising kernels, whatever is known already, and keeps the fastest for the plan's select to find.
CUTPLAN_API std::vector<GemmMeasurement> tune_gemm(const GemmDescriptor& descriptor, Device device,
                                                   const PlanPreference& preference = {},
                                                   const TuningProgress& progress = {});
CUTPLAN_API std::vector<GemmMeasurement> tune_gemm(const GroupedGemmDescriptor& descriptor, Device device,
                                                   const PlanPreference& preference = {},
                                                   const TuningProgress& progress = {});

/// The entry that the plan's select follows on such a device if the build has its kernel. Touches no device.
CUTPLAN_API std::optional<TuningEntry> tuned_gemm(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                                                  const PlanPreference& preference = {});
CUTPLAN_API std::optional<TuningEntry> tuned_gemm(const GroupedGemmDescriptor& descriptor,
                                                  const DeviceProperties& properties, const PlanPreference& preference = {});

}  // namespace cutplan
