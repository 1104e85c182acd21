// The CUDA runtime, as the host side of every family uses it: each call checked, the caller's device restored.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <shared_mutex>

#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a launch failure that is not sticky must not fail the next call
  throw DeviceError(text(what, ": ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")"));
}

/// Lets a kernel be launched with this much dynamic shared memory on the current device; without it, 48 KiB is the most.
template <typename... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), std::size_t bytes) {
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
}

/// Loads kernels on the current device. Left to itself the runtime does so at their first launch, which may be inside a capture,
/// or behind work that loading waits for.
template <typename... Parameters>
void load_kernel(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  check_cuda(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)), "cudaFuncGetAttributes");
}

/// Asks the runtime what a thread may still want to know while the process ends, when what the runtime keeps goes: not from then
/// on, and what is being asked is waited for, but no longer than a second: in the child of a fork nobody may be left to answer.
template <typename Question>
cudaError_t ask_runtime(const Question& question) {
  struct Gate {
    std::shared_timed_mutex mutex;
    std::atomic<bool> closed{false};
  };
  static Gate& gate = *new Gate;  // never destroyed
  const std::shared_lock lock(gate.mutex);
  if (gate.closed) return cudaErrorCudartUnloading;
  const cudaError_t status = question();
  if (status != cudaSuccess) cudaGetLastError();
  static const struct AtEnd {
    ~AtEnd() {
      const std::unique_lock closing(gate.mutex, std::chrono::seconds(1));
      gate.closed = true;
    }
  } at_end;  // made after the runtime's own objects, it goes before them
  return status;
}

/// Makes `device` current for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ == device) {
      previous_ = -1;
    } else {
      check_cuda(cudaSetDevice(device), "cudaSetDevice");
    }
  }
  ~DeviceGuard() {
    if (previous_ >= 0) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;
};

}  // namespace cutplan
