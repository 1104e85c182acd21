// mma.sync by element type. Of its 16 x 8 sums lane l of the warp holds columns 2 (l % 4) and 2 (l % 4) + 1 of rows l / 4 and
// l / 4 + 8.
#pragma once

#include <cutlass/numeric_types.h>
#include <cute/arch/mma_sm80.hpp>

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

}  // namespace cutplan::sm80
