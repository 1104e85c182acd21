// A point in the work of a CUDA stream.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "cutplan/export.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

/// Behind all that was enqueued on a stream when it was recorded. For who lends memory to a plan and must know when the
/// device has read it. Owns a CUDA event.
class CUTPLAN_API StreamEvent {
 public:
  /// Nothing where the stream is being captured: its work has no one point in time. Throws DeviceError.
  static std::optional<StreamEvent> record(Device device, Stream stream);

  StreamEvent(StreamEvent&& other) noexcept : device_(other.device_), event_(std::exchange(other.event_, nullptr)) {}
  StreamEvent& operator=(StreamEvent&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(event_, other.event_);
    return *this;
  }
  ~StreamEvent();

  /// Blocks the calling thread, without spinning, until the device has got there, or until it has failed; then calls `release`.
  /// Neither spoils a capture by another thread, whatever memory `release` frees.
  void wait(const std::function<void()>& release) const;

 private:
  StreamEvent(int device, void* event) : device_(device), event_(event) {}
  int device_;
  void* event_;
};

}  // namespace cutplan
