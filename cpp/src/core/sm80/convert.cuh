// Conversions between float32 and 16-bit elements, of a type that is known at compile time or at run time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cutlass/numeric_types.h>

#include <cstdint>
#include <type_traits>

#include "cutplan/dtype.hpp"

namespace cutplan::sm80 {

template <typename Element>
inline constexpr DType dtype_of = std::is_same_v<Element, cutlass::half_t> ? DType::f16 : DType::bf16;

/// Two floats as one register of 16-bit elements, `low` in the lower half.
template <typename Element>
__device__ __forceinline__ std::uint32_t narrow(float low, float high) {
  std::uint32_t r;
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  }
  return r;
}

__device__ __forceinline__ std::uint32_t narrow_pair(DType type, float low, float high) {
  if (type == DType::f16) {
    const __half2 h = __floats2half2_rn(low, high);
    return reinterpret_cast<const std::uint32_t&>(h);
  }
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(h);
}

template <typename Element>
__device__ __forceinline__ float widen_low(std::uint32_t r) {
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    float x;
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(x) : "r"(r));
    return x;
  } else {
    return __uint_as_float(r << 16);
  }
}

template <typename Element>
__device__ __forceinline__ float widen_high(std::uint32_t r) {
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    return widen_low<Element>(r >> 16);
  } else {
    return __uint_as_float(r & 0xffff0000u);
  }
}

__device__ __forceinline__ float widen(DType type, std::uint16_t bits) {
  return type == DType::f16 ? __half2float(__ushort_as_half(bits)) : __bfloat162float(__ushort_as_bfloat16(bits));
}

}  // namespace cutplan::sm80
