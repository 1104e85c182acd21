// The host backend's kernels, and how many roundings their results take: what their error bounds are made of.
//
// "Roundings" are unit roundoffs of the accumulator, float for f16, bf16 and f32, double for f64, to first order.
#pragma once

#include <cstdint>

#include "fmha/kernel.hpp"

namespace cutplan::fmha {

extern const KernelTable fmha_host_kernels;

/// Queries and keys of a block, and the length of the slices in which everything is summed: a multiple of every register
/// tile's height and width, and of the eight keys that share one draw of dropout.
inline constexpr std::int64_t host_block = 96;

/// Terms are summed in order within slices of host_block, and the slices' sums in order: so a sum of `length` terms is off
/// by at most this many roundings, relative to the sum of their magnitudes. Sums over head dimensions (`length` = D or Dv),
/// over keys (Sk, for O, for the softmax's denominator and for dQ) and over the queries of a group of heads (Sq and H / Hk,
/// for dK and dV) all go this way.
constexpr std::int64_t host_sum_roundings(std::int64_t length, std::int64_t group = 1) {
  const std::int64_t slices = group * ((length + host_block - 1) / host_block);
  return (length < host_block ? length : host_block) + (slices > 0 ? slices - 1 : 0);
}

/// Of a score in the exponent, relative to score_magnitude: the product of q and k; the scale and its product (2); the soft
/// cap: itself, its quotient, tanh at up to 4 ulp, its product (11); ALiBi: the distance, its product, the difference (3);
/// adding the bias (1). Then, before the exponential: the forward's log2(e), its product and the difference from the row's
/// reference, which is no larger than the largest score and 1 (4); the backward's difference from LSE takes 2 of these.
constexpr std::int64_t host_score_roundings(std::int64_t dim) { return host_sum_roundings(dim) + 21; }

/// Of a weight, relative to itself and besides the score's: exp2 or exp at up to 4 ulp (8), rounding the reference up (1),
/// the keep factor of dropout and its product (2).
inline constexpr int host_weight_roundings = 11;

/// The backward's weights also carry this much per unit of log(1 + Sk), by which LSE may exceed the largest score or sink:
/// for them score_magnitude is at least |sink|. LSE comes rounded to float32, which adds half a float32 ulp of LSE to the
/// exponent, whatever the accumulator.
inline constexpr int host_lse_roundings = 1;

/// Of O after its sums: in double, then rounded to the accumulator; the sink's weight is added in double.
inline constexpr int host_output_roundings = 2;

/// Of a score's gradient P (dP - D), relative to P (sum_c |g_ic v_jc| keep + sum_c |g_ic o_ic|) and besides those of P and
/// of dP's sum: dP's keep factor (2), rounding D (1), the difference and the product (2), the soft cap's slope 1 - tanh^2
/// and its product (11). The slope also moves with the score: by up to 0.77 / softcap per unit of the score's absolute
/// error.
inline constexpr int host_gradient_roundings = 16;

/// D is summed in double, which takes this many roundings of double.
constexpr std::int64_t host_delta_roundings(std::int64_t dim_v) { return dim_v; }

/// After dQ's and dK's sums: the scale and its product.
inline constexpr int host_scale_roundings = 2;

/// dbias, dalibi_slopes and dsink are summed in double: at most this many roundings of double for a sum over `blocks` blocks
/// of host_block queries and host_block keys, then one of float.
constexpr std::int64_t host_double_sum_roundings(std::int64_t blocks) { return 2 * host_block + blocks; }

}  // namespace cutplan::fmha
