#include "core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace cutplan {

int hardware_threads() noexcept {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void parallel_tasks(std::int64_t tasks, int threads,
                    const std::function<void(const std::function<std::int64_t()>& next)>& worker) {
  if (tasks <= 0) return;
  std::atomic<std::int64_t> counter{0};
  const std::function<std::int64_t()> next = [&counter, tasks]() -> std::int64_t {
    const std::int64_t task = counter.fetch_add(1, std::memory_order_relaxed);
    return task < tasks ? task : -1;
  };

  std::mutex mutex;
  std::exception_ptr first;
  const auto guarded = [&] {
    try {
      worker(next);
    } catch (...) {
      counter.store(tasks, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(mutex);
      if (!first) first = std::current_exception();
    }
  };

  const std::int64_t helpers = std::min<std::int64_t>(threads, tasks) - 1;
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(std::max<std::int64_t>(helpers, 0)));
  for (std::int64_t i = 0; i < helpers; ++i) {
    try {
      others.emplace_back(guarded);
    } catch (const std::exception&) {
      break;  // no more threads or no memory for one: those that run do all tasks, with the same result
    }
  }
  guarded();
  for (std::thread& thread : others) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace cutplan
