// The devices that plans can be selected for.
#pragma once

#include <cstddef>
#include <string>

#include "cutplan/export.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

struct DeviceProperties {
  std::string name;
  int compute_capability = 0;     // 10 * major + minor: 90 for Hopper; 0 for the host
  int sm_count = 0;               // streaming multiprocessors; hardware threads on the host
  std::size_t shared_memory = 0;  // bytes one thread block may opt in to
  std::size_t l2_bytes = 0;
  double clock_hz = 0;          // highest of the SMs; 0: not known
  double memory_bandwidth = 0;  // bytes a second at the memory's pins; 0: not known
};

/// Number of CUDA devices; 0 where there is no GPU, no driver, or the library was built without CUDA. One atomic load once
/// there are devices; until then every call asks the driver.
CUTPLAN_API int cuda_device_count() noexcept;

/// Kept from the first call that succeeds on. Throws DeviceError for a device that does not exist.
CUTPLAN_API const DeviceProperties& device_properties(Device device);

/// Why cuda_device_count() is 0, in one sentence; empty where there are devices.
CUTPLAN_API std::string cuda_unavailable_reason();

}  // namespace cutplan
