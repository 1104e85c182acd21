// Host backend of the ops around attention, in portable C++: a task is one head of one batch entry, or some of its rows. Float32
// arithmetic, float64 where operands are; sums in float64.
#include "attention_ops/host.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <vector>

#include "attention_ops/place.hpp"
#include "core/fp8.hpp"
#include "core/half.hpp"
#include "core/parallel.hpp"

namespace cutplan::attention_ops {
namespace {

using std::int64_t;

constexpr int64_t rows_of_task = 64;

/// Calls work(batch, head, first row, its end) for all rows, some to a task.
template <typename Work>
void for_rows(int64_t batch, int64_t heads, int64_t rows, int threads, const Work& work) {
  const int64_t pieces = ceil_div(rows, rows_of_task);
  parallel_tasks(batch * heads * pieces, threads, [&](const std::function<int64_t()>& next) {
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t first = task % pieces * rows_of_task, batch_head = task / pieces;
      work(batch_head / heads, batch_head % heads, first, std::min(rows, first + rows_of_task));
    }
  });
}

// ---- merging of states ----

template <typename T>
void merge(const MergeProblem& p, const Launch& launch) {
  for_rows(p.batch, p.heads, p.rows, launch.sm_count, [&](int64_t batch, int64_t head, int64_t first, int64_t end) {
    std::vector<float> weights(static_cast<std::size_t>(p.parts));
    std::vector<const T*> o(weights.size());
    std::vector<float> sums(static_cast<std::size_t>(p.dim));
    for (int64_t row = first; row < end; ++row) {
      float largest = -std::numeric_limits<float>::infinity();
      for (int64_t part = 0; part < p.parts; ++part) {
        const bool is_second = p.o2 != nullptr && part == 1;
        const float* lse = is_second ? p.lse2 + at(p.lse2_strides, batch, head, row)
                                     : p.lse + part * p.of_part_lse + at(p.lse_strides, batch, head, row);
        const auto i = static_cast<std::size_t>(part);
        o[i] = is_second ? static_cast<const T*>(p.o2) + at(p.o2_strides, batch, head, row)
                         : static_cast<const T*>(p.o.data) + part * p.of_part + at(p.o.strides, batch, head, row);
        weights[i] = *lse;
        if (largest == largest && !(*lse <= largest)) largest = *lse;  // NaN stays
      }
      const bool empty = largest == -std::numeric_limits<float>::infinity();
      float sum = 0;
      for (float& weight : weights) {
        weight = empty ? 0.0f : weight == largest ? 1.0f : std::exp(weight - largest);
        sum += weight;
      }
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (std::size_t part = 0; part < weights.size(); ++part) {
        if (weights[part] == 0) continue;  // whatever its o holds
        for (int64_t c = 0; c < p.dim; ++c)
          sums[static_cast<std::size_t>(c)] += weights[part] * static_cast<float>(o[part][c]);
      }
      const float factor = empty ? 0 : 1 / sum;
      const int64_t to = at(p.out.strides, batch, head, row);
      for (int64_t c = 0; c < p.dim; ++c) {
        const float value = sums[static_cast<std::size_t>(c)] * factor;
        if (p.o_type == DType::f32) {
          static_cast<float*>(p.out.data)[to + c] = value;
        } else {
          static_cast<T*>(p.out.data)[to + c] = T(value);
        }
      }
      if (p.out_lse != nullptr)
        p.out_lse[at(p.out_lse_strides, batch, head, row)] = empty ? largest : largest + std::log(sum);
    }
  });
}

// ---- ALiBi ----

/// Of key `col` from query `row`.
template <typename S>
S distance(const AlibiProblem& p, int64_t row, int64_t col) {
  const int64_t d = col - row - p.offset;
  return static_cast<S>(p.absolute ? -std::abs(d) : d);
}

int64_t at(const int64_t (&s)[4], int64_t batch, int64_t head, int64_t row) {
  return batch * s[0] + head * s[1] + row * s[2];
}

/// S: what is computed in, and the type of slopes.
template <typename T, typename S>
void alibi(const AlibiProblem& p, const Launch& launch) {
  for_rows(p.batch, p.heads, p.rows, launch.sm_count, [&](int64_t batch, int64_t head, int64_t first, int64_t end) {
    const S slope = static_cast<const S*>(p.slopes)[head * p.slopes_stride];
    for (int64_t row = first; row < end; ++row) {
      const T* x = static_cast<const T*>(p.x) + at(p.x_strides, batch, head, row);
      T* y = static_cast<T*>(p.y) + at(p.y_strides, batch, head, row);
      for (int64_t col = 0; col < p.cols; ++col)
        y[col * p.y_strides[3]] = T(static_cast<S>(x[col * p.x_strides[3]]) + slope * distance<S>(p, row, col));
    }
  });
}

template <typename T, typename S>
void alibi_backward(const AlibiProblem& p, const Launch& launch) {
  parallel_tasks(p.heads, launch.sm_count, [&](const std::function<int64_t()>& next) {
    for (int64_t head; (head = next()) >= 0;) {
      double sum = 0;
      for (int64_t batch = 0; batch < p.batch; ++batch) {
        for (int64_t row = 0; row < p.rows; ++row) {
          const T* x = static_cast<const T*>(p.x) + at(p.x_strides, batch, head, row);
          T* y = static_cast<T*>(p.y) + at(p.y_strides, batch, head, row);
          for (int64_t col = 0; col < p.cols; ++col) {
            const T gradient = x[col * p.x_strides[3]];
            sum += static_cast<double>(gradient) * distance<double>(p, row, col);
            if (p.y != nullptr) y[col * p.y_strides[3]] = gradient;
          }
        }
      }
      if (p.dslopes != nullptr) static_cast<S*>(p.dslopes)[head * p.dslopes_stride] = static_cast<S>(sum);
    }
  });
}

// ---- rotary embedding ----

/// The sine and cosine of a fraction of a turn.
template <typename S>
void sincos_of_turns(std::uint64_t turns, S& sine, S& cosine) {
  const auto angle =
      static_cast<S>(static_cast<double>(static_cast<int64_t>(turns)) * (2 * 3.14159265358979323846 * 0x1p-64));
  sine = std::sin(angle);
  cosine = std::cos(angle);
}

template <typename T, typename S>
void rope(const RopeProblem& p, const Launch& launch) {
  const int64_t pairs = p.pairs, batches = p.packed ? 1 : p.batch;
  for_rows(batches, 1, p.rows, launch.sm_count, [&](int64_t batch, int64_t, int64_t first, int64_t end) {
    std::vector<S> sines(static_cast<std::size_t>(pairs)), cosines(sines.size());
    for (int64_t row = first; row < end; ++row) {
      const int64_t own_position = position(p, batch, row);
      for (int64_t i = 0; i < pairs; ++i) {
        S &sine = sines[static_cast<std::size_t>(i)], &cosine = cosines[static_cast<std::size_t>(i)];
        if (p.tables.cos != nullptr) {
          sincos_of_table(p.tables, own_position, i, sine, cosine);
        } else {
          sincos_of_turns(static_cast<std::uint64_t>(own_position) * p.turns->of_pair[i], sine, cosine);
          sine *= static_cast<S>(p.turns->factor);
          cosine *= static_cast<S>(p.turns->factor);
        }
        if (p.backward) sine = -sine;
      }
      const auto turn = [&](const Heads& from, const Heads& to, int64_t heads) {
        for (int64_t head = 0; head < heads; ++head) {
          const T* x = static_cast<const T*>(from.data) + at(from.strides, batch, head, row);
          T* y = static_cast<T*>(to.data) + at(to.strides, batch, head, row);
          for (int64_t i = 0; i < pairs; ++i) {
            const int64_t a = p.interleaved ? 2 * i : i, b = p.interleaved ? 2 * i + 1 : i + pairs;
            const S xa = static_cast<S>(x[a]), xb = static_cast<S>(x[b]), sine = sines[static_cast<std::size_t>(i)],
                    cosine = cosines[static_cast<std::size_t>(i)];
            y[a] = T(xa * cosine - xb * sine);
            y[b] = T(xb * cosine + xa * sine);
          }
          if (y != x) std::copy(x + 2 * pairs, x + p.dim, y + 2 * pairs);
        }
      };
      for (int tensor = 0; tensor < p.tensors; ++tensor) turn(p.from[tensor], p.to[tensor], p.heads[tensor]);
    }
  });
}

// ---- caches of keys and values ----

template <typename T>
void store_quantised(void* to, int64_t i, DType type, T x) {
  const auto value = static_cast<float>(x);
  switch (type) {
    case DType::fp8_e4m3: static_cast<E4M3*>(to)[i] = E4M3(value); return;
    case DType::fp8_e5m2: static_cast<E5M2*>(to)[i] = E5M2(value); return;
    case DType::i8:
      static_cast<std::int8_t*>(to)[i] =
          std::isnan(value) ? 0 : static_cast<std::int8_t>(std::nearbyint(std::clamp(value, -128.0f, 127.0f)));
      return;
    default: refuse_unexpected_type(type);
  }
}

template <typename T, typename S>
void append(const AppendProblem& p, const Launch& launch) {
  std::atomic<std::int32_t> rejected{0};
  for_rows(p.packed ? 1 : p.batch, 1, p.rows, launch.sm_count, [&](int64_t batch, int64_t, int64_t first, int64_t end) {
    std::vector<T> turned(static_cast<std::size_t>(std::max(p.dim[p.k], p.dim[p.v])));
    for (int64_t row = first; row < end; ++row) {
      int64_t sequence, position, outer = 0, inner = 0;
      const bool fits = find_position(p, batch, row, sequence, position) && find_row(p, sequence, position, outer, inner);
      if (!fits && p.heads[p.k] > 0) rejected.fetch_add(1, std::memory_order_relaxed);
      for (int tensor = 0; tensor < p.tensors; ++tensor) {
        const bool is_q = tensor == p.q;
        if (!is_q && !fits) continue;
        const int64_t pairs = p.pairs[tensor], dim = p.dim[tensor];
        for (int64_t head = 0; head < p.heads[tensor]; ++head) {
          const Heads &from = p.from[tensor], &to = p.to[tensor];
          const T* const x = static_cast<const T*>(from.data) + at(from.strides, batch, head, row);
          T* const y = turned.data();
          std::copy(x, x + dim, y);
          for (int64_t i = 0; i < pairs; ++i) {
            const int64_t a = p.interleaved ? 2 * i : i, b = p.interleaved ? 2 * i + 1 : i + pairs;
            const S xa = static_cast<S>(x[a]), xb = static_cast<S>(x[b]);
            S sine, cosine;
            sincos_of_table(p.tables, position, i, sine, cosine);
            y[a] = T(xa * cosine - xb * sine);
            y[b] = T(xb * cosine + xa * sine);
          }
          const int64_t place = is_q ? at(to.strides, batch, head, row) : at(to.strides, outer, head, inner);
          if (is_q || p.scale[tensor] == nullptr) {
            std::copy(y, y + dim, static_cast<T*>(to.data) + place);
          } else {
            const auto scale = static_cast<S>(p.scale[tensor][head * p.scale_stride[tensor]]);
            for (int64_t c = 0; c < dim; ++c)
              store_quantised(to.data, place + c, p.cache_type, static_cast<S>(y[c]) / scale);
          }
        }
      }
    }
  });
  if (p.rejected != nullptr) *p.rejected += rejected.load();
  for (int64_t batch = 0; p.lengths_out.data != nullptr && batch < p.batch; ++batch)
    set(p.lengths_out, batch, length(p, batch));
}

// ---- the table ----

constexpr Kernel kernels[] = {
    kernel(Op::merge_states, Arch::host, DType::f16, merge<Half>),
    kernel(Op::merge_states, Arch::host, DType::bf16, merge<BFloat16>),
    kernel(Op::merge_states, Arch::host, DType::f32, merge<float>),
    kernel(Op::alibi, Arch::host, DType::f16, alibi<Half, float>),
    kernel(Op::alibi, Arch::host, DType::bf16, alibi<BFloat16, float>),
    kernel(Op::alibi, Arch::host, DType::f32, alibi<float, float>),
    kernel(Op::alibi, Arch::host, DType::f64, alibi<double, double>),
    kernel(Op::alibi_backward, Arch::host, DType::f16, alibi_backward<Half, float>),
    kernel(Op::alibi_backward, Arch::host, DType::bf16, alibi_backward<BFloat16, float>),
    kernel(Op::alibi_backward, Arch::host, DType::f32, alibi_backward<float, float>),
    kernel(Op::alibi_backward, Arch::host, DType::f64, alibi_backward<double, double>),
    kernel(Op::rope, Arch::host, DType::f16, rope<Half, float>),
    kernel(Op::rope, Arch::host, DType::bf16, rope<BFloat16, float>),
    kernel(Op::rope, Arch::host, DType::f32, rope<float, float>),
    kernel(Op::rope, Arch::host, DType::f64, rope<double, double>),
    kernel(Op::kv_cache_append, Arch::host, DType::f16, append<Half, float>),
    kernel(Op::kv_cache_append, Arch::host, DType::bf16, append<BFloat16, float>),
    kernel(Op::kv_cache_append, Arch::host, DType::f32, append<float, float>),
    kernel(Op::kv_cache_append, Arch::host, DType::f64, append<double, double>),
};

}  // namespace

const KernelTable attention_ops_host_kernels = {kernels, std::size(kernels)};

}  // namespace cutplan::attention_ops
