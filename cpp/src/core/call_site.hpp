// Where a plan's kernel runs.
#pragma once

#include "cutplan/tensor.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {

/// What a call adds to the plan's choice.
struct CallSite {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int repeats = 1;  // launches of the same, ready arguments: measure_launch() counts what one costs
};

/// Calls `work` with the device current.
template <typename Work>
void on_device([[maybe_unused]] Device device, const Work& work) {
#if CUTPLAN_WITH_CUDA
  if (device.type == DeviceType::cuda) {
    const DeviceGuard guard(device.id);
    work();
    return;
  }
#endif
  work();
}

}  // namespace cutplan
