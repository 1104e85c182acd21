// Random matrix products, plain, grouped and gated, a random attention, and what is around it, with their exact answers, and
// the judgement of results by the plans' own error bounds.
#pragma once

#include <cutplan/cutplan.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <iterator>
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

/// The ops around attention, of one K and one V: both are appended to caches, where the last sequence has no room for some
/// rows; K is turned by its positions there; scores get ALiBi, and their gradients; K and V, as results over disjoint keys, are merged.
template <class T>
struct Around {
  static constexpr std::int64_t batch = 2, heads = 3, rows = 5, capacity = 9, off = capacity - rows;

  enum Tensor { k, v, turned, merged, k_cache, v_cache, scores, biased, dscores, tensors };
  enum Vector { slopes, dslopes, lse, lse2, merged_lse, vectors };
  enum Integers { offsets = 0, lengths = batch, rejected = 2 * batch, integer_count };

  struct Arguments {
    cutplan::KvCacheAppendArguments append;
    cutplan::RopeArguments rope;
    cutplan::AlibiArguments alibi;
    cutplan::AlibiBackwardArguments alibi_backward;
    cutplan::MergeStatesArguments merge;
  };

  struct Plans {
    cutplan::KvCacheAppendPlan append;
    cutplan::RopePlan rope;
    cutplan::AlibiPlan alibi;
    cutplan::AlibiBackwardPlan alibi_backward;
    cutplan::MergeStatesPlan merge;

    /// Calls run(plan, its arguments) for each.
    template <class Run>
    void run(const Arguments& of, const Run& run) const {
      run(append, of.append);
      run(rope, of.rope);
      run(alibi, of.alibi);
      run(alibi_backward, of.alibi_backward);
      run(merge, of.merge);
    }
  };

  std::int64_t dim;  // not below rows: each tensor has the room of a cache
  std::vector<T> memory;
  std::vector<float> floats;
  std::vector<std::int32_t> integers = {3, off + 2, -1, -1, 0};  // of the last sequence two rows do not fit

  Around(std::int64_t dim_, std::uint64_t seed)
      : dim(dim_),
        memory(index(tensors * size()), narrow<T>(std::nan(""))),
        floats(index(vectors * batch * heads * rows), std::nanf("")) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (const Tensor t : {k, v, scores})
      std::generate_n(memory.begin() + t * size(), size(), [&] { return narrow<T>(normal(random)); });
    for (const Vector x : {slopes, lse, lse2})
      std::generate_n(&number(x, 0), batch * heads * rows, [&] { return static_cast<float>(normal(random)); });
    number(lse, 0) = number(lse, 1) = number(lse2, 1) = -HUGE_VALF;  // a part without keys, and a row without any
  }

  Arguments arguments(T* memory_, float* floats_, std::int32_t* integers_, cutplan::Device device) const {
    const auto of = [&](Tensor t, std::int64_t extent, std::int64_t columns) {
      return cutplan::TensorView::row_major(memory_ + t * size(), dtype<T>(), {batch, heads, extent, columns}, device);
    };
    const auto vector = [&](Vector x, std::initializer_list<std::int64_t> shape) {
      return cutplan::TensorView::row_major(floats_ + x * batch * heads * rows, cutplan::DType::f32, shape, device);
    };
    const auto integer = [&](Integers x, std::int64_t extent) {
      return cutplan::TensorView::row_major(integers_ + x, cutplan::DType::i32, {extent}, device);
    };
    Arguments all;
    all.append.k = all.rope.x = all.merge.o = of(k, rows, dim);
    all.append.v = all.merge.o2 = of(v, rows, dim);
    all.append.k_cache = of(k_cache, capacity, dim);
    all.append.v_cache = of(v_cache, capacity, dim);
    all.append.offsets = all.rope.offsets = integer(offsets, batch);
    all.append.lengths_out = integer(lengths, batch);
    all.append.rejected = integer(rejected, 1);
    all.rope.out = of(turned, rows, dim);
    all.alibi.scores = all.alibi_backward.grad = of(scores, rows, capacity);
    all.alibi.slopes = vector(slopes, {heads});
    all.alibi.out = of(biased, rows, capacity);
    all.alibi_backward.dscores = of(dscores, rows, capacity);
    all.alibi_backward.dslopes = vector(dslopes, {heads});
    all.merge.lse = vector(lse, {batch, heads, rows});
    all.merge.lse2 = vector(lse2, {batch, heads, rows});
    all.merge.out = of(merged, rows, dim);
    all.merge.out_lse = vector(merged_lse, {batch, heads, rows});
    return all;
  }

  static Plans select(const Arguments& all, cutplan::Device device) {
    cutplan::AlibiDescriptor alibi;
    alibi.align = cutplan::Align::bottom_right;
    return {cutplan::KvCacheAppendPlan::select(describe(all.append, {}), device),
            cutplan::RopePlan::select(describe(all.rope, cutplan::RopeDescriptor()), device),
            cutplan::AlibiPlan::select(describe(all.alibi, alibi), device),
            cutplan::AlibiBackwardPlan::select(describe(all.alibi_backward, alibi), device),
            cutplan::MergeStatesPlan::select(describe(all.merge, {}), device)};
  }

  /// Rows that have no room add up in `rejected`; all else of the caches stays NaN.
  double judge(const cutplan::KvCacheAppendPlan& plan) const {
    const auto bound = plan.precision_guarantee();
    double worst = integers[rejected] == 2 ? 0 : HUGE_VAL;
    for (std::int64_t i = 0; i < size(); ++i) {
      const std::int64_t head = i / (capacity * dim), row = i / dim % capacity - integers[index(head / heads)];
      for (const auto& [cache, of] : {std::pair(k_cache, k), std::pair(v_cache, v)}) {
        const double computed = get(cache, i);
        if (row < 0 || row >= rows) {
          if (!std::isnan(computed)) return HUGE_VAL;
          continue;
        }
        const double x = get(of, (head * rows + row) * dim + i % dim);
        worst = std::max(worst, part_of_bound(computed, x, bound.error_bound(std::abs(x), x)));
      }
    }
    for (std::size_t b = 0; b < batch; ++b)
      if (integers[lengths + b] != integers[offsets + b] + rows) return HUGE_VAL;
    return worst;
  }

  double judge(const cutplan::RopePlan& plan) const {
    const auto bound = plan.precision_guarantee();
    double worst = 0;
    for (std::int64_t row = 0; row < batch * heads * rows; ++row) {
      const auto position = static_cast<double>(integers[index(row / (heads * rows))] + row % rows);
      for (std::int64_t i = 0; i < dim / 2; ++i) {
        const double angle = position * std::pow(1e4, -2 * static_cast<double>(i) / static_cast<double>(dim));
        const std::int64_t first = row * dim + i, second = first + dim / 2;
        const double a = get(k, first), b = get(k, second), magnitude = std::abs(a) + std::abs(b);
        const double x = a * std::cos(angle) - b * std::sin(angle), y = b * std::cos(angle) + a * std::sin(angle);
        worst = std::max({worst, part_of_bound(get(turned, first), x, bound.error_bound(magnitude, x)),
                          part_of_bound(get(turned, second), y, bound.error_bound(magnitude, y))});
      }
    }
    return worst;
  }

  double judge(const cutplan::AlibiPlan& plan) const {
    const auto bound = plan.precision_guarantee();
    double worst = 0;
    for (std::int64_t i = 0; i < batch * heads * rows * capacity; ++i) {
      const double x = get(scores, i), bias = value(floats[index(slopes + i / (rows * capacity) % heads)]) * distance(i);
      worst = std::max(worst,
                       part_of_bound(get(biased, i), x + bias, bound.error_bound(std::abs(x) + std::abs(bias), x + bias)));
    }
    return worst;
  }

  double judge(const cutplan::AlibiBackwardPlan& plan) const {
    double sums[heads] = {}, magnitudes[heads] = {}, worst = 0;
    for (std::int64_t i = 0; i < batch * heads * rows * capacity; ++i) {
      const double x = get(scores, i);
      if (get(dscores, i) != x) return HUGE_VAL;
      sums[i / (rows * capacity) % heads] += x * distance(i);
      magnitudes[i / (rows * capacity) % heads] += std::abs(x * distance(i));
    }
    for (std::int64_t h = 0; h < heads; ++h)
      worst = std::max(
          worst, part_of_bound(number(dslopes, h), sums[h], plan.precision_guarantee().error_bound(magnitudes[h], sums[h])));
    return worst;
  }

  double judge(const cutplan::MergeStatesPlan& plan) const {
    const auto bound = plan.precision_guarantee();
    double worst = 0;
    for (std::int64_t row = 0; row < batch * heads * rows; ++row) {
      const double l = number(lse, row), l2 = number(lse2, row), largest = std::max(l, l2);
      const bool empty = largest == -HUGE_VAL;
      const double total = empty ? largest : largest + std::log(std::exp(l - largest) + std::exp(l2 - largest));
      const double w = empty ? 0 : std::exp(l - total), w2 = empty ? 0 : std::exp(l2 - total);
      worst = std::max(worst, part_of_bound(number(merged_lse, row), total, 0x1p-21 * std::max(1.0, std::abs(total))));
      for (std::int64_t i = row * dim; i < (row + 1) * dim; ++i) {
        const double x = w * get(k, i), y = w2 * get(v, i);
        worst = std::max(worst, part_of_bound(get(merged, i), x + y, bound.error_bound(std::abs(x) + std::abs(y), x + y)));
      }
    }
    return worst;
  }

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
  std::int64_t size() const { return batch * heads * capacity * dim; }
  double get(Tensor t, std::int64_t i) const { return value(memory[index(t * size() + i)]); }
  float& number(Vector x, std::int64_t i) { return floats[index(x * batch * heads * rows + i)]; }
  double number(Vector x, std::int64_t i) const { return value(floats[index(x * batch * heads * rows + i)]); }
  /// Of score i, aligned to the bottom right.
  static double distance(std::int64_t i) { return static_cast<double>(i % capacity - (i / capacity % rows + off)); }
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

/// About every op, whose results are in the problem's memory.
template <class T>
bool report(const Around<T>& problem, const typename Around<T>::Plans& plans) {
  const auto one = [&](const auto& plan) {
    return report(plan.sku(), {problem.batch, problem.heads, problem.rows, problem.dim}, dtype<T>(), problem.judge(plan));
  };
  const bool kept[] = {one(plans.append), one(plans.rope), one(plans.alibi), one(plans.alibi_backward), one(plans.merge)};
  return std::all_of(std::begin(kept), std::end(kept), [](bool x) { return x; });
}

/// Number of results outside their bound on the GPUs of this machine.
int check_gpu(std::uint64_t seed);

}  // namespace consumer
