// Random matrix products, plain, grouped and gated, and a random attention, with their exact answers, and the judgement of
// results by the plans' own error bounds.
#pragma once

#include <cutplan/cutplan.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace consumer {

/// bfloat16 as bits: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

inline double value(float x) { return static_cast<double>(x); }
inline double value(double x) { return x; }
inline double value(BFloat16 x) {
  const std::uint32_t wide = static_cast<std::uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &wide, sizeof f);
  return static_cast<double>(f);
}

/// Drops what does not fit: the operands are random, so it need not be the nearest.
template <class T>
T narrow(double x) {
  return static_cast<T>(x);
}
template <>
inline BFloat16 narrow<BFloat16>(double x) {
  const float f = static_cast<float>(x);
  std::uint32_t wide;
  std::memcpy(&wide, &f, sizeof wide);
  return {static_cast<std::uint16_t>(wide >> 16)};
}

template <class T>
constexpr cutplan::DType dtype();
template <>
constexpr cutplan::DType dtype<float>() {
  return cutplan::DType::f32;
}
template <>
constexpr cutplan::DType dtype<double>() {
  return cutplan::DType::f64;
}
template <>
constexpr cutplan::DType dtype<BFloat16>() {
  return cutplan::DType::bf16;
}
template <>
constexpr cutplan::DType dtype<std::int32_t>() {
  return cutplan::DType::i32;
}

template <class T>
cutplan::TensorView view(T* data, std::initializer_list<std::int64_t> shape, std::initializer_list<std::int64_t> strides,
                         cutplan::Device device) {
  cutplan::TensorView view;
  view.data = data;
  view.dtype = dtype<T>();
  view.device = device;
  view.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), view.shape);
  std::copy(strides.begin(), strides.end(), view.strides);
  return view;
}

/// An error as a part of its bound; infinite where an element is not a number.
inline double part_of_bound(double computed, double exact, double bound) {
  if (computed == exact) return 0;
  const double part = std::abs(computed - exact) / bound;
  return std::isnan(part) ? HUGE_VAL : part;
}

/// D = relu(alpha A B + bias): A [m, k] row-major, B [k, n] column-major.
template <class T>
struct Problem {
  std::int64_t m, n, k;
  double alpha;
  std::vector<T> a, b, bias;

  Problem(std::int64_t m_, std::int64_t n_, std::int64_t k_, std::uint64_t seed) : m(m_), n(n_), k(k_) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_int_distribution<int> exponent(-4, 4);
    alpha = std::ldexp(1.0 + std::abs(normal(random)), exponent(random));
    const auto fill = [&](std::vector<T>& x, std::int64_t size) {
      x.resize(static_cast<std::size_t>(size));
      for (T& element : x) element = narrow<T>(std::ldexp(normal(random), exponent(random)));
    };
    fill(a, m * k);
    fill(b, k * n);
    fill(bias, n);
  }

  cutplan::GemmDescriptor descriptor() const {
    cutplan::GemmDescriptor g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = g.b = g.d = dtype<T>();
    g.layout = cutplan::GemmLayout::rcr;
    g.epilogue.bias = cutplan::BiasOver::n;
    g.epilogue.activation = cutplan::Activation::relu;
    return g;
  }

  cutplan::GemmArguments arguments(T* a_, T* b_, T* bias_, T* d_, cutplan::Device device) const {
    cutplan::GemmArguments arguments;
    arguments.a = view(a_, {m, k}, {k, 1}, device);
    arguments.b = view(b_, {k, n}, {1, k}, device);
    arguments.bias = view(bias_, {n}, {1}, device);
    arguments.d = view(d_, {m, n}, {n, 1}, device);
    arguments.alpha = alpha;
    return arguments;
  }

  /// Largest error as a part of the plan's bound.
  double judge(const std::vector<T>& d, const cutplan::PrecisionGuarantee& guarantee) const {
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        long double sum = 0, size = 0;
        for (std::int64_t p = 0; p < k; ++p) {
          const long double product = static_cast<long double>(value(a[static_cast<std::size_t>(i * k + p)])) *
                                      value(b[static_cast<std::size_t>(j * k + p)]);
          sum += product;
          size += std::abs(product);
        }
        const long double shift = value(bias[static_cast<std::size_t>(j)]);
        const double exact = static_cast<double>(std::max(alpha * sum + shift, 0.0L));
        const double magnitude = static_cast<double>(alpha * size + std::abs(shift));
        const double computed = value(d[static_cast<std::size_t>(i * n + j)]);
        worst = std::max(worst, part_of_bound(computed, exact, guarantee.error_bound(magnitude, exact)));
      }
    }
    return worst;
  }
};

/// A mixture of experts: rows offsets[g] .. offsets[g + 1] of A [m, k] times B[g], of B [groups, k, n] with columns that are
/// contiguous; and relu(A B[0]) (A B2), gated, for all rows.
template <class T>
struct Experts {
  std::int64_t m, n, k;
  std::vector<std::int32_t> offsets;
  std::vector<T> a, b, b2;

  Experts(std::vector<std::int32_t> offsets_, std::int64_t n_, std::int64_t k_, std::uint64_t seed)
      : m(offsets_.back() + 3), n(n_), k(k_), offsets(std::move(offsets_)) {  // three rows belong to nobody
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<T>& x, std::int64_t size) {
      x.resize(static_cast<std::size_t>(size));
      for (T& element : x) element = narrow<T>(normal(random));
    };
    fill(a, m * k);
    fill(b, groups() * k * n);
    fill(b2, k * n);
  }

  std::int64_t groups() const { return static_cast<std::int64_t>(offsets.size()) - 1; }

  cutplan::GroupedGemmDescriptor grouped() const {
    cutplan::GroupedGemmDescriptor g;
    g.groups = groups();
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = g.b = g.d = dtype<T>();
    return g;
  }

  cutplan::GroupedGemmArguments grouped(T* a_, T* b_, T* d_, std::int32_t* offsets_, cutplan::Device device) const {
    cutplan::GroupedGemmArguments arguments;
    arguments.a = view(a_, {m, k}, {k, 1}, device);
    arguments.b = view(b_, {groups(), k, n}, {k * n, 1, k}, device);
    arguments.d = view(d_, {m, n}, {n, 1}, device);
    arguments.offsets = view(offsets_, {groups() + 1}, {1}, device);
    return arguments;
  }

  cutplan::GemmDescriptor gated() const {
    cutplan::GemmDescriptor g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = g.b = g.d = dtype<T>();
    g.epilogue.activation = cutplan::Activation::relu;
    g.epilogue.gate = cutplan::Gate::separate;
    return g;
  }

  cutplan::GemmArguments gated(T* a_, T* b_, T* b2_, T* d_, cutplan::Device device) const {
    cutplan::GemmArguments arguments;
    arguments.a = view(a_, {m, k}, {k, 1}, device);
    arguments.b = view(b_, {k, n}, {1, k}, device);
    arguments.b2 = view(b2_, {k, n}, {1, k}, device);
    arguments.d = view(d_, {m, n}, {n, 1}, device);
    return arguments;
  }

  /// Largest error as a part of the plan's bound; infinite where a row that belongs to nobody was written to.
  double judge_grouped(const std::vector<T>& d, const cutplan::PrecisionGuarantee& guarantee) const {
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      const auto next = std::upper_bound(offsets.begin(), offsets.end(), i);
      const bool owned = i >= offsets.front() && next != offsets.end();
      const T* of_group = owned ? b.data() + (next - offsets.begin() - 1) * k * n : nullptr;
      for (std::int64_t j = 0; j < n; ++j) {
        const double computed = value(d[static_cast<std::size_t>(i * n + j)]);
        if (!owned && !std::isnan(computed)) return HUGE_VAL;
        if (!owned) continue;
        const auto [exact, size] = dot(i, of_group + j * k);
        worst = std::max(worst, part_of_bound(computed, exact, guarantee.error_bound(size, exact)));
      }
    }
    return worst;
  }

  double judge_gated(const std::vector<T>& d, const cutplan::PrecisionGuarantee& guarantee) const {
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const auto [x, size] = dot(i, b.data() + j * k);
        const auto [gate, gate_size] = dot(i, b2.data() + j * k);
        const double exact = std::max(x, 0.0) * gate, computed = value(d[static_cast<std::size_t>(i * n + j)]);
        worst = std::max(worst, part_of_bound(computed, exact, guarantee.error_bound(size * gate_size, exact)));
      }
    }
    return worst;
  }

 private:
  /// Row i of A times a column, and the sum of the products' sizes.
  std::pair<double, double> dot(std::int64_t i, const T* column) const {
    long double sum = 0, size = 0;
    for (std::int64_t p = 0; p < k; ++p) {
      const long double product = static_cast<long double>(value(a[static_cast<std::size_t>(i * k + p)])) * value(column[p]);
      sum += product;
      size += std::abs(product);
    }
    return {static_cast<double>(sum), static_cast<double>(size)};
  }
};

/// Causal attention, aligned to the bottom right, of heads that share keys in groups, forward and backward. All operands
/// lie in one memory of NaNs as [batch, sequence, head, dimension + pad], seen as [batch, head, sequence, dimension].
template <class T>
struct Attention {
  static constexpr std::int64_t batch = 2, heads = 6, heads_k = 2, pad = 8;

  /// Where one operand lies.
  struct Operand {
    std::int64_t start, heads, rows, columns;

    std::int64_t row() const { return columns + pad; }
    std::int64_t size() const { return batch * rows * heads * row(); }
    std::size_t at(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t c) const {
      return static_cast<std::size_t>(start + ((b * rows + i) * heads + h) * row() + c);
    }
    cutplan::TensorView in(T* memory, cutplan::Device device) const {
      return view(memory + start, {batch, heads, rows, columns}, {rows * heads * row(), row(), heads * row(), 1}, device);
    }
  };

  /// An element in exact arithmetic, and what its bound depends on.
  struct Exact {
    double value = 0, magnitude = 0, scores = 0;

    void add(double term, double size, double row_scores) {
      value += term;
      magnitude += size;
      scores = std::max(scores, row_scores);
    }
  };

  std::int64_t seq_q, seq_k, dim, dim_v;
  std::vector<T> memory;
  std::vector<float> lse;
  Operand q, k, v, o, grad, dq, dk, dv;

  Attention(std::int64_t seq_q_, std::int64_t seq_k_, std::int64_t dim_, std::int64_t dim_v_, std::uint64_t seed)
      : seq_q(seq_q_), seq_k(seq_k_), dim(dim_), dim_v(dim_v_), lse(index(batch * heads * seq_q), std::nanf("")) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_int_distribution<int> exponent(-1, 1);  // scores of a few units, so that many keys have weight
    const auto output = [&](std::int64_t heads_, std::int64_t rows, std::int64_t columns) {
      const Operand x{static_cast<std::int64_t>(memory.size()), heads_, rows, columns};
      memory.resize(index(x.start + x.size()), narrow<T>(std::nan("")));
      return x;
    };
    const auto input = [&](std::int64_t heads_, std::int64_t rows, std::int64_t columns) {
      const Operand x = output(heads_, rows, columns);
      for (std::int64_t i = 0; i < x.size(); ++i) {
        if (i % x.row() < columns) memory[index(x.start + i)] = narrow<T>(std::ldexp(normal(random), exponent(random)));
      }
      return x;
    };
    q = input(heads, seq_q, dim);
    k = input(heads_k, seq_k, dim);
    v = input(heads_k, seq_k, dim_v);
    grad = input(heads, seq_q, dim_v);
    o = output(heads, seq_q, dim_v);
    dq = output(heads, seq_q, dim);
    dk = output(heads_k, seq_k, dim);
    dv = output(heads_k, seq_k, dim_v);
  }

  cutplan::FmhaBackwardDescriptor descriptor() const {
    cutplan::FmhaBackwardDescriptor g;
    g.forward.batch = batch;
    g.forward.heads = heads;
    g.forward.heads_k = heads_k;
    g.forward.seq_q = seq_q;
    g.forward.seq_k = seq_k;
    g.forward.dim = dim;
    g.forward.dim_v = dim_v;
    g.forward.dtype = dtype<T>();
    g.forward.causal = cutplan::Causal::bottom_right;
    g.forward.lse = true;
    return g;
  }

  cutplan::FmhaBackwardArguments arguments(T* memory_, float* lse_, cutplan::Device device) const {
    cutplan::FmhaBackwardArguments arguments;
    arguments.q = q.in(memory_, device);
    arguments.k = k.in(memory_, device);
    arguments.v = v.in(memory_, device);
    arguments.o = o.in(memory_, device);
    arguments.lse = view(lse_, {batch, heads, seq_q}, {heads * seq_q, seq_q, 1}, device);
    arguments.grad = grad.in(memory_, device);
    arguments.dq = dq.in(memory_, device);
    arguments.dk = dk.in(memory_, device);
    arguments.dv = dv.in(memory_, device);
    return arguments;
  }

  /// Largest error of the forward and of the backward as a part of the plans' bounds; infinite where padding was written to.
  std::pair<double, double> judge(const cutplan::PrecisionGuarantee& forward,
                                  const cutplan::PrecisionGuarantee& backward) const {
    std::vector<Exact> exact(memory.size()), exact_lse(lse.size());
    for (std::int64_t row = 0; row < batch * heads * seq_q; ++row) {
      attend(row / (heads * seq_q), row / seq_q % heads, row % seq_q, exact, exact_lse[index(row)]);
    }
    const auto part = [](double computed, const Exact& e, const cutplan::PrecisionGuarantee& guarantee) {
      return part_of_bound(computed, e.value, guarantee.error_bound(e.magnitude, e.value, e.scores));
    };
    const auto largest = [&](const Operand& x, const cutplan::PrecisionGuarantee& guarantee) {
      double worst = 0;
      for (std::int64_t i = x.start; i < x.start + x.size(); ++i) {
        const double computed = value(memory[index(i)]);
        if ((i - x.start) % x.row() < x.columns) {
          worst = std::max(worst, part(computed, exact[index(i)], guarantee));
        } else if (!std::isnan(computed)) {
          return HUGE_VAL;
        }
      }
      return worst;
    };
    double worst = largest(o, forward);
    for (std::size_t i = 0; i < lse.size(); ++i) worst = std::max(worst, part(value(lse[i]), exact_lse[i], forward));
    return {worst, std::max({largest(dq, backward), largest(dk, backward), largest(dv, backward)})};
  }

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  /// Adds to the exact answers what query i of head h has to do with.
  void attend(std::int64_t b, std::int64_t h, std::int64_t i, std::vector<Exact>& exact, Exact& exact_lse) const {
    const std::int64_t hk = h / (heads / heads_k);
    const auto keys = index(std::clamp<std::int64_t>(i + seq_k - seq_q + 1, 0, seq_k));
    const auto get = [&](const Operand& x, std::int64_t head, std::int64_t row, std::int64_t c) {
      return value(memory[x.at(b, head, row, c)]);
    };
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    std::vector<double> p(keys);
    double scores = 0, largest = -HUGE_VAL, total = 0;
    for (std::size_t j = 0; j < keys; ++j) {
      double size = 0;
      for (std::int64_t c = 0; c < dim; ++c) {
        const double product = scale * get(q, h, i, c) * get(k, hk, static_cast<std::int64_t>(j), c);
        p[j] += product;
        size += std::abs(product);
      }
      scores = std::max(scores, size);
      largest = std::max(largest, p[j]);
    }
    for (double& weight : p) total += weight = std::exp(weight - largest);
    for (double& weight : p) weight /= total;
    exact_lse.add(largest + std::log(total), 1, scores);

    double delta = 0, delta_size = 0;
    for (std::int64_t c = 0; c < dim_v; ++c) {
      Exact& out = exact[o.at(b, h, i, c)];
      for (std::size_t j = 0; j < keys; ++j) {
        const double x = get(v, hk, static_cast<std::int64_t>(j), c);
        out.add(p[j] * x, p[j] * std::abs(x), scores);
      }
      const double g = get(grad, h, i, c);
      delta += g * out.value;
      delta_size += std::abs(g) * out.magnitude;
    }
    for (std::size_t n = 0; n < keys; ++n) {
      const auto j = static_cast<std::int64_t>(n);
      double dp = -delta, size = delta_size;
      for (std::int64_t c = 0; c < dim_v; ++c) {
        const double g = get(grad, h, i, c), product = g * get(v, hk, j, c);
        dp += product;
        size += std::abs(product);
        exact[dv.at(b, hk, j, c)].add(p[n] * g, p[n] * std::abs(g), scores);
      }
      const double ds = scale * p[n] * dp, ds_size = scale * p[n] * size;
      for (std::int64_t c = 0; c < dim; ++c) {
        const double x = get(q, h, i, c), y = get(k, hk, j, c);
        exact[dq.at(b, h, i, c)].add(ds * y, ds_size * std::abs(y), scores);
        exact[dk.at(b, hk, j, c)].add(ds * x, ds_size * std::abs(x), scores);
      }
    }
  }
};

/// Prints one line about a result, and says whether the plan kept its promise.
inline bool report(const cutplan::KernelSku& sku, std::initializer_list<std::int64_t> extents, cutplan::DType type,
                   double worst) {
  std::string text;
  for (const std::int64_t extent : extents) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  std::printf("%s  %s %s: error %.3f of the bound%s\n", sku.name.c_str(), text.c_str(), name(type), worst,
              worst <= 1 ? "" : "  FAILED");
  return worst <= 1;
}

template <class T>
bool report(const Problem<T>& problem, const cutplan::GemmPlan& plan, const std::vector<T>& d) {
  return report(plan.sku(), {problem.m, problem.n, problem.k}, dtype<T>(), problem.judge(d, plan.precision_guarantee()));
}

template <class T>
bool report(const Experts<T>& experts, const cutplan::GroupedGemmPlan& plan, const std::vector<T>& d) {
  return report(plan.sku(), {experts.groups(), experts.m, experts.n, experts.k}, dtype<T>(),
                experts.judge_grouped(d, plan.precision_guarantee()));
}

template <class T>
bool report(const Experts<T>& experts, const cutplan::GemmPlan& plan, const std::vector<T>& d) {
  return report(plan.sku(), {experts.m, experts.n, experts.k}, dtype<T>(),
                experts.judge_gated(d, plan.precision_guarantee()));
}

/// About both passes, whose results are in the problem's memory.
template <class T>
bool report(const Attention<T>& problem, const cutplan::FmhaPlan& forward, const cutplan::FmhaBackwardPlan& backward) {
  const auto [worst, worst_gradient] = problem.judge(forward.precision_guarantee(), backward.precision_guarantee());
  const auto extents = {problem.seq_q, problem.seq_k, problem.dim, problem.dim_v};
  const bool kept = report(forward.sku(), extents, dtype<T>(), worst);
  return report(backward.sku(), extents, dtype<T>(), worst_gradient) && kept;
}

/// Number of results outside their bound on the GPUs of this machine.
int check_gpu(std::uint64_t seed);

}  // namespace consumer
