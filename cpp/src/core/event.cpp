#include "cutplan/event.hpp"

#include "core/text.hpp"
#include "cutplan/error.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {

#if CUTPLAN_WITH_CUDA

std::optional<StreamEvent> StreamEvent::record(Device device, Stream stream) {
  const DeviceGuard guard(device.id);
  const auto on = static_cast<cudaStream_t>(stream);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(on, &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone) return std::nullopt;
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreateWithFlags");
  StreamEvent made(event);
  check_cuda(cudaEventRecord(event, on), "cudaEventRecord");
  return made;
}

StreamEvent::~StreamEvent() {
  if (event_ != nullptr) cudaEventDestroy(static_cast<cudaEvent_t>(event_));
}

void StreamEvent::wait() const noexcept {
  if (cudaEventSynchronize(static_cast<cudaEvent_t>(event_)) != cudaSuccess) cudaGetLastError();
}

#else

std::optional<StreamEvent> StreamEvent::record(Device device, Stream) {
  throw DeviceError(text("event: ", describe(device), " has no streams in a build without CUDA kernels"));
}
StreamEvent::~StreamEvent() = default;
void StreamEvent::wait() const noexcept {}

#endif

}  // namespace cutplan
