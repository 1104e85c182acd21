#include "cutplan/device.hpp"

#include <optional>
#include <utility>
#include <vector>

#include "core/parallel.hpp"
#include "core/remembered.hpp"
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
using CudaDevices = std::vector<DeviceProperties>;

/// 0 where the driver does not tell.
double attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

cudaError_t ask(CudaDevices& devices) {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count)) return status;
  for (int id = 0; id < count; ++id) {
    cudaDeviceProp cuda;
    if (const cudaError_t status = cudaGetDeviceProperties(&cuda, id)) return status;
    DeviceProperties p;
    p.name = cuda.name;
    p.compute_capability = 10 * cuda.major + cuda.minor;
    p.sm_count = cuda.multiProcessorCount;
    p.shared_memory = cuda.sharedMemPerBlockOptin;
    p.l2_bytes = static_cast<std::size_t>(cuda.l2CacheSize);
    p.clock_hz = attribute(cudaDevAttrClockRate, id) * 1e3;
    // Two transfers a clock.
    p.memory_bandwidth =
        2 * attribute(cudaDevAttrMemoryClockRate, id) * 1e3 * attribute(cudaDevAttrGlobalMemoryBusWidth, id) / 8;
    devices.push_back(p);
  }
  return devices.empty() ? cudaErrorNoDevice : cudaSuccess;
}

std::string reason(cudaError_t status) {
  if (status == cudaErrorNoDevice) return "the machine has no CUDA device, or CUDA_VISIBLE_DEVICES hides them";
  int driver = 0;
  if (status == cudaErrorCudartUnloading) return "the process ends";
  if (status == cudaErrorInsufficientDriver && ask_runtime([&] { return cudaDriverGetVersion(&driver); }) == cudaSuccess) {
    // Without a driver the runtime says that it is too old.
    if (driver == 0) return "the machine has no NVIDIA driver (libcuda.so.1 is not found)";
    const auto version = [](int v) { return text(v / 1000, ".", v % 1000 / 10); };
    return text("the NVIDIA driver serves CUDA up to ", version(driver), ", and this build needs ", version(CUDART_VERSION),
                ": update the driver");
  }
  return text("the CUDA runtime answers ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")");
}

/// Null where there are none, with the reason where it is asked for. A driver that fails is asked again by the next call.
const CudaDevices* cuda_devices(std::string* why_not = nullptr) {
  static Remembered<CudaDevices>& devices = *new Remembered<CudaDevices>;
  return devices.get([&]() -> std::optional<CudaDevices> {
    CudaDevices found;
    const cudaError_t status = ask_runtime([&] { return ask(found); });
    if (status == cudaSuccess) return found;
    if (why_not != nullptr) *why_not = reason(status);
    return std::nullopt;
  });
}
#endif

}  // namespace

int cuda_device_count() noexcept {
#if CUTPLAN_WITH_CUDA
  if (const CudaDevices* devices = cuda_devices()) return static_cast<int>(devices->size());
#endif
  return 0;
}

std::string cuda_unavailable_reason() {
#if CUTPLAN_WITH_CUDA
  std::string why_not;
  cuda_devices(&why_not);
  return why_not;
#else
  return "this build holds no CUDA kernels (CUTPLAN_SKUS=none)";
#endif
}

const DeviceProperties& device_properties(Device device) {
  if (device.type == DeviceType::cpu) {
    static const DeviceProperties& host = *new DeviceProperties(host_properties());  // threads may outlive static objects
    return host;
  }
#if CUTPLAN_WITH_CUDA
  const CudaDevices* devices = cuda_devices();
  if (devices != nullptr && device.id >= 0 && device.id < static_cast<int>(devices->size()))
    return (*devices)[static_cast<std::size_t>(device.id)];
#endif
  const int count = cuda_device_count();
  if (count == 0)
    throw DeviceError(text("device ", describe(device), " is not there: ", cuda_unavailable_reason(),
                           "; the host backend serves \"cpu\""));
  throw DeviceError(text("device ", describe(device), " is not there: required an index below ", count));
}

}  // namespace cutplan
