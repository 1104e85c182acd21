// The C++ interface's edges that Python cannot reach, and parts inside the library.
#include <array>
#include <atomic>
#include <cmath>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/fixed_vector.hpp"
#include "core/kernel.hpp"
#include "core/operands.hpp"
#include "core/remembered.hpp"
#include "cutplan/plan.hpp"
#include "testing.hpp"

namespace {

using cutplan::Device;
using cutplan::DType;
using cutplan::TensorView;
using testing::throws;

void lists_of_operands_are_never_overrun() {
  cutplan::FixedVector<int, 3> list;
  for (int i = 0; i < 3; ++i) list.add() = i;
  throws<std::length_error>("full", [&] { list.add(); });
  CHECK(list.size() == 3);
  int expected = 0;
  for (const int item : list) CHECK(item == expected++);

  cutplan::Footprint memory;
  for (int i = 0; i < 10; ++i) memory.repeat(1, 64);  // extents of 1 take no place
  for (int i = 0; i < cutplan::max_rank; ++i) memory.repeat(2, 64);
  throws<std::length_error>("full", [&] { memory.repeat(2, 64); });
}

void a_bound_that_scores_enter_takes_them() {
  cutplan::PrecisionGuarantee guarantee;
  guarantee.largest = 1e30;
  guarantee.evaluation = 1e-7;
  CHECK(guarantee.error_bound(1, 1) == guarantee.error_bound(1, 1, 5) && guarantee.error_bound(1, 1) > 0);
  guarantee.scores = 1e-6;
  CHECK(std::isinf(guarantee.error_bound(1, 1)) && std::isinf(guarantee.error_bound(0, 0)));
  CHECK(guarantee.error_bound(1, 1, 5) > guarantee.error_bound(1, 1, 0));
}

void failures_are_not_remembered() {
  static cutplan::Remembered<int> answer;
  int asked = 0;
  const auto fails = [&]() -> std::optional<int> { return ++asked, std::nullopt; };
  const auto succeeds = [&]() -> std::optional<int> { return ++asked, 42; };
  CHECK(answer.get(fails) == nullptr);
  CHECK(answer.get(fails) == nullptr && asked == 2);
  const int* const first = answer.get(succeeds);
  CHECK(first != nullptr && *first == 42 && asked == 3);
  CHECK(answer.get(fails) == first && asked == 3);
  throws<std::runtime_error>("driver", [] {
    static cutplan::Remembered<int> other;
    other.get([]() -> std::optional<int> { throw std::runtime_error("driver"); });
  });

  static cutplan::Remembered<int> shared;
  std::atomic<int> questions{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const int* kept = nullptr;
      // The first three questions fail, whoever asks them.
      while (kept == nullptr) kept = shared.get([&] { return questions++ < 3 ? std::nullopt : std::optional<int>(7); });
      CHECK(*kept == 7);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(questions == 4);
}

void no_type_is_taken_for_another() {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto type = static_cast<DType>(i);
    cutplan::PrecisionGuarantee guarantee;
    switch (type) {
      case DType::f64:
      case DType::f32:
      case DType::f16:
      case DType::bf16:
      case DType::fp8_e4m3:
      case DType::fp8_e5m2:
        cutplan::set_output_type(guarantee, type);
        CHECK(guarantee.rounding > 0 && guarantee.smallest > 0 && guarantee.largest > 0);
        break;
      case DType::i8:
      case DType::i32:  // whole numbers
        cutplan::set_output_type(guarantee, type);
        CHECK(guarantee.rounding == 0 && guarantee.smallest >= 0 && guarantee.largest > 0);
        break;
      default: throws<std::logic_error>(name(type), [&] { cutplan::set_output_type(guarantee, type); });
    }
  }
}

void views_have_the_strides_that_their_order_says(std::mt19937_64& random) {
  const Device device{cutplan::DeviceType::cuda, 3};
  float memory[4] = {};
  float* const element = memory;
  const float* const constant = memory;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::int64_t> shape(std::uniform_int_distribution<std::size_t>(0, cutplan::max_rank)(random));
    for (std::int64_t& extent : shape) extent = std::uniform_int_distribution<std::int64_t>(0, 9)(random);
    const auto rank = static_cast<int>(shape.size());
    const auto rows = TensorView::row_major(element, DType::f32, shape, device);
    const auto columns = TensorView::column_major(constant, DType::f32, shape, device);
    CHECK(rows.data == element && columns.data == element && !rows.read_only && columns.read_only);
    CHECK(rows.dtype == DType::f32 && rows.device == device && columns.device == device);
    CHECK(rows.rank == rank && columns.rank == rank);
    for (int i = 0; i < rank; ++i) {
      const auto steps_over = [&](int from, int to) {
        std::int64_t product = 1;
        for (int j = from; j < to; ++j) product *= std::max<std::int64_t>(1, shape[static_cast<std::size_t>(j)]);
        return product;
      };
      CHECK(rows.shape[i] == shape[static_cast<std::size_t>(i)] && columns.shape[i] == rows.shape[i]);
      CHECK(rows.strides[i] == steps_over(i + 1, rank));
      CHECK(columns.strides[i] == (i == rank - 2   ? 1
                                   : i == rank - 1 ? steps_over(std::max(0, rank - 2), rank - 1)
                                                   : steps_over(i + 1, rank)));
    }
    const auto same = TensorView::strided(element, DType::f32, shape, {rows.strides, shape.size()}, device);
    for (int i = 0; i < rank; ++i) CHECK(same.shape[i] == rows.shape[i] && same.strides[i] == rows.strides[i]);
  }
  const auto listed = TensorView::row_major(element, DType::f32, {2, 3});
  CHECK(listed.rank == 2 && listed.strides[0] == 3 && listed.strides[1] == 1 && listed.device == Device{});
  const auto array = TensorView::row_major(element, DType::f32, std::array<std::int64_t, 1>{5});
  CHECK(array.rank == 1 && array.shape[0] == 5);
  CHECK(listed.advanced(12).data == element + 3 && listed.advanced(12).rank == 2);

  throws<cutplan::InvalidProblem>("9", [&] { TensorView::row_major(element, DType::f32, {1, 1, 1, 1, 1, 1, 1, 1, 1}); });
  throws<cutplan::InvalidProblem>("-1", [&] { TensorView::column_major(element, DType::f32, {3, -1}); });
  throws<cutplan::InvalidProblem>("1 strides for 2", [&] { TensorView::strided(element, DType::f32, {3, 4}, {4}); });
}

/// Plans for one float32 problem, and operands that they take.
struct Calls {
  std::vector<float> memory = std::vector<float>(4096, 1.0f);
  std::array<std::int32_t, 3> offsets{0, 3, 8};
  int used = 0;

  TensorView next(const cutplan::Extents& shape) {
    TensorView view = TensorView::row_major(memory.data() + used, DType::f32, shape);
    used += 256;
    return view;
  }

  cutplan::GemmArguments gemm() {
    used = 0;
    cutplan::GemmArguments all;
    all.a = next({8, 8});
    all.b = next({8, 8});
    all.d = next({8, 8});
    all.bias = next({8});
    return all;
  }
  cutplan::GroupedGemmArguments grouped() {
    used = 0;
    cutplan::GroupedGemmArguments all;
    all.a = next({8, 8});
    all.b = next({2, 8, 8});
    all.d = next({8, 8});
    all.offsets = TensorView::row_major(offsets.data(), DType::i32, {3});
    return all;
  }
  cutplan::FmhaArguments fmha() {
    used = 0;
    cutplan::FmhaArguments all;
    all.q = next({1, 2, 8, 8});
    all.k = next({1, 2, 8, 8});
    all.v = next({1, 2, 8, 8});
    all.o = next({1, 2, 8, 8});
    all.bias = next({8, 8});
    return all;
  }
};

template <typename Plan, typename Arguments, typename Options>
void refuses_impossible_ranks(const Arguments& good, const Options& options, TensorView Arguments::* operand,
                              const char* name) {
  const auto plan = Plan::select(describe(good, options), Device{});
  plan.run(good);
  for (const int rank : {-1, cutplan::max_rank + 1, 1 << 30}) {
    Arguments bad = good;
    (bad.*operand).rank = rank;
    throws<cutplan::ShapeMismatch>(name, [&] { plan.run(bad); });
    throws<cutplan::ShapeMismatch>(name, [&] { plan.can_implement(bad); });
  }
}

/// A view whose rank is nonsense is refused before anything beyond its end is read.
void ranks_beyond_a_view_are_refused() {
  Calls calls;
  using cutplan::GemmArguments;
  for (const auto& [operand, name] : {std::pair(&GemmArguments::a, "operand a"), std::pair(&GemmArguments::b, "operand b"),
                                      std::pair(&GemmArguments::d, "operand d"), std::pair(&GemmArguments::bias, "bias")})
    refuses_impossible_ranks<cutplan::GemmPlan>(calls.gemm(), cutplan::Epilogue{}, operand, name);
  using cutplan::GroupedGemmArguments;
  for (const auto& [operand, name] :
       {std::pair(&GroupedGemmArguments::a, "operand a"), std::pair(&GroupedGemmArguments::b, "operand b"),
        std::pair(&GroupedGemmArguments::offsets, "operand offsets")})
    refuses_impossible_ranks<cutplan::GroupedGemmPlan>(calls.grouped(), cutplan::Epilogue{}, operand, name);
  using cutplan::FmhaArguments;
  for (const auto& [operand, name] : {std::pair(&FmhaArguments::q, "operand q"), std::pair(&FmhaArguments::v, "operand v"),
                                      std::pair(&FmhaArguments::o, "operand o"), std::pair(&FmhaArguments::bias, "bias")})
    refuses_impossible_ranks<cutplan::FmhaPlan>(calls.fmha(), cutplan::FmhaDescriptor{}, operand, name);
  throws<cutplan::ShapeMismatch>("operand a", [&] {
    GemmArguments bad = calls.gemm();
    bad.a.rank = 1 << 30;
    describe(bad);
  });
}

cutplan::GemmDescriptor product(std::int64_t m) {
  cutplan::GemmDescriptor g;
  g.m = m;
  g.n = g.k = 16;
  g.a = g.b = g.d = DType::f32;
  return g;
}

/// A callback is the caller's code: it may use everything, wait for others who do, and throw.
void tuning_callbacks_may_tune() {
  const testing::CacheFolder folder;
  int nested = 0;
  const auto measured = cutplan::GemmPlan::tune(product(16), {}, {}, [&](int done, int total) {
    CHECK(done >= 0 && done <= total);
    if (done != 0 || nested++ > 0) return;
    CHECK(!cutplan::GemmPlan::tune(product(24), {}, {}, {}).empty());
    cutplan::PlanPreference measure;
    measure.tune = cutplan::Tune::measure;
    cutplan::GemmPlan::select(product(32), {}, measure);
    std::async(std::launch::async, [] { cutplan::GemmPlan::measure(product(40), {}); }).get();
  });
  CHECK(nested > 0 && !measured.empty());
  const cutplan::DeviceProperties& host = cutplan::device_properties({});
  CHECK(cutplan::GemmPlan::tuned(product(16), host) && cutplan::GemmPlan::tuned(product(24), host));

  throws<std::runtime_error>(
      "enough", [] { cutplan::GemmPlan::tune(product(48), {}, {}, [](int, int) { throw std::runtime_error("enough"); }); });
  CHECK(!cutplan::GemmPlan::tuned(product(48), host));
  CHECK(!cutplan::GemmPlan::tune(product(48), {}).empty());
}

void version_macros_are_of_this_library() {
  CHECK(std::string(cutplan::version()) == CUTPLAN_VERSION_STRING);
  CHECK(std::string(CUTPLAN_VERSION_STRING) == std::to_string(CUTPLAN_VERSION_MAJOR) + "." +
                                                   std::to_string(CUTPLAN_VERSION_MINOR) + "." +
                                                   std::to_string(CUTPLAN_VERSION_PATCH));
#if CUTPLAN_VERSION < CUTPLAN_VERSION_MAJOR * 10000
#error "CUTPLAN_VERSION must grow with the version, also in the preprocessor"
#endif
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937_64 random(testing::seed_of(argc, argv));
  lists_of_operands_are_never_overrun();
  a_bound_that_scores_enter_takes_them();
  failures_are_not_remembered();
  no_type_is_taken_for_another();
  views_have_the_strides_that_their_order_says(random);
  ranks_beyond_a_view_are_refused();
  tuning_callbacks_may_tune();
  version_macros_are_of_this_library();
}
