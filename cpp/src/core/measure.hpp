// Operands made up for a problem, and the times of what runs on them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/operands.hpp"
#include "cutplan/tuning.hpp"

namespace cutplan {

/// Allocates device memory and waits for the device; one measures at a time, the others wait.
class Stopwatch {
 public:
  using Run = std::function<void(Stream, Workspace)>;

  /// Operands as a plan asks for them, contiguous but for what alignment asks, in memory of their own. Throws Unsupported where
  /// the device has too little.
  Stopwatch(const Operands& operands, std::size_t workspace_bytes);
  ~Stopwatch();

  /// Of an operand, in the order of the table; absent where the plan does not know it.
  const TensorView& view(std::size_t operand) const;

  /// Median seconds of each. Runs take turns, so that clocks and temperature are the same for all; before each the device's L2
  /// is overwritten, so that operands come from memory, as they will where other kernels run in between.
  std::vector<double> medians(const std::vector<Run>& runs, const TuningProgress& progress);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cutplan
