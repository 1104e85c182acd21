// An answer of the system that may come late: asked for until it is there, then kept.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

namespace cutplan {

/// Reading a kept answer costs one atomic load. It is never destroyed, because threads may outlive static objects.
template <typename T>
class Remembered {
 public:
  /// `ask` returns std::optional<T>; none is not kept, and null is returned. One thread asks at a time.
  template <typename Ask>
  const T* get(const Ask& ask) {
    if (const T* known = known_.load(std::memory_order_acquire)) return known;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const T* known = known_.load(std::memory_order_relaxed)) return known;
    std::optional<T> answer = ask();
    if (!answer) return nullptr;
    const T* kept = new T(std::move(*answer));
    known_.store(kept, std::memory_order_release);
    return kept;
  }

 private:
  std::atomic<const T*> known_{nullptr};
  std::mutex mutex_;
};

}  // namespace cutplan
