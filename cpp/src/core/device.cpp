#include "cutplan/device.hpp"

#include <deque>

#include "core/parallel.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {
namespace {

DeviceProperties host_properties() {
  DeviceProperties p;
  p.name = "host";
  p.sm_count = hardware_threads();
  return p;
}

#if CUTPLAN_WITH_CUDA
struct CudaDevices {
  std::deque<DeviceProperties> properties;
  std::string unavailable;

  CudaDevices() {
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    for (int i = 0; status == cudaSuccess && i < count; ++i) status = append(i);
    if (status != cudaSuccess) {
      properties.clear();
      cudaGetLastError();
      unavailable = text("the CUDA runtime answers ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")");
    } else if (count == 0) {
      unavailable = "the machine has no CUDA device";
    }
  }

 private:
  cudaError_t append(int id) {
    cudaDeviceProp cuda;
    if (cudaError_t status = cudaGetDeviceProperties(&cuda, id)) return status;
    DeviceProperties p;
    p.name = cuda.name;
    p.compute_capability = 10 * cuda.major + cuda.minor;
    p.sm_count = cuda.multiProcessorCount;
    p.shared_memory = cuda.sharedMemPerBlockOptin;
    p.l2_bytes = static_cast<std::size_t>(cuda.l2CacheSize);
    properties.push_back(p);
    return cudaSuccess;
  }
};

const CudaDevices& cuda_devices() {
  static const CudaDevices devices;
  return devices;
}
#endif

}  // namespace

int cuda_device_count() noexcept {
#if CUTPLAN_WITH_CUDA
  return static_cast<int>(cuda_devices().properties.size());
#else
  return 0;
#endif
}

std::string cuda_unavailable_reason() {
#if CUTPLAN_WITH_CUDA
  return cuda_devices().unavailable;
#else
  return "this build holds no CUDA kernels (CUTPLAN_SKUS=none)";
#endif
}

const DeviceProperties& device_properties(Device device) {
  if (device.type == DeviceType::cpu) {
    static const DeviceProperties host = host_properties();
    return host;
  }
#if CUTPLAN_WITH_CUDA
  const CudaDevices& devices = cuda_devices();
  if (device.id >= 0 && device.id < static_cast<int>(devices.properties.size())) {
    return devices.properties[static_cast<std::size_t>(device.id)];
  }
#endif
  const int count = cuda_device_count();
  if (count == 0)
    throw DeviceError(text("device ", describe(device), " is not there: ", cuda_unavailable_reason(),
                           "; the host backend serves \"cpu\""));
  throw DeviceError(text("device ", describe(device), " is not there: required an index below ", count));
}

}  // namespace cutplan
