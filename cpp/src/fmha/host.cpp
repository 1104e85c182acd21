// Host backend of the attention family, forward and backward, in portable C++.
//
// Everything is cut into blocks of 96 queries and 96 keys of one head. Operands are widened to the accumulator type (float
// for f16, bf16 and f32, double for f64) once per block, transposed where a product wants them so; a block's scores live in
// a 96 x 96 tile in cache, and nothing larger than a few vectors per row is ever kept. All products go through one register
// tile, whose instruction set is found out at run time.
//   forward, a task per (batch, head, query block):
//     for each visible key block: scores = Q K^T, masked; weights = 2^(scores - reference); O += weights V; where a score
//     exceeds the row's reference, the row is rescaled. References are whole numbers: rescaling is exact.
//   backward: D_i = sum_c grad_ic o_ic once per row; then, recomputing P = exp(scores - LSE) <= 1 wherever it is needed,
//     dQ, a task per (batch, head, query block), over the visible key blocks; with it the slopes' gradient;
//     dK and dV, a task per (batch, key head, key block), over the heads of the group and their visible query blocks;
//     dbias, a task per block of its own, over whatever the bias is broadcast along.
//
// Order of summation: blocks start at multiples of 96 of a sequence, and every output element is summed in one task, in one
// order. A key that a query does not see has weight zero and adds nothing, be it infinite or a NaN: those are set aside before
// a product and come in afterwards, where their weight is not zero. So an element's bits do not depend on threads, on batch,
// on heads or on the other queries: all results are deterministic, and the forward is batch-invariant.
#include "fmha/host.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/half.hpp"
#include "core/kernel.hpp"
#include "core/panel.hpp"
#include "core/parallel.hpp"
#include "core/register_tile.hpp"
#include "fmha/score.hpp"

namespace cutplan::fmha {
namespace {

constexpr std::int64_t block = host_block;
constexpr double log2_e = 1.44269504088896340736;

template <typename T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <typename T>
constexpr T largest_finite = std::numeric_limits<T>::max();

constexpr std::int64_t divide_up(std::int64_t x, std::int64_t by) { return (x + by - 1) / by; }
constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return divide_up(x, to) * to; }

// ---- products of blocks ----

/// How the left factor of a product is stored, always with leading dimension `block`: [rows, k], or [k, rows].
enum class Left { plain, transposed };

/// sums[rows, columns] = or += left[rows, k] right[k, columns], in slices of `block` of k. Rows and columns are rounded up
/// to whole register tiles, rows to low ones: what lies beyond them must be readable and is written.
template <typename T>
void multiply(Left layout, std::int64_t rows, std::int64_t columns, std::int64_t k, const T* left, const T* right,
              std::int64_t ld_right, T* sums, std::int64_t ld, bool accumulate) {
  static_assert(block % 12 == 0 && block % (128 / sizeof(T)) == 0, "blocks are whole register tiles");
  const RegisterTile<T>& tile =
      layout == Left::plain ? register_tile<T, LeftRowMajor<block>>() : register_tile<T, LeftColumnMajor<block>>();
  const std::int64_t row_stride = layout == Left::plain ? block : 1, k_stride = layout == Left::plain ? 1 : block;
  for (std::int64_t first = 0; first < k; first += block) {
    const std::int64_t slice = std::min(block, k - first);
    for (std::int64_t j = 0; j < columns; j += tile.columns) {
      for (std::int64_t i = 0, height; i < rows; i += height) {
        height = tile.height(rows - i);
        tile.multiply(static_cast<int>(height), slice, left + i * row_stride + first * k_stride,
                      right + first * ld_right + j, ld_right, sums + i * ld + j, ld,
                      accumulate || first > 0 ? Sums::add : Sums::set);
      }
    }
  }
}

/// Columns that a buffer [rows, columns] needs to be the right factor or the result of a product.
template <typename T>
std::int64_t leading_dimension(std::int64_t columns) {
  return round_up(columns, register_tile<T, LeftRowMajor<block>>().columns);
}

// ---- moving data ----

/// A thread's zeroed buffers, aligned to cache lines and so to every vector.
template <typename T>
class Memory {
 public:
  T* take(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
    buffers_.emplace_back(static_cast<T*>(::operator new(bytes, std::align_val_t{alignment})));
    std::fill_n(buffers_.back().get(), count, T(0));
    return buffers_.back().get();
  }

 private:
  static constexpr std::size_t alignment = 64;
  struct Delete {
    void operator()(T* data) const { ::operator delete(data, std::align_val_t{alignment}); }
  };
  std::vector<std::unique_ptr<T, Delete>> buffers_;
};

/// Rows of one head of one sequence.
template <typename S>
struct Rows {
  S* data;
  std::int64_t stride;
  S* row(std::int64_t i) const { return data + i * stride; }
};

template <typename S, typename P>
Rows<S> rows_of(P* base, const Strides& strides, std::int64_t batch, std::int64_t head, std::int64_t first) {
  return {static_cast<S*>(base) + batch * strides.batch + head * strides.head + first * strides.row, strides.row};
}

/// One element of a sink, of slopes, or of a gradient of theirs.
double load_scalar(const void* data, DType type, std::int64_t i) {
  switch (type) {
    case DType::f64: return static_cast<const double*>(data)[i];
    case DType::f16: return static_cast<double>(static_cast<float>(static_cast<const Half*>(data)[i]));
    case DType::bf16: return static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(data)[i]));
    default: return static_cast<double>(static_cast<const float*>(data)[i]);  // the table of operands admits no other type
  }
}

void store_scalar(void* data, DType type, std::int64_t i, double x) {
  switch (type) {
    case DType::f64: static_cast<double*>(data)[i] = x; break;
    case DType::f16: static_cast<Half*>(data)[i] = Half(static_cast<float>(x)); break;
    case DType::bf16: static_cast<BFloat16*>(data)[i] = BFloat16(static_cast<float>(x)); break;
    default: static_cast<float*>(data)[i] = static_cast<float>(x);
  }
}

/// Widens `count` rows from `first` on into out[count, columns].
template <typename S, typename T>
void widen(Rows<const S> rows, std::int64_t first, std::int64_t count, std::int64_t columns, T* out, std::int64_t ld) {
  for (std::int64_t i = 0; i < count; ++i) cutplan::widen(rows.row(first + i), columns, out + i * ld);
}

/// out[columns, block] = the transpose of in[count, columns], padded with zeros.
template <typename T>
void transpose(const T* in, std::int64_t ld, std::int64_t count, std::int64_t columns, T* out) {
  for (std::int64_t c = 0; c < columns; ++c) {
    for (std::int64_t i = 0; i < count; ++i) out[c * block + i] = in[i * ld + c];
    for (std::int64_t i = count; i < block; ++i) out[c * block + i] = T(0);
  }
}

/// What is not finite in the right factor of a product, where a weight of zero would make a NaN of it.
template <typename T>
class NotFinite {
 public:
  /// Takes it out of rows[count, columns], leaving zeros.
  void take(T* rows, std::int64_t ld, std::int64_t count, std::int64_t columns) {
    entries_.clear();
    if (all_finite(rows, ld, count, columns)) return;
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = rows + i * ld;
      for (std::int64_t c = 0; c < columns; ++c) {
        if (!std::isfinite(row[c])) entries_.push_back({i, c, std::exchange(row[c], T(0))});
      }
    }
  }

  /// Adds its share of the product to sums[rows, ...]: of `left` what is not zero counts.
  void add(Left layout, std::int64_t rows, const T* left, T* sums, std::int64_t ld) const {
    for (const Entry& entry : entries_) {
      for (std::int64_t i = 0; i < rows; ++i) {
        const T weight = layout == Left::plain ? left[i * block + entry.row] : left[entry.row * block + i];
        if (weight != T(0)) sums[i * ld + entry.column] += weight * entry.value;
      }
    }
  }

 private:
  struct Entry {
    std::int64_t row, column;
    T value;
  };
  std::vector<Entry> entries_;

  /// Zero times each, summed in as many lanes as make vectors of it.
  static bool all_finite(const T* rows, std::int64_t ld, std::int64_t count, std::int64_t columns) {
    constexpr int lanes = 16;
    T sum[lanes] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = rows + i * ld;
      std::int64_t c = 0;
      for (; c + lanes <= columns; c += lanes) {
        for (int lane = 0; lane < lanes; ++lane) sum[lane] += row[c + lane] * T(0);
      }
      for (; c < columns; ++c) sum[0] += row[c] * T(0);
    }
    T total = 0;
    for (const T x : sum) total += x;
    return total == T(0);
  }
};

/// Writes `factor` times a row, rounded to D.
template <typename D, typename T, typename F>
void narrow(const T* values, std::int64_t count, F factor, D* out) {
  for (std::int64_t c = 0; c < count; ++c)
    out[c] = D(static_cast<std::conditional_t<sizeof(D) == 2, float, D>>(static_cast<T>(values[c] * factor)));
}

template <typename S>
constexpr DType type_of = std::is_same_v<S, Half>       ? DType::f16
                          : std::is_same_v<S, BFloat16> ? DType::bf16
                          : std::is_same_v<S, float>    ? DType::f32
                                                        : DType::f64;

/// Calls `f` with `data` as what it is: the operand type S, or float.
template <typename S, typename V, typename F>
void typed(DType type, V* data, F&& f) {
  using Operand = std::conditional_t<std::is_const_v<V>, const S, S>;
  using Float = std::conditional_t<std::is_const_v<V>, const float, float>;
  if (type == DType::f32) {
    f(static_cast<Float*>(data));
  } else if (type == type_of<S>) {
    f(static_cast<Operand*>(data));
  } else {
    refuse_unexpected_type(type);
  }
}

// ---- one head ----

/// Keys of a block, relative to its first, that a query sees.
struct Range {
  std::int64_t first, end;
};

/// x + y, where that of finite numbers stays finite: the lowest number is one, and no mask.
template <typename T>
T saturating_sum(T x, T y) {
  const T sum = x + y;
  const bool overflows =
      std::abs(sum) > largest_finite<T> && std::abs(x) <= largest_finite<T> && std::abs(y) <= largest_finite<T>;
  return overflows ? std::copysign(largest_finite<T>, sum) : sum;
}

/// One head of one sequence: where its rows are, which keys a query sees, and how products become scores.
template <typename S, typename T>
struct Head {
  const Problem& problem;
  std::int64_t batch, head;
  Sequence sequence;
  Rows<const S> q, k, v;
  T scale, softcap, slope;
  Dropout dropout{};
  T keep_factor = 1;

  Head(const Problem& p, std::int64_t batch, std::int64_t head)
      : problem(p),
        batch(batch),
        head(head),
        sequence(fmha::sequence(p, batch)),
        q(rows_of<const S>(p.q, p.q_strides, batch, head, sequence.first_q)),
        k(rows_of<const S>(p.k, p.k_strides, batch, head / (p.heads / p.heads_k), sequence.first_k)),
        v(rows_of<const S>(p.v, p.v_strides, batch, head / (p.heads / p.heads_k), sequence.first_k)),
        scale(static_cast<T>(p.scale)),
        softcap(static_cast<T>(p.softcap)),
        slope(p.alibi_slopes == nullptr
                  ? T(0)
                  : static_cast<T>(load_scalar(p.alibi_slopes, p.alibi_type, batch * p.alibi_batch + head * p.alibi_head))) {
    if (p.rng_state == nullptr) return;
    dropout = Dropout::of(p.rng_state, batch * p.heads + head);
    keep_factor = T(65536) / static_cast<T>(p.keep_threshold);  // p.keep_scale, in the accumulator's precision
  }

  Range visible(std::int64_t i, std::int64_t first_j, std::int64_t n) const {
    return {clamp(first_key(problem, sequence, i) - first_j, 0, n), clamp(end_key(problem, sequence, i) - first_j, 0, n)};
  }

  /// |i + off - j|
  T distance(std::int64_t i, std::int64_t j) const { return static_cast<T>(std::abs(i + sequence.offset - j)); }

  /// Turns q_i . k_j into scores for the keys first_j + range; -inf where the mask is false. `slope_of_cap`, where not null
  /// and there is a soft cap, gets the soft cap's derivative.
  void finish_scores(std::int64_t i, std::int64_t first_j, Range range, T* row, T* slope_of_cap) const {
    const Problem& p = problem;
    for (std::int64_t j = range.first; j < range.end; ++j) row[j] *= scale;
    if (p.softcap != 0) {
      for (std::int64_t j = range.first; j < range.end; ++j) {
        const T capped = std::tanh(row[j] / softcap);
        row[j] = softcap * capped;
        if (slope_of_cap != nullptr) slope_of_cap[j] = T(1) - capped * capped;
      }
    }
    if (p.alibi_slopes != nullptr) {
      for (std::int64_t j = range.first; j < range.end; ++j) row[j] -= slope * distance(i, first_j + j);
    }
    if (p.bias != nullptr) {
      typed<S>(p.bias_type, p.bias, [&](auto* bias) {
        const Broadcast& s = p.bias_strides;
        const auto* values = bias + batch * s.batch + head * s.head + i * s.row + first_j * s.col;
        for (std::int64_t j = range.first; j < range.end; ++j)
          row[j] = saturating_sum(row[j], static_cast<T>(values[j * s.col]));
      });
    }
    if (p.mask != nullptr) {
      const Broadcast& s = p.mask_strides;
      const std::uint8_t* keep = p.mask + batch * s.batch + head * s.head + i * s.row + first_j * s.col;
      for (std::int64_t j = range.first; j < range.end; ++j) row[j] = keep[j * s.col] != 0 ? row[j] : -infinity<T>;
    }
  }

  /// keep[j] = what dropout multiplies the weight of key first_j + j with, for the keys of `range`. first_j is a multiple of
  /// 8.
  void draw(std::int64_t i, std::int64_t first_j, Range range, T* keep) const {
    for (std::int64_t group = range.first / 8; group * 8 < range.end; ++group) {
      const Philox random = dropout.group(i, first_j / 8 + group);
      for (int key = 0; key < 8; ++key)
        keep[group * 8 + key] = Dropout::bits(random, key) < problem.keep_threshold ? keep_factor : T(0);
    }
  }
};

/// Clears a row's values where the weight is zero: one that is not finite would not be cleared by multiplying.
template <typename T>
void select_weighted(Range range, const T* weights, T* values) {
  for (std::int64_t j = range.first; j < range.end; ++j) values[j] = weights[j] == T(0) ? T(0) : values[j];
}

/// Clears what lies outside of a range of a tile's row.
template <typename T>
void clear_outside(Range range, T* row) {
  std::fill(row, row + range.first, T(0));
  std::fill(row + std::max(range.first, range.end), row + block, T(0));
}

// ---- sharing out the work ----

/// The blocks of all sequences, one sequence after the other.
class BlockList {
 public:
  /// `length(b)`: rows of sequence b.
  template <typename Length>
  BlockList(std::int64_t batch, Length&& length) : first_(static_cast<std::size_t>(batch) + 1, 0) {
    for (std::int64_t b = 0; b < batch; ++b) first_[b + 1] = first_[b] + divide_up(length(b), block);
  }

  std::int64_t size() const { return first_.back(); }
  /// Number of the first block of a sequence.
  std::int64_t first(std::int64_t batch) const { return first_[static_cast<std::size_t>(batch)]; }

  struct Place {
    std::int64_t batch, first_row;
  };
  Place place(std::int64_t n) const {
    const std::int64_t b = std::upper_bound(first_.begin(), first_.end(), n) - first_.begin() - 1;
    return {b, (n - first_[b]) * block};
  }

 private:
  std::vector<std::int64_t> first_;
};

BlockList query_blocks(const Problem& p) {
  return BlockList(p.batch, [&](std::int64_t b) { return sequence(p, b).len_q; });
}

/// A sequence's keys with those beyond seqused_k: all rows of dK and dV are written.
std::int64_t keys_held(const Problem& p, std::int64_t batch) {
  Problem all = p;
  all.seqused_k = nullptr;
  return sequence(all, batch).len_k;
}

/// Threads for a launch of `products` multiply-adds: starting one takes some 20 us, so let each have ten times that to do.
int choose_threads(const Problem& p, const Launch& launch, double products_per_pair) {
  constexpr double products_per_thread = 4e6;
  const double batch = static_cast<double>(std::max<std::int64_t>(p.batch, 1));
  const double sequences = p.cu_seqlens_q != nullptr ? 1 / batch : batch;
  const double pairs =
      sequences * static_cast<double>(p.heads) * static_cast<double>(p.seq_q) * static_cast<double>(p.seq_k + block);
  const int available = launch.sm_count > 0 ? launch.sm_count : hardware_threads();
  return static_cast<int>(std::max(1.0, std::min<double>(available, pairs * products_per_pair / products_per_thread)));
}

/// Runs `task(scratch, n)` for n in 0 .. tasks - 1, with a scratch per thread.
template <typename Scratch, typename Task>
void for_each_task(std::int64_t tasks, int threads, const Problem& p, const Task& task) {
  parallel_tasks(tasks, threads, [&](const std::function<std::int64_t()>& next) {
    Scratch scratch(p);
    for (std::int64_t n = next(); n >= 0; n = next()) task(scratch, n);
  });
}

// ---- forward ----

template <typename T>
struct ForwardScratch {
  explicit ForwardScratch(const Problem& p) : ld(leading_dimension<T>(p.dim)), ld_v(leading_dimension<T>(p.dim_v)) {
    rows = memory.take(block * ld);
    q_t = memory.take(p.dim * block);
    k_t = memory.take(p.dim * block);
    v = memory.take(block * ld_v);
    o = memory.take(block * ld_v);
    weights = memory.take(block * block);
    keep = memory.take(block);
  }

  std::int64_t ld, ld_v;
  T *rows, *q_t, *k_t, *v, *o, *weights, *keep;
  NotFinite<T> not_finite_v;
  Memory<T> memory;
};

/// The softmax of one row so far: the sum of 2^((score - base) log2(e) - reference). The reference is a whole number no less
/// than the largest exponent seen. The base is 0, but where exponents would overflow it is the largest score: two scores of
/// that size are equal, or the smaller one counts nothing.
template <typename T>
struct RowState {
  T largest = -infinity<T>;  // score
  T base = 0, exponent = 0;  // exponent: the largest score's, before the reference is subtracted
  T reference = 0, sum = 0;
};

/// Turns a row's scores into weights, rescaling what the row has summed where the reference rises.
template <typename T>
void update_row(Range range, T* row, RowState<T>& state, T* o, std::int64_t dim_v) {
  T largest = -infinity<T>;
  for (std::int64_t j = range.first; j < range.end; ++j) largest = row[j] > largest ? row[j] : largest;
  if (largest > state.largest) {
    const T base = std::abs(largest) > largest_finite<T> / 2 ? largest : T(0);
    const T exponent = (largest - base) * static_cast<T>(log2_e), reference = std::ceil(exponent);
    const bool anew = state.largest == -infinity<T> || base != state.base;  // nothing is left of what came before
    if (anew || reference > state.reference) {
      // Below 2^-2000 nothing is left in either type.
      const T factor = anew ? T(0) : std::ldexp(T(1), static_cast<int>(std::max(state.reference - reference, T(-2000))));
      state.sum *= factor;
      for (std::int64_t c = 0; c < dim_v; ++c) o[c] *= factor;
      state.reference = reference;
    }
    state.largest = largest;
    state.base = base;
    state.exponent = exponent;
  }
  // Exponents are stored before the reference is subtracted, so that each is rounded, as the one is that the reference was
  // made from: contracted to a multiply-add, they could exceed it by half a unit in the last place, 32 for scores of 10^9.
  for (std::int64_t j = range.first; j < range.end; ++j) row[j] = (row[j] - state.base) * static_cast<T>(log2_e);
  T sum = 0;
  for (std::int64_t j = range.first; j < range.end; ++j) {
    row[j] = std::exp2(row[j] - state.reference);
    sum += row[j];
  }
  state.sum += sum;
}

/// A finished softmax: the sum of its weights, the sink's included, as summed and relative to the largest score's weight; and
/// LSE. It starts from the largest score, and not from the reference, so that LSE is no less than it, to the last bit.
struct Denominator {
  double sum, relative, lse;

  template <typename T>
  Denominator(const Problem& p, std::int64_t head, const RowState<T>& state) : sum(static_cast<double>(state.sum)) {
    const auto largest = static_cast<double>(state.largest);
    const double top = std::exp2(static_cast<double>(state.exponent - state.reference));
    relative = sum / top;
    lse = sum == 0 ? -infinity<double> : largest + std::log(relative);
    if (p.sink == nullptr) return;
    const double sink = load_scalar(p.sink, p.sink_type, head * p.sink_head), weight = std::exp(sink - largest);
    const double larger = std::max(lse, sink);
    if (std::isnan(sink)) {
      lse = sum = sink;  // a row of NaN, whatever it sees
      return;
    }
    if (larger > -infinity<double>) lse = larger + std::log1p(std::exp(std::min(lse, sink) - larger));
    if (sum == 0) return;  // nothing to divide
    sum += top * weight;
    relative += weight;
  }

  /// LSE as it is stored: -inf is a row that sees nothing, and no number beyond float's.
  float stored_lse() const {
    return static_cast<float>(std::isfinite(lse) ? std::clamp<double>(lse, -largest_finite<float>, largest_finite<float>)
                                                 : lse);
  }
};

/// Divides a row by its sum of exponentials, the sink's included, writes it, and returns LSE.
template <typename T, typename D>
float finish_row(const Problem& p, std::int64_t head, const RowState<T>& state, const T* o, D* out) {
  const Denominator denominator(p, head, state);
  narrow(o, p.dim_v, denominator.sum == 0 ? 0 : 1 / denominator.sum, out);
  return denominator.stored_lse();
}

template <typename S, typename T>
void forward_block(const Problem& p, std::int64_t batch, std::int64_t head_index, std::int64_t first_i,
                   ForwardScratch<T>& x) {
  const Head<S, T> head(p, batch, head_index);
  const Sequence& s = head.sequence;
  const std::int64_t m = std::min(block, s.len_q - first_i);
  RowState<T> state[block];

  std::fill_n(x.o, block * x.ld_v, T(0));
  widen(head.q, first_i, m, p.dim, x.rows, x.ld);
  transpose(x.rows, x.ld, m, p.dim, x.q_t);

  const std::int64_t end = end_key(p, s, first_i + m - 1);
  for (std::int64_t first_j = first_key(p, s, first_i) / block * block; first_j < end; first_j += block) {
    const std::int64_t n = std::min(block, end - first_j);
    widen(head.k, first_j, n, p.dim, x.rows, x.ld);
    transpose(x.rows, x.ld, n, p.dim, x.k_t);
    widen(head.v, first_j, n, p.dim_v, x.v, x.ld_v);
    x.not_finite_v.take(x.v, x.ld_v, n, p.dim_v);
    multiply(Left::transposed, m, n, p.dim, x.q_t, x.k_t, block, x.weights, block, false);
    for (std::int64_t i = 0; i < m; ++i) {
      T* row = x.weights + i * block;
      const Range range = head.visible(first_i + i, first_j, n);
      head.finish_scores(first_i + i, first_j, range, row, nullptr);
      update_row(range, row, state[i], x.o + i * x.ld_v, p.dim_v);
      clear_outside(range, row);
      if (p.rng_state != nullptr) {
        head.draw(first_i + i, first_j, range, x.keep);
        for (std::int64_t j = range.first; j < range.end; ++j) row[j] *= x.keep[j];
      }
    }
    multiply(Left::plain, m, p.dim_v, n, x.weights, x.v, x.ld_v, x.o, x.ld_v, true);
    x.not_finite_v.add(Left::plain, m, x.weights, x.o, x.ld_v);
  }

  typed<S>(p.o_type, p.o, [&](auto* base) {
    const auto o = rows_of<std::remove_pointer_t<decltype(base)>>(p.o, p.o_strides, batch, head_index, s.first_q);
    float* lse = p.lse == nullptr ? nullptr : p.lse + batch * p.lse_batch + head_index * p.lse_head + s.first_q;
    for (std::int64_t i = 0; i < m; ++i) {
      const float row_lse = finish_row(p, head_index, state[i], x.o + i * x.ld_v, o.row(first_i + i));
      if (lse != nullptr) lse[first_i + i] = row_lse;
    }
  });
}

template <typename S, typename T>
void run_forward(const Kernel&, const Problem& p, const Launch& launch) {
  const BlockList blocks = query_blocks(p);
  const int threads = choose_threads(p, launch, static_cast<double>(p.dim + p.dim_v));
  for_each_task<ForwardScratch<T>>(blocks.size() * p.heads, threads, p, [&](ForwardScratch<T>& x, std::int64_t task) {
    const BlockList::Place place = blocks.place(task / p.heads);
    forward_block<S, T>(p, place.batch, task % p.heads, place.first_row, x);
  });
}

// ---- backward ----

template <typename T>
struct BackwardScratch {
  explicit BackwardScratch(const Problem& p) : ld(leading_dimension<T>(p.dim)), ld_v(leading_dimension<T>(p.dim_v)) {
    for (T** rows : {&q, &k, &dq, &dk}) *rows = memory.take(block * ld);
    for (T** rows : {&grad, &v, &dv}) *rows = memory.take(block * ld_v);
    for (T** transposed : {&q_t, &k_t}) *transposed = memory.take(p.dim * block);
    for (T** transposed : {&grad_t, &v_t}) *transposed = memory.take(p.dim_v * block);
    for (T** tile : {&weights, &ds, &slope_of_cap}) *tile = memory.take(block * block);
    keep = memory.take(block);
  }

  std::int64_t ld, ld_v;
  T *q, *k, *dq, *dk, *grad, *v, *dv;
  T *q_t, *k_t, *grad_t, *v_t;
  T *weights, *ds, *slope_of_cap;
  T* keep;
  NotFinite<T> not_finite_q, not_finite_k, not_finite_grad;
  Memory<T> memory;
};

/// What a row's scores are measured against: their weights are exp((score - level) - rest). LSE and 0; but where LSE is so
/// large that a float holds it coarsely, and is the rounded LSE of the scores recomputed here: the largest of these, and how
/// far LSE lies above it.
template <typename T>
struct Level {
  T level, rest;
};

/// From here on rounding LSE to float costs a weight more than rounding it to half precision would.
constexpr float coarse_lse = 8192;

/// One backward run: the problem, and of every query row D_i = sum_c grad_ic o_ic and its level.
template <typename T>
struct Backward {
  explicit Backward(const BackwardProblem& b)
      : gradients(b),
        problem(b.forward),
        blocks(query_blocks(b.forward)),
        delta(static_cast<std::size_t>((b.forward.cu_seqlens_q != nullptr ? 1 : b.forward.batch) * b.forward.heads *
                                       b.forward.seq_q)),
        levels(delta.size()) {}

  /// Row 0 of one head of one sequence in `delta` and `levels`.
  std::int64_t delta_row(std::int64_t batch, std::int64_t head, const Sequence& s) const {
    return ((problem.cu_seqlens_q != nullptr ? 0 : batch) * problem.heads + head) * problem.seq_q + s.first_q;
  }

  const BackwardProblem& gradients;
  const Problem& problem;
  const BlockList blocks;  // of queries
  std::vector<T> delta;
  std::vector<Level<T>> levels;
  std::atomic<bool> any_coarse{false};  // some |LSE| is coarse_lse or more
};

/// A head with what the backward reads of it besides.
template <typename S, typename T>
struct BackwardHead : Head<S, T> {
  Rows<const S> grad;
  const float* lse;  // of row 0 of the sequence, and so are delta and levels
  const T* delta;
  const Level<T>* levels;

  BackwardHead(const Backward<T>& run, std::int64_t batch, std::int64_t head)
      : Head<S, T>(run.problem, batch, head),
        grad(rows_of<const S>(run.gradients.grad, run.gradients.grad_strides, batch, head, this->sequence.first_q)),
        lse(run.problem.lse + batch * run.problem.lse_batch + head * run.problem.lse_head + this->sequence.first_q),
        delta(run.delta.data() + run.delta_row(batch, head, this->sequence)),
        levels(run.levels.data() + run.delta_row(batch, head, this->sequence)) {}

  void load_queries(std::int64_t first_i, std::int64_t m, BackwardScratch<T>& x) const {
    const Problem& p = this->problem;
    widen(this->q, first_i, m, p.dim, x.q, x.ld);
    transpose(x.q, x.ld, m, p.dim, x.q_t);
    x.not_finite_q.take(x.q, x.ld, m, p.dim);
    widen(grad, first_i, m, p.dim_v, x.grad, x.ld_v);
    transpose(x.grad, x.ld_v, m, p.dim_v, x.grad_t);
    x.not_finite_grad.take(x.grad, x.ld_v, m, p.dim_v);
  }

  void load_keys(std::int64_t first_j, std::int64_t n, BackwardScratch<T>& x) const {
    const Problem& p = this->problem;
    widen(this->k, first_j, n, p.dim, x.k, x.ld);
    transpose(x.k, x.ld, n, p.dim, x.k_t);
    x.not_finite_k.take(x.k, x.ld, n, p.dim);
    widen(this->v, first_j, n, p.dim_v, x.v, x.ld_v);
    transpose(x.v, x.ld_v, n, p.dim_v, x.v_t);
  }

  /// The keys that may have weight: none in a row whose logits are all -inf.
  Range weighted(std::int64_t i, std::int64_t first_j, std::int64_t n) const {
    return lse[i] == -infinity<float> ? Range{0, 0} : this->visible(i, first_j, n);
  }

  /// Of the loaded queries and keys: x.weights = P after dropout, x.ds = P (dP - D), the gradient of the finished scores.
  /// Both are zero wherever the key is not seen.
  void score_gradients(std::int64_t first_i, std::int64_t m, std::int64_t first_j, std::int64_t n,
                       const BackwardScratch<T>& x) const {
    const Problem& p = this->problem;
    multiply(Left::transposed, m, n, p.dim, x.q_t, x.k_t, block, x.weights, block, false);
    multiply(Left::transposed, m, n, p.dim_v, x.grad_t, x.v_t, block, x.ds, block, false);
    for (std::int64_t i = 0; i < m; ++i) {
      T *weights = x.weights + i * block, *ds = x.ds + i * block;
      const Range range = weighted(first_i + i, first_j, n);
      const Level<T> against = levels[first_i + i];
      const T row_delta = delta[first_i + i];
      this->finish_scores(first_i + i, first_j, range, weights, x.slope_of_cap + i * block);
      for (std::int64_t j = range.first; j < range.end; ++j) {
        const T exponent = (weights[j] - against.level) - against.rest;
        const bool hidden = std::isnan(against.level) && weights[j] == -infinity<T>;
        weights[j] = hidden ? -infinity<T> : T(0) < exponent ? T(0) : exponent;
      }
      for (std::int64_t j = range.first; j < range.end; ++j) weights[j] = std::exp(weights[j]);
      // A weight of zero takes no part, whatever v, the gradient and D are. In loops of their own, selections vectorise.
      if (p.rng_state != nullptr) {
        this->draw(first_i + i, first_j, range, x.keep);
        for (std::int64_t j = range.first; j < range.end; ++j) ds[j] *= x.keep[j];
        select_weighted(range, x.keep, ds);
      }
      for (std::int64_t j = range.first; j < range.end; ++j) ds[j] = weights[j] * (ds[j] - row_delta);
      select_weighted(range, weights, ds);
      if (p.rng_state != nullptr) {
        for (std::int64_t j = range.first; j < range.end; ++j) weights[j] *= x.keep[j];
      }
      clear_outside(range, weights);
      clear_outside(range, ds);
    }
  }

  /// Carries x.ds through the soft cap: then it is the gradient of scale * q_i . k_j.
  void pass_softcap(std::int64_t first_i, std::int64_t m, std::int64_t first_j, std::int64_t n,
                    const BackwardScratch<T>& x) const {
    if (this->problem.softcap == 0) return;
    for (std::int64_t i = 0; i < m; ++i) {
      const Range range = weighted(first_i + i, first_j, n);
      T *ds = x.ds + i * block, *slope_of_cap = x.slope_of_cap + i * block;
      select_weighted(range, ds, slope_of_cap);
      for (std::int64_t j = range.first; j < range.end; ++j) ds[j] *= slope_of_cap[j];
    }
  }
};

/// Writes gradient rows, times `factor`.
template <typename S, typename T>
void write_rows(const BackwardProblem& b, void* base, const Strides& strides, std::int64_t batch, std::int64_t head,
                std::int64_t first, std::int64_t count, std::int64_t columns, const T* values, std::int64_t ld, T factor) {
  typed<S>(b.grad_type, base, [&](auto* out) {
    const auto rows = rows_of<std::remove_pointer_t<decltype(out)>>(base, strides, batch, head, first);
    for (std::int64_t i = 0; i < count; ++i) narrow(values + i * ld, columns, factor, rows.row(i));
  });
}

/// Fills `run.delta` and `run.levels` for one block of rows, and returns these rows' share of the sink's gradient.
template <typename S, typename T>
double delta_block(Backward<T>& run, std::int64_t batch, std::int64_t head, std::int64_t first_i) {
  const Problem& p = run.problem;
  const Sequence s = sequence(p, batch);
  const std::int64_t end = std::min(first_i + block, s.len_q);
  const auto grad = rows_of<const S>(run.gradients.grad, run.gradients.grad_strides, batch, head, s.first_q);
  const float* lse = p.lse + batch * p.lse_batch + head * p.lse_head + s.first_q;
  T* delta = run.delta.data() + run.delta_row(batch, head, s);
  Level<T>* levels = run.levels.data() + run.delta_row(batch, head, s);
  double dsink = 0;
  typed<S>(p.o_type, static_cast<const void*>(p.o), [&](auto* base) {
    const auto o = rows_of<std::remove_pointer_t<decltype(base)>>(base, p.o_strides, batch, head, s.first_q);
    for (std::int64_t i = first_i; i < end; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < p.dim_v; ++c)
        sum += static_cast<double>(grad.row(i)[c]) * static_cast<double>(o.row(i)[c]);
      delta[i] = static_cast<T>(sum);
      levels[i] = {static_cast<T>(lse[i]), T(0)};
      if (std::abs(lse[i]) >= coarse_lse && std::abs(lse[i]) <= largest_finite<float>)
        run.any_coarse.store(true, std::memory_order_relaxed);
      if (p.sink != nullptr && lse[i] != -infinity<float>) {
        const double sink = load_scalar(p.sink, p.sink_type, head * p.sink_head);
        dsink -= std::min(std::exp(sink - static_cast<double>(lse[i])), 1.0) * sum;
      }
    }
  });
  return dsink;
}

/// Refines the levels of those rows of one block whose LSE is coarse. An LSE that is not that of these scores, as where the
/// keys are a part of those that it was summed over, stays what it is.
template <typename S, typename T>
void refine_levels(Backward<T>& run, std::int64_t batch, std::int64_t head_index, std::int64_t first_i,
                   BackwardScratch<T>& x) {
  const Problem& p = run.problem;
  const BackwardHead<S, T> head(run, batch, head_index);
  const Sequence& s = head.sequence;
  const std::int64_t m = std::min(block, s.len_q - first_i);
  const float* lse = head.lse + first_i;
  if (std::none_of(lse, lse + m, [](float x) { return std::abs(x) >= coarse_lse && std::abs(x) <= largest_finite<float>; }))
    return;
  Level<T>* levels = run.levels.data() + run.delta_row(batch, head_index, s) + first_i;
  RowState<T> state[block];
  head.load_queries(first_i, m, x);
  const std::int64_t end = end_key(p, s, first_i + m - 1);
  for (std::int64_t first_j = first_key(p, s, first_i) / block * block; first_j < end; first_j += block) {
    const std::int64_t n = std::min(block, end - first_j);
    head.load_keys(first_j, n, x);
    multiply(Left::transposed, m, n, p.dim, x.q_t, x.k_t, block, x.weights, block, false);
    for (std::int64_t i = 0; i < m; ++i) {
      const Range range = head.visible(first_i + i, first_j, n);
      head.finish_scores(first_i + i, first_j, range, x.weights + i * block, nullptr);
      update_row<T>(range, x.weights + i * block, state[i], nullptr, 0);
    }
  }
  for (std::int64_t i = 0; i < m; ++i) {
    if (!(std::abs(lse[i]) >= coarse_lse)) continue;
    const Denominator denominator(p, head_index, state[i]);
    if (denominator.stored_lse() == lse[i] && state[i].largest > -infinity<T>)
      levels[i] = {state[i].largest, static_cast<T>(std::log(denominator.relative))};
  }
}

/// Writes one block of dQ, and returns its share of the gradient of the head's slope where that is wanted.
template <typename S, typename T>
double dq_block(const Backward<T>& run, std::int64_t batch, std::int64_t head_index, std::int64_t first_i,
                BackwardScratch<T>& x) {
  const Problem& p = run.problem;
  const BackwardHead<S, T> head(run, batch, head_index);
  const Sequence& s = head.sequence;
  const std::int64_t m = std::min(block, s.len_q - first_i);
  double dslope = 0;

  std::fill_n(x.dq, block * x.ld, T(0));
  head.load_queries(first_i, m, x);
  const std::int64_t end = end_key(p, s, first_i + m - 1);
  for (std::int64_t first_j = first_key(p, s, first_i) / block * block; first_j < end; first_j += block) {
    const std::int64_t n = std::min(block, end - first_j);
    head.load_keys(first_j, n, x);
    head.score_gradients(first_i, m, first_j, n, x);
    if (run.gradients.dalibi_slopes != nullptr) {
      double tile = 0;
      for (std::int64_t i = 0; i < m; ++i) {
        double row = 0;
        for (std::int64_t j = 0; j < n; ++j)
          row -= static_cast<double>(x.ds[i * block + j]) * static_cast<double>(head.distance(first_i + i, first_j + j));
        tile += row;
      }
      dslope += tile;
    }
    head.pass_softcap(first_i, m, first_j, n, x);
    multiply(Left::plain, m, p.dim, n, x.ds, x.k, x.ld, x.dq, x.ld, true);
    x.not_finite_k.add(Left::plain, m, x.ds, x.dq, x.ld);
  }
  write_rows<S>(run.gradients, run.gradients.dq, run.gradients.dq_strides, batch, head_index, s.first_q + first_i, m, p.dim,
                x.dq, x.ld, head.scale);
  return dslope;
}

/// Writes one block of dK and dV, summed over the group of heads that share it.
template <typename S, typename T>
void dkv_block(const Backward<T>& run, std::int64_t batch, std::int64_t head_k, std::int64_t first_j,
               BackwardScratch<T>& x) {
  const Problem& p = run.problem;
  const BackwardProblem& b = run.gradients;
  const std::int64_t group = p.heads / p.heads_k;
  const Sequence s = sequence(p, batch);
  const std::int64_t held = std::min(block, keys_held(p, batch) - first_j), n = std::min(block, s.len_k - first_j);

  std::fill_n(x.dk, block * x.ld, T(0));
  std::fill_n(x.dv, block * x.ld_v, T(0));
  for (std::int64_t head_index = head_k * group; n > 0 && head_index < (head_k + 1) * group; ++head_index) {
    const BackwardHead<S, T> head(run, batch, head_index);
    if (head_index == head_k * group) head.load_keys(first_j, n, x);
    const std::int64_t end = end_query(p, s, first_j + n - 1);
    for (std::int64_t first_i = first_query(p, s, first_j) / block * block; first_i < end; first_i += block) {
      const std::int64_t m = std::min(block, end - first_i);
      head.load_queries(first_i, m, x);
      head.score_gradients(first_i, m, first_j, n, x);
      multiply(Left::transposed, n, p.dim_v, m, x.weights, x.grad, x.ld_v, x.dv, x.ld_v, true);
      x.not_finite_grad.add(Left::transposed, n, x.weights, x.dv, x.ld_v);
      head.pass_softcap(first_i, m, first_j, n, x);
      multiply(Left::transposed, n, p.dim, m, x.ds, x.q, x.ld, x.dk, x.ld, true);
      x.not_finite_q.add(Left::transposed, n, x.ds, x.dk, x.ld);
    }
  }
  write_rows<S>(b, b.dk, b.dk_strides, batch, head_k, s.first_k + first_j, held, p.dim, x.dk, x.ld, static_cast<T>(p.scale));
  write_rows<S>(b, b.dv, b.dv_strides, batch, head_k, s.first_k + first_j, held, p.dim_v, x.dv, x.ld_v, T(1));
}

/// One block of dbias: rows and columns from `first` to `end` of each dimension of [B, H, Sq, Sk]; the whole extent where
/// the bias is broadcast.
struct BiasBlock {
  std::int64_t first[4], end[4];
};

/// How dbias is cut into blocks.
struct BiasBlocks {
  std::int64_t extent[4], step[4], count[4];

  explicit BiasBlocks(const BackwardProblem& b)
      : extent{b.forward.batch, b.forward.heads, b.forward.seq_q, b.forward.seq_k}, step{1, 1, block, block} {
    for (int d = 0; d < 4; ++d) {
      if (b.dbias_sums[d]) step[d] = std::max<std::int64_t>(extent[d], 1);
      count[d] = b.dbias_sums[d] ? 1 : divide_up(extent[d], step[d]);
    }
  }

  std::int64_t size() const { return count[0] * count[1] * count[2] * count[3]; }

  BiasBlock operator[](std::int64_t n) const {
    BiasBlock out{};
    for (int d = 3; d >= 0; --d) {
      out.first[d] = n % count[d] * step[d];
      out.end[d] = std::min(out.first[d] + step[d], extent[d]);
      n /= count[d];
    }
    return out;
  }
};

template <typename T>
struct BiasScratch : BackwardScratch<T> {
  explicit BiasScratch(const Problem& p) : BackwardScratch<T>(p), sums(block * block) {}
  std::vector<double> sums;
};

/// Writes one block of dbias. What is summed goes first into one tile, then, where rows or columns are summed, over that
/// tile's.
template <typename S, typename T>
void dbias_block(const Backward<T>& run, const BiasBlock& place, BiasScratch<T>& x) {
  const Problem& p = run.problem;
  const BackwardProblem& b = run.gradients;
  double* sums = x.sums.data();
  std::fill_n(sums, block * block, 0.0);
  for (std::int64_t batch = place.first[0]; batch < place.end[0]; ++batch) {
    for (std::int64_t head_index = place.first[1]; head_index < place.end[1]; ++head_index) {
      const BackwardHead<S, T> head(run, batch, head_index);
      const Sequence& s = head.sequence;
      const std::int64_t end_i = std::min(place.end[2], s.len_q);
      for (std::int64_t first_i = place.first[2]; first_i < end_i; first_i += block) {
        const std::int64_t m = std::min(block, end_i - first_i);
        const std::int64_t end_j = std::min(place.end[3], end_key(p, s, first_i + m - 1));
        std::int64_t first_j = std::max(place.first[3], first_key(p, s, first_i) / block * block);
        if (first_j < end_j) head.load_queries(first_i, m, x);
        for (; first_j < end_j; first_j += block) {
          const std::int64_t n = std::min(block, end_j - first_j);
          head.load_keys(first_j, n, x);
          head.score_gradients(first_i, m, first_j, n, x);
          for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < n; ++j) sums[i * block + j] += static_cast<double>(x.ds[i * block + j]);
          }
        }
      }
    }
  }

  std::int64_t rows = std::min(block, place.end[2] - place.first[2]),
               columns = std::min(block, place.end[3] - place.first[3]);
  if (b.dbias_sums[2]) {
    for (std::int64_t i = 1; i < block; ++i) {
      for (std::int64_t j = 0; j < block; ++j) sums[j] += sums[i * block + j];
    }
    rows = 1;
  }
  if (b.dbias_sums[3]) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 1; j < block; ++j) sums[i * block] += sums[i * block + j];
    }
    columns = 1;
  }
  typed<S>(p.bias_type, b.dbias, [&](auto* base) {
    const Broadcast& stride = b.dbias_strides;
    auto* out = base + place.first[0] * stride.batch + place.first[1] * stride.head + place.first[2] * stride.row +
                place.first[3] * stride.col;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) narrow(sums + i * block + j, 1, 1.0, out + i * stride.row + j * stride.col);
    }
  });
}

template <typename S, typename T>
void run_backward(const Kernel&, const BackwardProblem& b, const Launch& launch) {
  const Problem& p = b.forward;
  Backward<T> run(b);
  const BlockList& blocks = run.blocks;
  const std::int64_t tasks = blocks.size() * p.heads;
  const double products = static_cast<double>(p.dim + p.dim_v);

  std::vector<double> dsink(static_cast<std::size_t>(tasks)), dslopes(static_cast<std::size_t>(tasks));
  struct Nothing {
    explicit Nothing(const Problem&) {}
  };
  const int threads = choose_threads(p, launch, 2 * products);
  for_each_task<Nothing>(tasks, threads, p, [&](const Nothing&, std::int64_t task) {
    const BlockList::Place place = blocks.place(task / p.heads);
    dsink[task] = delta_block<S>(run, place.batch, task % p.heads, place.first_row);
  });
  if (run.any_coarse.load(std::memory_order_relaxed)) {
    for_each_task<BackwardScratch<T>>(tasks, threads, p, [&](BackwardScratch<T>& x, std::int64_t task) {
      const BlockList::Place place = blocks.place(task / p.heads);
      refine_levels<S>(run, place.batch, task % p.heads, place.first_row, x);
    });
  }
  for_each_task<BackwardScratch<T>>(tasks, threads, p, [&](BackwardScratch<T>& x, std::int64_t task) {
    const BlockList::Place place = blocks.place(task / p.heads);
    dslopes[task] = dq_block<S>(run, place.batch, task % p.heads, place.first_row, x);
  });

  const BlockList key_blocks(p.batch, [&](std::int64_t batch) { return keys_held(p, batch); });
  for_each_task<BackwardScratch<T>>(key_blocks.size() * p.heads_k, threads, p,
                                    [&](BackwardScratch<T>& x, std::int64_t task) {
                                      const BlockList::Place place = key_blocks.place(task / p.heads_k);
                                      dkv_block<S>(run, place.batch, task % p.heads_k, place.first_row, x);
                                    });
  if (b.dbias != nullptr) {
    const BiasBlocks bias_blocks(b);
    for_each_task<BiasScratch<T>>(bias_blocks.size(), threads, p,
                                  [&](BiasScratch<T>& x, std::int64_t task) { dbias_block<S>(run, bias_blocks[task], x); });
  }

  // What tasks left to be summed, in the order of the blocks.
  const auto sum_blocks = [&](const std::vector<double>& shares, std::int64_t head, std::int64_t first, std::int64_t end) {
    double sum = 0;
    for (std::int64_t n = first; n < end; ++n) sum += shares[static_cast<std::size_t>(n * p.heads + head)];
    return sum;
  };
  for (std::int64_t head = 0; head < p.heads; ++head) {
    if (b.dsink != nullptr)
      store_scalar(b.dsink, b.dsink_type, head * b.dsink_head, sum_blocks(dsink, head, 0, blocks.size()));
    if (b.dalibi_slopes == nullptr) continue;
    const std::int64_t at = head * b.dalibi_head;
    if (b.alibi_sums_batch) {
      store_scalar(b.dalibi_slopes, b.dalibi_type, at, sum_blocks(dslopes, head, 0, blocks.size()));
    } else {
      for (std::int64_t batch = 0; batch < p.batch; ++batch) {
        store_scalar(b.dalibi_slopes, b.dalibi_type, at + batch * b.dalibi_batch,
                     sum_blocks(dslopes, head, blocks.first(batch), blocks.first(batch + 1)));
      }
    }
  }
}

// ---- the table ----

std::size_t no_workspace_forward(const Kernel&, const FmhaDescriptor&, int) { return 0; }
std::size_t no_workspace_backward(const Kernel&, const FmhaBackwardDescriptor&, bool) { return 0; }

template <typename S, typename T>
constexpr Kernel entry(DType operand, Pass pass) {
  Kernel kernel{};  // what the host has no use for stays zero
  kernel.pass = pass;
  kernel.arch = Arch::host;
  kernel.operand = operand;
  kernel.math = Math::strict;
  kernel.tile_m = kernel.tile_n = static_cast<int>(block);
  kernel.blocks_by_registers = 1;
  if (pass == Pass::forward) {
    kernel.run_forward = run_forward<S, T>;
    kernel.workspace_forward = no_workspace_forward;
  } else {
    kernel.run_backward = run_backward<S, T>;
    kernel.workspace_backward = no_workspace_backward;
  }
  return kernel;
}

constexpr Kernel kernels[] = {
    entry<Half, float>(DType::f16, Pass::forward),      entry<Half, float>(DType::f16, Pass::backward),
    entry<BFloat16, float>(DType::bf16, Pass::forward), entry<BFloat16, float>(DType::bf16, Pass::backward),
    entry<float, float>(DType::f32, Pass::forward),     entry<float, float>(DType::f32, Pass::backward),
    entry<double, double>(DType::f64, Pass::forward),   entry<double, double>(DType::f64, Pass::backward),
};

}  // namespace

const KernelTable fmha_host_kernels = {kernels, sizeof kernels / sizeof kernels[0]};

}  // namespace cutplan::fmha
