// Many threads at once select, run, tune, read and change the table of measurements, and provoke errors, each in its own
// order. Results must have the bits that one thread alone gets. Made for the thread sanitizer; on its own it proves little.
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "testing.hpp"

namespace {

using cutplan::DType;
using cutplan::TensorView;

cutplan::GemmDescriptor product(std::int64_t m, std::int64_t n, std::int64_t k) {
  cutplan::GemmDescriptor g;
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = g.b = g.d = DType::f32;
  return g;
}

/// Plans that all threads run, each on outputs of its own, and what one thread alone made of them.
class Shared {
 public:
  explicit Shared(std::mt19937_64& random) : inputs_(8192) {
    for (float& x : inputs_) x = std::uniform_real_distribution<float>(-1, 1)(random);
    preference_.sm_count = 2;
    gemm_.push_back(cutplan::GemmPlan::select(product(37, 29, 23), {}, preference_));
    grouped_.push_back(cutplan::GroupedGemmPlan::select(describe(grouped(nullptr)), {}, preference_));
    fmha_.push_back(cutplan::FmhaPlan::select(describe(fmha(nullptr), {}), {}, preference_));
    expected_ = results();
  }

  void run() const { CHECK(results() == expected_); }

  void provoke() const {
    std::vector<float> d(37 * 29);
    cutplan::GemmArguments bad = gemm(d.data());
    bad.b.shape[0] += 1;
    testing::throws<cutplan::ShapeMismatch>("operand b", [&] { gemm_[0].run(bad); });
    testing::throws<cutplan::Unsupported>("sm90", [&] {
      cutplan::PlanPreference sm90;
      sm90.arch = cutplan::Arch::sm90;
      cutplan::GemmPlan::select(product(5, 5, 5), {}, sm90);
    });
    testing::throws<cutplan::DeviceError>("cuda:4711",
                                          [] { cutplan::device_properties({cutplan::DeviceType::cuda, 4711}); });
  }

 private:
  cutplan::GemmArguments gemm(float* d) const {
    cutplan::GemmArguments all;
    all.a = TensorView::row_major(inputs_.data(), DType::f32, {37, 23});
    all.b = TensorView::column_major(inputs_.data() + 1024, DType::f32, {23, 29});
    all.d = TensorView::row_major(d, DType::f32, {37, 29});
    return all;
  }
  cutplan::GroupedGemmArguments grouped(float* d) const {
    cutplan::GroupedGemmArguments all;
    all.a = TensorView::row_major(inputs_.data(), DType::f32, {37, 23});
    all.b = TensorView::column_major(inputs_.data() + 1024, DType::f32, {3, 23, 29});
    all.d = TensorView::row_major(d, DType::f32, {37, 29});
    all.offsets = TensorView::row_major(offsets_, DType::i32, {4});
    return all;
  }
  cutplan::FmhaArguments fmha(float* o) const {
    cutplan::FmhaArguments all;
    all.q = TensorView::row_major(inputs_.data(), DType::f32, {2, 2, 20, 16});
    all.k = TensorView::row_major(inputs_.data() + 2048, DType::f32, {2, 2, 30, 16});
    all.v = TensorView::row_major(inputs_.data() + 4096, DType::f32, {2, 2, 30, 16});
    all.o = TensorView::row_major(o, DType::f32, {2, 2, 20, 16});
    return all;
  }

  template <typename Plan, typename Arguments>
  static void run(const Plan& plan, const Arguments& arguments) {
    std::vector<unsigned char> memory(plan.workspace_size() + cutplan::workspace_alignment);
    void* scratch = memory.data();
    std::size_t space = memory.size();
    std::align(cutplan::workspace_alignment, plan.workspace_size(), scratch, space);
    plan.run(arguments, nullptr, {scratch, space});
  }

  std::vector<float> results() const {
    std::vector<float> d(2 * 37 * 29 + 2 * 2 * 20 * 16);
    run(gemm_[0], gemm(d.data()));
    run(grouped_[0], grouped(d.data() + 37 * 29));
    run(fmha_[0], fmha(d.data() + 2 * 37 * 29));
    return d;
  }

  std::vector<float> inputs_, expected_;
  std::int32_t offsets_[4] = {0, 11, 11, 37};
  cutplan::PlanPreference preference_;
  std::vector<cutplan::GemmPlan> gemm_;
  std::vector<cutplan::GroupedGemmPlan> grouped_;
  std::vector<cutplan::FmhaPlan> fmha_;
};

void read_devices() {
  const int count = cutplan::cuda_device_count();
  CHECK((count == 0) == !cutplan::cuda_unavailable_reason().empty());
  CHECK(cutplan::device_properties({}).sm_count > 0);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t seed = testing::seed_of(argc, argv);
  std::mt19937_64 random(seed);
  const testing::CacheFolder folder;
  const Shared shared(random);
  const std::string table = [] {
    cutplan::GemmPlan::tune(product(8, 8, 8), {});
    return cutplan::export_tuning();
  }();

  const auto small = [](std::mt19937_64& r) {
    const std::int64_t n = std::uniform_int_distribution<std::int64_t>(1, 12)(r);
    return product(n, n, n);
  };
  const std::vector<std::function<void(std::mt19937_64&)>> deeds = {
      [&](std::mt19937_64&) { shared.run(); },
      [&](std::mt19937_64&) { shared.provoke(); },
      [&](std::mt19937_64& r) { cutplan::GemmPlan::select(small(r), {}); },
      [&](std::mt19937_64& r) {
        cutplan::PlanPreference measure;
        measure.tune = cutplan::Tune::measure;
        cutplan::GemmPlan::select(small(r), {}, measure);
      },
      [&](std::mt19937_64& r) {
        cutplan::GemmPlan::tune(small(r), {}, {}, [&](int done, int) {
          if (done == 0) cutplan::GemmPlan::select(small(r), {});
        });
      },
      [&](std::mt19937_64& r) { cutplan::GemmPlan::tuned(small(r), cutplan::device_properties({})); },
      [&](std::mt19937_64& r) { CHECK(!cutplan::GemmPlan::kernels(small(r), cutplan::device_properties({})).empty()); },
      [&](std::mt19937_64&) { CHECK(cutplan::tuning_cache().problems.empty()); },
      [&](std::mt19937_64&) { CHECK(cutplan::take_tuning_problems().empty()); },
      [&](std::mt19937_64&) { cutplan::export_tuning(); },
      [&](std::mt19937_64&) { CHECK(cutplan::import_tuning(table) == 1); },
      [&](std::mt19937_64&) { CHECK(cutplan::add_tuning(table) == 1); },
      [&](std::mt19937_64&) { cutplan::clear_tuning(); },
      [&](std::mt19937_64&) { read_devices(); },
  };
  std::vector<std::thread> threads;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(8);
  for (std::uint64_t i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 own(seed + 1 + i);
      while (std::chrono::steady_clock::now() < end) {
        try {
          deeds[std::uniform_int_distribution<std::size_t>(0, deeds.size() - 1)(own)](own);
        } catch (const std::exception& error) {
          testing::fail(__FILE__, __LINE__, error.what());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}
