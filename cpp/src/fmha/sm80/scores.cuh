// Scores one at a time, in plain arithmetic: from a dot product to a logit with every option; rows whose scores are too large
// for what the kernels for tiles (forward.cuh, backward.cuh) do to whole fragments, or whose weights a float32 LSE cannot
// tell.
#pragma once

#include <cutlass/numeric_types.h>

#include <cstdint>
#include <limits>

#include "core/sm80/warp.cuh"
#include "fmha/score.hpp"

namespace cutplan::fmha::sm80 {

template <typename T>
__device__ constexpr T infinity() {
  return static_cast<T>(__builtin_huge_val());
}

/// Element i of an operand whose type is known at run time.
template <typename T>
__device__ __forceinline__ T load(const void* data, DType type, std::int64_t i) {
  switch (type) {
    case DType::f64: return static_cast<T>(static_cast<const double*>(data)[i]);
    case DType::f16: return static_cast<T>(static_cast<float>(static_cast<const cutlass::half_t*>(data)[i]));
    case DType::bf16: return static_cast<T>(static_cast<float>(static_cast<const cutlass::bfloat16_t*>(data)[i]));
    default: return static_cast<T>(static_cast<const float*>(data)[i]);  // the table of operands admits no other type
  }
}

template <typename T>
__device__ __forceinline__ void store(void* data, DType type, std::int64_t i, T x) {
  switch (type) {
    case DType::f64: static_cast<double*>(data)[i] = static_cast<double>(x); break;
    case DType::f16: static_cast<cutlass::half_t*>(data)[i] = cutlass::half_t(static_cast<float>(x)); break;
    case DType::bf16: static_cast<cutlass::bfloat16_t*>(data)[i] = cutlass::bfloat16_t(static_cast<float>(x)); break;
    default: static_cast<float*>(data)[i] = static_cast<float>(x);
  }
}

/// The scores of one head of one sequence.
template <typename T>
struct HeadScores {
  std::int64_t batch, head;
  Sequence sequence;
  T scale, softcap, slope;
  std::int64_t bias, mask;  // where this head's start

  __device__ HeadScores(const Problem& p, const Sequence& s, std::int64_t batch, std::int64_t head)
      : batch(batch), head(head), sequence(s), scale(static_cast<T>(p.scale)), softcap(static_cast<T>(p.softcap)) {
    slope = p.alibi_slopes != nullptr ? load<T>(p.alibi_slopes, p.alibi_type, batch * p.alibi_batch + head * p.alibi_head)
                                      : T(0);
    bias = batch * p.bias_strides.batch + head * p.bias_strides.head;
    mask = batch * p.mask_strides.batch + head * p.mask_strides.head;
  }

  /// i + off - j.
  __device__ std::int64_t distance(std::int64_t i, std::int64_t j) const { return i + sequence.offset - j; }

  /// From a dot product; -inf for a key that takes no part. `derivative`: of the capped score by the dot product.
  __device__ T logit(const Problem& p, T dot, std::int64_t i, std::int64_t j, T& derivative) const {
    const std::int64_t d = distance(i, j);
    derivative = scale;
    if (i >= sequence.len_q || j >= sequence.len_k || d > p.left || -d > p.right) return -infinity<T>();
    if (p.mask != nullptr && p.mask[mask + i * p.mask_strides.row + j * p.mask_strides.col] == 0) return -infinity<T>();
    T x = dot * scale;
    if (softcap > 0) {
      const T t = tanh(x / softcap);
      x = softcap * t;
      derivative *= (1 - t) * (1 + t);
    }
    x -= slope * static_cast<T>(d < 0 ? -d : d);
    if (p.bias != nullptr) {
      const T added = load<T>(p.bias, p.bias_type, bias + i * p.bias_strides.row + j * p.bias_strides.col), sum = x + added;
      // -inf alone hides a key: the sum of two numbers is a number.
      x = isinf(sum) && isfinite(x) && isfinite(added) ? copysign(std::numeric_limits<T>::max(), sum) : sum;
    }
    return x;
  }
};

/// Which sequence holds row `i` of packed ones, and its first row. False: none.
__device__ inline bool find_row(const Problem& p, std::int64_t i, std::int64_t& batch, std::int64_t& first) {
  for (batch = 0; batch < p.batch; ++batch) {
    const Sequence s = sequence(p, batch);
    first = s.first_q;
    if (i >= s.first_q && i < s.first_q + s.len_q) return true;
  }
  return false;
}

/// O and LSE of one row of a 16-bit problem, by all lanes of a warp: scores relative to the largest before anything is
/// rounded, and nothing that is hidden is multiplied. Never inlined, like far_row() below: it is hardly ever called, and its
/// registers are not to be those of its callers.
static __device__ __noinline__ void attend_row(const Problem& p, std::int64_t batch, std::int64_t head, std::int64_t i) {
  constexpr int kColumns = 8;  // of a lane: 256
  const Sequence s = sequence(p, batch);
  const HeadScores<float> scores(p, s, batch, head);
  const int lane = threadIdx.x % 32;
  const std::int64_t head_k = static_cast<std::uint32_t>(head) /
                              (static_cast<std::uint32_t>(p.heads) / static_cast<std::uint32_t>(p.heads_k)),
                     begin = first_key(p, s, i), end = end_key(p, s, i),
                     q = batch * p.q_strides.batch + head * p.q_strides.head + (s.first_q + i) * p.q_strides.row,
                     k = batch * p.k_strides.batch + head_k * p.k_strides.head + s.first_k * p.k_strides.row,
                     v = batch * p.v_strides.batch + head_k * p.v_strides.head + s.first_k * p.v_strides.row;
  const auto score = [&](std::int64_t j) {
    float derivative;
    if (j >= end || scores.logit(p, 0, i, j, derivative) == -infinity<float>()) return -infinity<float>();
    float dot = 0;
    for (std::int64_t c = 0; c < p.dim; ++c)
      dot += load<float>(p.q, p.operand, q + c) * load<float>(p.k, p.operand, k + j * p.k_strides.row + c);
    return scores.logit(p, dot, i, j, derivative);
  };
  const float sink = p.sink != nullptr ? load<float>(p.sink, p.sink_type, head * p.sink_head) : -infinity<float>();
  float largest = sink, sum = 0, o[kColumns] = {};
#pragma unroll 1
  for (std::int64_t j0 = begin; j0 < end; j0 += 32) {
    const std::int64_t own = j0 + lane;
    const float x = score(own),
                now = fmaxf(largest, cutplan::sm80::reduce_lanes(x, [](float x, float y) { return fmaxf(x, y); })),
                shrink = largest == -infinity<float>() ? 0 : expf(largest - now);
    float weight = x == -infinity<float>() ? 0 : expf(x - now);
    sum = sum * shrink + weight;
    largest = now;
    if (p.rng_state != nullptr) {
      const Dropout dropout = Dropout::of(p.rng_state, batch * p.heads + head);
      if (Dropout::bits(dropout.group(i, own / 8), static_cast<int>(own % 8)) >= p.keep_threshold) weight = 0;
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) o[c] *= shrink;
#pragma unroll 1
    for (int t = 0; t < 32; ++t) {
      const float of_key = __shfl_sync(~0u, weight, t);
      if (of_key == 0) continue;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if (c * 32 + lane < p.dim_v)
          o[c] = fmaf(of_key, load<float>(p.v, p.operand, v + (j0 + t) * p.v_strides.row + c * 32 + lane), o[c]);
      }
    }
  }
  sum = cutplan::sm80::sum_lanes(sum);
  if (sink != -infinity<float>()) sum += expf(sink - largest);
  const float factor = sum == 0 ? 0 : p.keep_scale / sum;
  const std::int64_t to = batch * p.o_strides.batch + head * p.o_strides.head + (s.first_q + i) * p.o_strides.row;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if (c * 32 + lane < p.dim_v) store(p.o, p.o_type, to + c * 32 + lane, o[c] * factor);
  }
  if (lane == 0 && p.lse != nullptr)
    p.lse[batch * p.lse_batch + head * p.lse_head + s.first_q + i] = sum == 0 ? -infinity<float>() : largest + logf(sum);
}

/// From this magnitude on LSE, a float32 number, tells a weight less exactly than 16-bit formats hold it, and far beyond not at
/// all.
inline constexpr float kFarLse = 32768;

/// How the backward finds the weights of one row: exp(min(score - reference, 0) - log_sum), which never exceeds 1.
/// Ordinarily the reference is LSE and log_sum 0. A row whose LSE is far from 0 is gone through once more: its reference is
/// its largest score less what two ways of rounding the same score may differ by, so that whoever computed it, the largest
/// score has the weight that is its due.
template <typename T>
struct RowWeights {
  T reference, log_sum;

  __device__ T exponent(T score) const {
    const T beyond = score - reference;
    return (beyond > 0 ? T(0) : beyond) - log_sum;  // NaN stays one
  }
};

/// The weights of a row far from 0; by all lanes of a warp. `lse`: as it was given; what it is summed over beyond the keys of
/// this call counts too. `rounding` bounds the error of a dot product, relative to the sum
/// of its terms' magnitudes. log_sum is infinite for a row without keys.
template <typename T>
__device__ __noinline__ RowWeights<T> far_row(const Problem& p, std::int64_t batch, std::int64_t head, std::int64_t i, T lse,
                                              T rounding) {
  const Sequence s = sequence(p, batch);
  const HeadScores<T> scores(p, s, batch, head);
  const std::int64_t q = batch * p.q_strides.batch + head * p.q_strides.head + (s.first_q + i) * p.q_strides.row,
                     k = batch * p.k_strides.batch + head / (p.heads / p.heads_k) * p.k_strides.head +
                         s.first_k * p.k_strides.row;
  const auto each = [&](const auto& use) {
    for (std::int64_t j = first_key(p, s, i) + threadIdx.x % 32; j < end_key(p, s, i); j += 32) {
      T dot = 0, magnitude = 0, derivative;
      for (std::int64_t c = 0; c < p.dim; ++c) {
        const T term = load<T>(p.q, p.operand, q + c) * load<T>(p.k, p.operand, k + j * p.k_strides.row + c);
        dot += term;
        magnitude += abs(term);
      }
      const T score = scores.logit(p, dot, i, j, derivative);
      if (score != -infinity<T>()) use(score, abs(scores.scale) * magnitude);
    }
  };
  const T sink = p.sink != nullptr ? load<T>(p.sink, p.sink_type, head * p.sink_head) : -infinity<T>();
  T largest = sink, magnitude = 0;
  each([&](T score, T of_terms) {
    largest = max(largest, score);
    magnitude = max(magnitude, of_terms);
  });
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    largest = max(largest, __shfl_xor_sync(~0u, largest, lane));
    magnitude = max(magnitude, __shfl_xor_sync(~0u, magnitude, lane));
  }
  const T of_sum = sizeof(T) > sizeof(float) ? T(0x1p-51) : T(0x1p-22);
  const T tolerance = rounding * magnitude + of_sum * abs(largest);
  RowWeights<T> row{max(largest - tolerance, -std::numeric_limits<T>::max()), 0};
  T sum = 0;
  each([&](T score, T) { sum += exp(row.exponent(score)); });
  sum = cutplan::sm80::sum_lanes(sum);
  if (sink != -infinity<T>()) sum += exp(row.exponent(sink));
  row.log_sum = sum == 0 ? infinity<T>() : log(sum);
  // At most the LSE of these keys, as this function rounds scores: above it by more, the LSE given has others.
  const T own = largest + row.log_sum;
  if (abs(own) <= T(std::numeric_limits<float>::max()) && lse - own > tolerance + T(0x1p-22) * abs(lse))
    row.log_sum += lse - own;
  return row;
}

}  // namespace cutplan::fmha::sm80
