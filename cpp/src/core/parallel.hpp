// A loop over independent tasks on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace cutplan {

/// Threads that this process may run at once: the CPUs of its affinity mask, at least 1.
int hardware_threads() noexcept;

/// Calls `worker` on up to `threads` threads, the caller's among them, and returns when all have returned. Each call gets
/// `next`, which hands out the task numbers 0 .. tasks - 1, each once over all workers, and then -1; so a worker can
/// keep scratch of its own between tasks. The first exception of any worker stops the hand-out and is thrown here.
void parallel_tasks(std::int64_t tasks, int threads,
                    const std::function<void(const std::function<std::int64_t()>& next)>& worker);

}  // namespace cutplan
