// mma.sync by element type. Of its 16 x 8 sums lane l of the warp holds columns 2 (l % 4) and 2 (l % 4) + 1 of rows l / 4 and
// l / 4 + 8.
#pragma once

#include <cutlass/numeric_types.h>
#include <cute/arch/mma_sm80.hpp>
#include <cute/arch/mma_sm89.hpp>

#include <cstdint>
#include <type_traits>

namespace cutplan::sm80 {

/// d += A B, m16n8k16, with 16-bit elements.
template <typename Element>
__device__ __forceinline__ void mma(float* d, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  using Mma = std::conditional_t<std::is_same_v<Element, cutlass::half_t>, cute::SM80_16x8x16_F32F16F16F32_TN,
                                 cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  Mma::fma(d[0], d[1], d[2], d[3], a[0], a[1], a[2], a[3], b0, b1, d[0], d[1], d[2], d[3]);
}

/// m16n8k32, with int8. d: int32 sums, in the bits of floats.
__device__ __forceinline__ void mma_int8(float* d, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  std::int32_t sum[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) sum[i] = __float_as_int(d[i]);
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#pragma unroll
  for (int i = 0; i < 4; ++i) d[i] = __int_as_float(sum[i]);
}

/// m16n8k32, with fp8 A and B: compute capability 8.9 and after it.
template <typename A, typename B>
__device__ __forceinline__ void mma_fp8(float* d, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  constexpr bool kNarrowA = std::is_same_v<A, cutlass::float_e4m3_t>, kNarrowB = std::is_same_v<B, cutlass::float_e4m3_t>;
  using Mma = std::conditional_t<
      kNarrowA, std::conditional_t<kNarrowB, cute::SM89_16x8x32_F32E4M3E4M3F32_TN, cute::SM89_16x8x32_F32E4M3E5M2F32_TN>,
      cute::SM89_16x8x32_F32E5M2E4M3F32_TN>;
  Mma::fma(d[0], d[1], d[2], d[3], a[0], a[1], a[2], a[3], b0, b1, d[0], d[1], d[2], d[3]);
}

}  // namespace cutplan::sm80
