// The host backend's kernels.
#pragma once

#include <cstdint>

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

extern const KernelTable gemm_host_kernels;

/// Products are summed in order within slices of this many k, and the slices' sums in order: so one element of A B is off by
/// at most host_sum_roundings(k) roundings of the accumulator, relative to sum_k |a_ik b_kj|.
inline constexpr std::int64_t host_slice_k = 256;

constexpr std::int64_t host_sum_roundings(std::int64_t k) {
  const std::int64_t slices = (k + host_slice_k - 1) / host_slice_k;
  return slices <= 1 ? k : host_slice_k + slices - 1;
}

/// Roundings after the sum: alpha and its product, beta's product, adding C, adding bias; beta itself. Scales and a residual
/// have theirs besides.
inline constexpr int host_epilogue_roundings = 4;

/// Error of evaluating any activation, in unit roundoffs of the accumulator relative to its argument: the argument of
/// exp or erfc, the C library's function at up to 4 ulp, and the product or quotient.
inline constexpr int host_activation_roundings = 12;

/// Absolute error of an activation's derivative, in the same units: two terms of at most 1.2 with those steps each.
inline constexpr int host_derivative_roundings = 24;

}  // namespace cutplan::gemm
