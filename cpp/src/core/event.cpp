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

void StreamEvent::wait(const std::function<void()>& release) const {
  std::optional<DeviceGuard> guard;
  // Else to wait or to free memory would be an error while another thread captures, and spoil the capture.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  bool relaxed = false;
  try {
    guard.emplace(device_);
    check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    relaxed = true;
    check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(event_)), "cudaEventSynchronize");
  } catch (const Error&) {
    // the device is lost: it reads nothing any more
  }
  release();
  if (relaxed) cudaThreadExchangeStreamCaptureMode(&mode);
}

#else

std::optional<StreamEvent> StreamEvent::record(Device device, Stream) {
  throw DeviceError(text("event: ", describe(device), " has no streams in a build without CUDA kernels"));
}
StreamEvent::~StreamEvent() = default;
void StreamEvent::wait(const std::function<void()>& release) const { release(); }

#endif

}  // namespace cutplan
