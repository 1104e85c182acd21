// Multiplies, attends and does what is around it on the host backend, and holds the results to the plans' own error bounds;
// then provokes errors, each of which must come as its own type, name the operand and leave the plan usable. The GPU part is in
// gpu.cpp. Exits with the number of failures.
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <tuple>

#include "problem.hpp"

namespace {

using namespace consumer;

constexpr cutplan::Device host{};

/// With scratch of exactly the size that the plan asks for.
template <class Plan, class Arguments>
void run(const Plan& plan, const Arguments& arguments) {
  constexpr std::byte untouched{0x5a};
  constexpr std::size_t guard = cutplan::workspace_alignment;
  std::vector<std::byte> memory(plan.workspace_size() + 2 * guard, untouched);
  void* scratch = memory.data();
  std::size_t space = memory.size();
  std::align(cutplan::workspace_alignment, plan.workspace_size() + guard, scratch, space);
  plan.run(arguments, nullptr, {scratch, plan.workspace_size()});
  const std::byte* end = static_cast<std::byte*>(scratch) + plan.workspace_size();
  if (std::any_of(end, end + guard, [&](std::byte x) { return x != untouched; })) {
    throw std::runtime_error(plan.sku().name + " wrote beyond its workspace");
  }
}

template <class T>
bool multiply(std::int64_t m, std::int64_t n, std::int64_t k, std::uint64_t seed) {
  Problem<T> problem(m, n, k, seed);
  const cutplan::GemmPlan plan = cutplan::GemmPlan::select(problem.descriptor(), host);
  std::vector<T> d(static_cast<std::size_t>(m * n), narrow<T>(std::nan("")));
  run(plan, problem.arguments(problem.a.data(), problem.b.data(), problem.bias.data(), d.data(), host));
  return report(problem, plan, d);
}

/// Into three outputs, as described by their views: the columns of D in their order.
template <class T>
bool project(std::int64_t m, std::int64_t k, std::uint64_t seed) {
  const std::int64_t columns[] = {24, 8, 5};
  Problem<T> problem(m, 37, k, seed);
  std::vector<T> parts[3];
  cutplan::GemmArguments arguments =
      problem.arguments(problem.a.data(), problem.b.data(), problem.bias.data(), nullptr, host);
  cutplan::TensorView* const views[] = {&arguments.d, &arguments.d2, &arguments.d3};
  for (std::size_t i = 0; i < 3; ++i) {
    parts[i].assign(static_cast<std::size_t>(m * columns[i]), narrow<T>(std::nan("")));
    *views[i] = view(parts[i].data(), {m, columns[i]}, {columns[i], 1}, host);
  }
  cutplan::Epilogue epilogue;
  epilogue.activation = cutplan::Activation::relu;
  const cutplan::GemmPlan plan = cutplan::GemmPlan::select(describe(arguments, epilogue), host);
  run(plan, arguments);
  std::vector<T> d;
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::size_t i = 0; i < 3; ++i) {
      const auto first = parts[i].begin() + row * columns[i];
      d.insert(d.end(), first, first + columns[i]);
    }
  }
  return report(problem, plan, d);
}

/// A grouped and a gated product.
template <class T>
bool consult(const std::vector<std::int32_t>& offsets, std::int64_t n, std::int64_t k, std::uint64_t seed) {
  Experts<T> experts(offsets, n, k, seed);
  const auto grouped = cutplan::GroupedGemmPlan::select(experts.grouped(), host);
  const auto gated = cutplan::GemmPlan::select(experts.gated(), host);
  const std::vector<T> nothing(static_cast<std::size_t>(experts.m * n), narrow<T>(std::nan("")));
  std::vector<T> d = nothing;
  run(grouped, experts.grouped(experts.a.data(), experts.b.data(), d.data(), experts.offsets.data(), host));
  const bool kept = report(experts, grouped, d);
  d = nothing;
  run(gated, experts.gated(experts.a.data(), experts.b.data(), experts.b2.data(), d.data(), host));
  return report(experts, gated, d) && kept;
}

template <class T>
bool attend(std::int64_t seq_q, std::int64_t seq_k, std::int64_t dim, std::int64_t dim_v, std::uint64_t seed) {
  Attention<T> problem(seq_q, seq_k, dim, dim_v, seed);
  const auto forward = cutplan::FmhaPlan::select(problem.descriptor().forward, host);
  const auto backward = cutplan::FmhaBackwardPlan::select(problem.descriptor(), host);
  const auto arguments = problem.arguments(problem.memory.data(), problem.lse.data(), host);
  run(forward, arguments);
  run(backward, arguments);
  return report(problem, forward, backward);
}

template <class T>
bool around(std::int64_t dim, std::uint64_t seed) {
  Around<T> problem(dim, seed);
  const auto all = problem.arguments(problem.memory.data(), problem.floats.data(), problem.integers.data(), host);
  const auto plans = problem.select(all, host);
  plans.run(all, [](const auto& plan, const auto& arguments) { run(plan, arguments); });
  return report(problem, plans);
}

/// Runs `provoke`, which must throw E with `word` in its text.
template <class E, class F>
bool throws(const char* what, const char* word, const F& provoke) {
  try {
    provoke();
  } catch (const E& error) {
    const bool names_it = std::string(error.what()).find(word) != std::string::npos;
    std::printf("%s: %s%s\n", what, error.what(), names_it ? "" : "  FAILED: does not name it");
    return names_it;
  } catch (const std::exception& error) {
    std::printf("%s: FAILED: another type came, saying: %s\n", what, error.what());
    return false;
  }
  std::printf("%s: FAILED: nothing was thrown\n", what);
  return false;
}

int check_errors(std::uint64_t seed) {
  Problem<float> problem(5, 6, 7, seed);
  const cutplan::GemmPlan plan = cutplan::GemmPlan::select(problem.descriptor(), host);
  const float poison = -12345.0f;
  std::vector<float> d(30, poison);
  const cutplan::GemmArguments good =
      problem.arguments(problem.a.data(), problem.b.data(), problem.bias.data(), d.data(), host);
  int failures = 0;

  failures += !throws<cutplan::InvalidProblem>("negative extent", "m", [&] {
    cutplan::GemmDescriptor g = problem.descriptor();
    g.m = -1;
    cutplan::GemmPlan::select(g, host);
  });
  failures += !throws<cutplan::Unsupported>("sm90 on the host", "sm90", [&] {
    cutplan::PlanPreference preference;
    preference.arch = cutplan::Arch::sm90;
    cutplan::GemmPlan::select(problem.descriptor(), host, preference);
  });
  failures += !throws<cutplan::ShapeMismatch>("wrong extent", "operand b", [&] {
    cutplan::GemmArguments bad = good;
    bad.b.shape[0] += 1;
    plan.run(bad);
  });
  failures += !throws<cutplan::MissingOperand>("no bias", "bias", [&] {
    cutplan::GemmArguments bad = good;
    bad.bias = {};
    plan.run(bad);
  });
  failures += !throws<cutplan::DTypeMismatch>("wrong element type", "operand a", [&] {
    cutplan::GemmArguments bad = good;
    bad.a.dtype = cutplan::DType::f64;
    plan.run(bad);
  });
  failures += !throws<cutplan::ReadOnly>("read-only output", "operand d", [&] {
    cutplan::GemmArguments bad = good;
    bad.d.read_only = true;
    plan.run(bad);
  });
  failures += !throws<cutplan::Overlap>("output over input", "operand d", [&] {
    cutplan::GemmArguments bad = good;
    bad.d.data = problem.a.data();
    plan.run(bad);
  });
  Experts<float> experts({0, 3, 9}, 6, 7, seed);
  failures += !throws<cutplan::InvalidProblem>("decreasing offsets", "operand offsets", [&] {
    const auto grouped = cutplan::GroupedGemmPlan::select(experts.grouped(), host);
    std::vector<std::int32_t> offsets = {0, 9, 3};
    std::vector<float> out(static_cast<std::size_t>(experts.m * experts.n));
    run(grouped, experts.grouped(experts.a.data(), experts.b.data(), out.data(), offsets.data(), host));
  });
  failures += !throws<cutplan::MissingOperand>("no second matrix", "operand b2", [&] {
    const auto gated = cutplan::GemmPlan::select(experts.gated(), host);
    std::vector<float> out(static_cast<std::size_t>(experts.m * experts.n));
    cutplan::GemmArguments bad = experts.gated(experts.a.data(), experts.b.data(), experts.b2.data(), out.data(), host);
    bad.b2 = {};
    run(gated, bad);
  });
  // What was refused is also a cutplan::Error with its code, and has written nothing.
  try {
    cutplan::GemmArguments bad = good;
    bad.alpha = std::nan("");
    plan.run(bad);
    std::printf("NaN alpha: FAILED: nothing was thrown\n");
    ++failures;
  } catch (const cutplan::Error& error) {
    std::printf("NaN alpha: %s\n", error.what());
    failures += error.code() != cutplan::ErrorCode::invalid_problem;
  }
  for (float x : d) {
    if (x != poison) {
      std::printf("refused calls: FAILED: the output was written to\n");
      ++failures;
      break;
    }
  }
  plan.run(good);
  failures += !report(problem, plan, d);

  Attention<float> attention(5, 7, 16, 16, seed);
  const auto forward = cutplan::FmhaPlan::select(attention.descriptor().forward, host);
  const auto backward = cutplan::FmhaBackwardPlan::select(attention.descriptor(), host);
  const auto arguments = attention.arguments(attention.memory.data(), attention.lse.data(), host);
  failures += !throws<cutplan::ShapeMismatch>("wrong head count", "operand k", [&] {
    cutplan::FmhaArguments bad = arguments;
    bad.k.shape[1] += 1;
    run(forward, bad);
  });
  if (!std::isnan(attention.memory[attention.o.at(0, 0, 0, 0)])) {
    std::printf("refused attention: FAILED: the output was written to\n");
    ++failures;
  }
  run(forward, arguments);
  run(backward, arguments);
  failures += !report(attention, forward, backward);

  Around<float> caches(16, seed);
  const auto all = caches.arguments(caches.memory.data(), caches.floats.data(), caches.integers.data(), host);
  failures += !throws<cutplan::Overlap>("lengths over offsets", "operand lengths_out", [&] {
    cutplan::KvCacheAppendArguments bad = all.append;
    bad.lengths_out = bad.offsets;
    run(caches.select(all, host).append, bad);
  });
  failures += !throws<cutplan::InvalidProblem>("no room, and nothing that counts it", "operand offsets", [&] {
    cutplan::KvCacheAppendArguments bad = all.append;
    bad.rejected = {};
    run(cutplan::KvCacheAppendPlan::select(describe(bad, {}), host), bad);
  });
  return failures;
}

}  // namespace

int main() {
  const std::uint64_t seed = std::random_device{}();
  std::printf("cutplan %s (%s), seed %llu\n", cutplan::version(), cutplan::built_architectures(),
              static_cast<unsigned long long>(seed));
  int failures = 0;
  for (const auto& [m, n, k] :
       {std::tuple(1, 1, 1), std::tuple(64, 48, 32), std::tuple(129, 131, 257), std::tuple(3, 500, 0)}) {
    failures += !multiply<float>(m, n, k, seed);
    failures += !multiply<double>(m, n, k, seed);
    failures += !multiply<BFloat16>(m, n, k, seed);
    failures += !project<float>(m, k, seed);
    failures += !project<BFloat16>(m, k, seed);
  }
  for (const auto& offsets : {std::vector<std::int32_t>{0, 20, 20, 53}, std::vector<std::int32_t>{2, 3}}) {
    failures += !consult<float>(offsets, 40, 72, seed);
    failures += !consult<double>(offsets, 7, 5, seed);
    failures += !consult<BFloat16>(offsets, 129, 64, seed);
  }
  // A single query, more keys than queries, and queries that see no key.
  for (const auto& [seq_q, seq_k, dim, dim_v] :
       {std::tuple(1, 130, 64, 64), std::tuple(67, 150, 40, 24), std::tuple(90, 33, 17, 64), std::tuple(5, 0, 8, 8)}) {
    failures += !attend<float>(seq_q, seq_k, dim, dim_v, seed);
    failures += !attend<BFloat16>(seq_q, seq_k, dim, dim_v, seed);
  }
  for (const std::int64_t dim : {16, 40}) {
    failures += !around<float>(dim, seed);
    failures += !around<BFloat16>(dim, seed);
  }
  failures += check_errors(seed);

  if (cutplan::cuda_device_count() == 0) {
    std::printf("GPU part: not run, because %s\n", cutplan::cuda_unavailable_reason().c_str());
  } else {
#if CONSUMER_HAS_CUDA_RUNTIME
    failures += check_gpu(seed);
#else
    std::printf("GPU part: not built, because CMake found no CUDA toolkit (CUDAToolkit_ROOT names one)\n");
#endif
  }
  std::printf("%d failures\n", failures);
  return failures;
}
