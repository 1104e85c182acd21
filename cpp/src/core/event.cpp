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
  StreamEvent made(device.id, event);
  check_cuda(cudaEventRecord(event, on), "cudaEventRecord");
  return made;
}

// Both on the event's own device: on another thread's they would make a context there.
StreamEvent::~StreamEvent() {
  if (event_ == nullptr) return;
  try {
    const DeviceGuard guard(device_);
    cudaEventDestroy(static_cast<cudaEvent_t>(event_));
  } catch (const Error&) {
    // the device is lost, and the event with it
  }
}

void StreamEvent::wait() const noexcept {
  try {
    const DeviceGuard guard(device_);
    // Else waiting would be an error while another thread captures, and spoil the capture.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    const cudaError_t status = cudaEventSynchronize(static_cast<cudaEvent_t>(event_));
    check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    check_cuda(status, "cudaEventSynchronize");
  } catch (const Error&) {
    // the device is lost: it reads nothing any more
  }
}

#else

std::optional<StreamEvent> StreamEvent::record(Device device, Stream) {
  throw DeviceError(text("event: ", describe(device), " has no streams in a build without CUDA kernels"));
}
StreamEvent::~StreamEvent() = default;
void StreamEvent::wait() const noexcept {}

#endif

}  // namespace cutplan
