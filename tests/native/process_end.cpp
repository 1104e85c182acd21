// Processes that end while threads of theirs still select and tune: each must end with its own exit code. What the library
// keeps must not be destroyed before them.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "testing.hpp"

namespace {

/// Its destructor runs after those of whatever was made later, such as the library's function-local statics, and gives the
/// threads time to meet what is gone.
const struct Slow {
  ~Slow() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }
} slow;

/// One that the table which cutplan ships knows: ranking for it looks kernels up by name, without touching a device.
cutplan::DeviceProperties h200() {
  cutplan::DeviceProperties p;
  p.name = "NVIDIA H200";
  p.compute_capability = 90;
  p.sm_count = 132;
  p.shared_memory = 232448;
  p.l2_bytes = std::size_t{60} << 20;
  return p;
}

[[noreturn]] void tune_for_ever(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (;;) {
    cutplan::GemmDescriptor g;
    g.m = g.n = g.k = std::uniform_int_distribution<std::int64_t>(1, 32)(random);
    g.a = g.b = g.d = cutplan::DType::f32;
    cutplan::PlanPreference preference;
    preference.tune = cutplan::Tune::measure;
    cutplan::GemmPlan::select(g, {}, preference);
    cutplan::GemmPlan::tune(g, {});
    cutplan::device_properties({});
    cutplan::cuda_device_count();
    cutplan::tuning_cache();
    g.m = 1;
    g.n = 28672;
    g.k = 4096;
    g.a = g.b = g.d = cutplan::DType::bf16;
    cutplan::GemmPlan::kernels(g, h200());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937_64 random(testing::seed_of(argc, argv));
  const testing::CacheFolder folder;
  for (int round = 0; round < 15; ++round) {
    const std::uint64_t seed = random();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      for (int i = 0; i < 3; ++i) std::thread(tune_for_ever, seed + static_cast<std::uint64_t>(i)).detach();
      std::this_thread::sleep_for(std::chrono::milliseconds(seed % 40));
      std::exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  }
}
