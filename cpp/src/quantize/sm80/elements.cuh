// Elements and data in pieces of adjacent ones: how they are loaded and stored, and turned into each other.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

#include "core/fp8.hpp"
#include "core/sm80/convert.cuh"
#include "quantize/coder.hpp"

namespace cutplan::quantize::sm80 {

/// Packed: two to a byte.
struct Int4 {};

template <typename Code>
inline constexpr DType type_of = std::is_same_v<Code, Int4>          ? DType::i4
                                 : std::is_same_v<Code, std::int8_t> ? DType::i8
                                 : std::is_same_v<Code, E4M3>        ? DType::fp8_e4m3
                                                                     : DType::fp8_e5m2;
template <typename Code>
inline constexpr bool is_integer = std::is_same_v<Code, Int4> || std::is_same_v<Code, std::int8_t>;
template <typename Code>
inline constexpr int per_byte = std::is_same_v<Code, Int4> ? 2 : 1;

/// Elements that move at once: 16 bytes, or what a byte of data has.
template <typename Element, typename Code, bool kWide>
inline constexpr int width = kWide ? 16 / static_cast<int>(sizeof(Element)) : per_byte<Code>;

/// What follows from x is computed anew: addresses cost fewer instructions than registers, while pieces wait for their scale.
__device__ __forceinline__ void forget(int& x) { asm volatile("" : "+r"(x)); }

__device__ __forceinline__ void join(Range& range, const Range& other) {
  range.below = fmaxf(range.below, other.below);
  range.above = fmaxf(range.above, other.above);
}

// ---- elements ----

/// As they are loaded: in words of 32 bits where there are 16 bytes of them.
template <typename Element, int kWidth>
struct Piece {
  static constexpr bool kWide = kWidth * sizeof(Element) == 16;
  static constexpr int kOfWord = 4 / static_cast<int>(sizeof(Element));
  std::conditional_t<kWide, uint4, float> x[kWide ? 1 : kWidth];

  __device__ __forceinline__ std::uint32_t word(int i) const {
    return i == 0 ? x[0].x : i == 1 ? x[0].y : i == 2 ? x[0].z : x[0].w;
  }

  /// The first `count`; 0 beyond them.
  __device__ __forceinline__ void load(const Element* from, int count) {
    if constexpr (kWide) {
      x[0] = {};
      if (count >= kWidth) {
        x[0] = __ldg(reinterpret_cast<const uint4*>(from));
      } else if (count > 0) {
        std::uint32_t words[4] = {};
        using Bits = std::conditional_t<sizeof(Element) == 2, std::uint16_t, std::uint32_t>;
#pragma unroll
        for (int e = 0; e < kWidth - 1; ++e) {
          if (e < count)
            words[e / kOfWord] |= std::uint32_t{__ldg(reinterpret_cast<const Bits*>(from) + e)} << e % kOfWord * 16;
        }
        x[0] = make_uint4(words[0], words[1], words[2], words[3]);
      }
    } else {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) x[e] = e < count ? static_cast<float>(from[e]) : 0.0f;
    }
  }

  __device__ __forceinline__ void get(float (&values)[kWidth]) const {
    if constexpr (!kWide) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) values[e] = x[e];
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kOfWord == 1) {
          values[i] = __uint_as_float(word(i));
        } else {
          values[2 * i] = cutplan::sm80::widen_low<Element>(word(i));
          values[2 * i + 1] = cutplan::sm80::widen_high<Element>(word(i));
        }
      }
    }
  }
};

/// Of two words; of a number and NaN the number.
template <typename Element>
__device__ __forceinline__ std::uint32_t greatest(std::uint32_t a, std::uint32_t b) {
  std::uint32_t r;
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    asm("max.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  } else {
    asm("max.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  }
  return r;
}
template <typename Element>
__device__ __forceinline__ std::uint32_t least(std::uint32_t a, std::uint32_t b) {
  std::uint32_t r;
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    asm("min.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  } else {
    asm("min.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  }
  return r;
}
template <typename>
__device__ __forceinline__ float greatest(float a, float b) {
  return fmaxf(a, b);
}
template <typename>
__device__ __forceinline__ float least(float a, float b) {
  return fminf(a, b);
}

/// The greatest and the least of many pieces, and 0, place by place: 16-bit elements two at once.
template <typename Element, int kWidth>
struct Extremes {
  static constexpr bool kPacked = Piece<Element, kWidth>::kWide && sizeof(Element) == 2;
  static constexpr int kWords = kPacked ? 4 : kWidth;
  std::conditional_t<kPacked, std::uint32_t, float> above[kWords] = {}, below[kWords] = {};

  __device__ __forceinline__ void extend(const Piece<Element, kWidth>& piece) {
    float values[kWidth];
    piece.get(values);
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (kPacked) {
        extend(i, piece.word(i), piece.word(i));
      } else {
        extend(i, values[i], values[i]);
      }
    }
  }

  /// Of one place.
  __device__ __forceinline__ Range of(int e) const {
    if constexpr (kPacked) {
      const auto value = [&](std::uint32_t word) {
        return e % 2 == 0 ? cutplan::sm80::widen_low<Element>(word) : cutplan::sm80::widen_high<Element>(word);
      };
      return {fabsf(value(below[e / 2])), value(above[e / 2])};
    } else {
      return {fabsf(below[e]), above[e]};
    }
  }

  /// Of all.
  __device__ __forceinline__ Range all() const {
    Extremes e = *this;
#pragma unroll
    for (int i = 1; i < kWords; ++i) e.extend(0, above[i], below[i]);
    Range range = e.of(0);
    if constexpr (kPacked) join(range, e.of(1));
    return range;
  }

 private:
  template <typename Word>
  __device__ __forceinline__ void extend(int i, Word high, Word low) {
    above[i] = greatest<Element>(above[i], high);
    below[i] = least<Element>(below[i], low);
  }
};

/// Rounds to nearest even and stores the first `count`.
template <typename Element, int kWidth>
__device__ __forceinline__ void store(Element* to, const float (&values)[kWidth], int count) {
  constexpr int kOfWord = 4 / static_cast<int>(sizeof(Element));
  if constexpr (Piece<Element, kWidth>::kWide) {
    if (count >= kWidth) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kOfWord == 1) {
          words[i] = __float_as_uint(values[i]);
        } else {
          words[i] = cutplan::sm80::narrow<Element>(values[2 * i], values[2 * i + 1]);
        }
      }
      __stwb(reinterpret_cast<uint4*>(to), make_uint4(words[0], words[1], words[2], words[3]));
      return;
    }
  }
#pragma unroll
  for (int e = 0; e < kWidth; ++e)
    if (e < count) to[e] = Element(values[e]);
}

// ---- data ----

template <int kBytes>
using Bytes = std::conditional_t<
    kBytes == 8, uint2,
    std::conditional_t<kBytes == 4, std::uint32_t, std::conditional_t<kBytes == 2, std::uint16_t, std::uint8_t>>>;

/// Codes of kWidth elements, the first in the lowest bits.
template <typename Code, int kWidth>
struct Codes {
  static constexpr int kBytes = kWidth / per_byte<Code>, kWords = (kBytes + 3) / 4;
  std::uint32_t word[kWords];

  /// Those of the first `count` elements; 0 beyond them.
  __device__ __forceinline__ void load(const std::uint8_t* from, int count) {
    if (count >= kWidth) {
      const auto bytes = __ldg(reinterpret_cast<const Bytes<kBytes>*>(from));
      if constexpr (kBytes == 8) {
        word[0] = bytes.x;
        word[1] = bytes.y;
      } else {
        word[0] = bytes;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) word[i] = 0;
#pragma unroll
    for (int b = 0; b < kBytes; ++b)
      if (b * per_byte<Code> < count) word[b / 4] |= std::uint32_t{__ldg(from + b)} << b % 4 * 8;
  }

  __device__ __forceinline__ void store(std::uint8_t* to, int count) const {
    if (count >= kWidth) {
      if constexpr (kBytes == 8) {
        *reinterpret_cast<uint2*>(to) = make_uint2(word[0], word[1]);
      } else {
        *reinterpret_cast<Bytes<kBytes>*>(to) = static_cast<Bytes<kBytes>>(word[0]);
      }
      return;
    }
#pragma unroll
    for (int b = 0; b < kBytes; ++b)
      if (b * per_byte<Code> < count) to[b] = static_cast<std::uint8_t>(word[b / 4] >> b % 4 * 8);
  }
};

/// Integers as sums with a float whose last bit is 1: their bits are those of the float, 0x4b400000, and the integer.
inline constexpr float kOne = 0x1.8p23f;

/// What a launch encodes integers with.
struct Encoder {
  float least;           // of sums: of symmetric types the first code, or what is beyond all codes
  std::int32_t offset;   // from bits of sums to what saturates: of int4 from 0 to 15
  std::uint32_t packed;  // what turns that into codes
  int passes = 1;  // over NaN: of a loop the compiler makes a branch, and not predicates, which cost what all else does

  Encoder(DType type, bool symmetric) {
    const bool moved = type == DType::i4 && symmetric;
    least = symmetric ? kOne + static_cast<float>(bounds_of(type, true).first) : 0.0f;
    offset = (moved ? 8 : 0) - 0x4b400000;
    packed = moved ? 0x88888888u : 0u;
  }

  /// What the bits of sums take, of one scale.
  __device__ __forceinline__ std::int32_t shift(const Coder& coder) const { return coder.zero + offset; }
};

/// Two integers, saturated, below what `rest` has in its low bits.
template <typename Code>
__device__ __forceinline__ std::uint32_t saturate_pair(std::int32_t low, std::int32_t high, std::uint32_t rest) {
  std::uint32_t r;
  if constexpr (std::is_same_v<Code, Int4>) {
    asm("cvt.pack.sat.u4.s32.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(high), "r"(low), "r"(rest));
  } else {
    asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(high), "r"(low), "r"(rest));
  }
  return r;
}

template <typename Code>
__device__ __forceinline__ std::uint32_t narrow_pair(float low, float high) {
  constexpr auto kFormat = std::is_same_v<Code, E4M3> ? __NV_E4M3 : __NV_E5M2;
#if __CUDA_ARCH__ >= 890
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, kFormat);
#else
  static_cast<void>(kFormat);
  return Code(low).bits | std::uint32_t{Code(high).bits} << 8;
#endif
}

__device__ __forceinline__ bool has_nan(float a, float b) {
  std::uint32_t r;
  asm("{.reg .pred p; setp.nan.f32 p, %1, %2; selp.u32 %0, 1, 0, p;}" : "=r"(r) : "f"(a), "f"(b));
  return r != 0;
}

/// `inverse(e)` and, of integers, `shift(e)`: of element e.
template <typename Code, int kWidth, typename Inverse, typename Shift>
__device__ __forceinline__ Codes<Code, kWidth> encode(const float (&x)[kWidth], const Encoder& encoder,
                                                      const Inverse& inverse, const Shift& shift) {
  Codes<Code, kWidth> codes = {};
  if constexpr (is_integer<Code>) {
    float sums[kWidth + 1] = {};
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sums[e] = fmaf(x[e], inverse(e), kOne);
    bool any_nan = false;
#pragma unroll
    for (int e = 0; e < kWidth; e += 2) any_nan |= has_nan(sums[e], sums[e + 1]);
    if (any_nan) {  // seldom
#pragma unroll 1
      for (int pass = 0; pass < encoder.passes; ++pass) {
#pragma unroll
        for (float& sum : sums) sum = sum == sum ? sum : kOne;
      }
    }
    std::int32_t integers[kWidth + 1] = {};
#pragma unroll
    for (int e = 0; e < kWidth; ++e) integers[e] = __float_as_int(fmaxf(sums[e], encoder.least)) + shift(e);
    constexpr int kOfWord = 4 * per_byte<Code>;
#pragma unroll
    for (int e = (kWidth - 1) / 2 * 2; e >= 0; e -= 2) {
      std::uint32_t& word = codes.word[e / kOfWord];
      word = saturate_pair<Code>(integers[e], integers[e + 1], word);
    }
    if constexpr (std::is_same_v<Code, Int4>) codes.word[0] ^= encoder.packed;
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; e += 2) {
      const float low = x[e] * inverse(e), high = e + 1 < kWidth ? x[e + 1] * inverse(e + 1) : 0.0f;
      codes.word[e / 4] |= narrow_pair<Code>(low, high) << e % 4 * 8;
    }
  }
  return codes;
}

/// What a code stands for before zero is taken away, as the float that `offset` is to be taken from.
template <typename Code>
__device__ __forceinline__ float code_offset(bool symmetric) {
  if constexpr (std::is_same_v<Code, std::int8_t>) return 0x1p23f + 128.0f;
  if constexpr (std::is_same_v<Code, Int4>) return 0x1p23f + (symmetric ? 8.0f : 0.0f);
  return 0.0f;
}

/// (code - zero) of each element: integers are laid into the low bits of 2^23, whose last bit is 1. `offset(e)`: code_offset() + zero.
template <typename Code, int kWidth, typename Offset>
__device__ __forceinline__ void decode(const Codes<Code, kWidth>& codes, bool symmetric, const Offset& offset,
                                       float (&values)[kWidth]) {
  if constexpr (std::is_same_v<Code, std::int8_t>) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e)
      values[e] = __uint_as_float(__byte_perm(codes.word[e / 4] ^ 0x80808080u, 0x4b000000u, 0x7650 + e % 4)) - offset(e);
  } else if constexpr (std::is_same_v<Code, Int4>) {
    const std::uint32_t word = codes.word[0] ^ (symmetric ? 0x88888888u : 0u), even = word & 0x0f0f0f0fu,
                        odd = word >> 4 & 0x0f0f0f0fu;
#pragma unroll
    for (int e = 0; e < kWidth; ++e)
      values[e] = __uint_as_float(__byte_perm(e % 2 == 0 ? even : odd, 0x4b000000u, 0x7650 + e / 2)) - offset(e);
  } else {
    constexpr auto kFormat = std::is_same_v<Code, E4M3> ? __NV_E4M3 : __NV_E5M2;
#pragma unroll
    for (int e = 0; e < kWidth; e += 2) {
      const auto pair = static_cast<__nv_fp8x2_storage_t>(codes.word[e / 4] >> e % 4 * 8);
      const float2 both = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(pair, kFormat)));
      values[e] = both.x;
      if (e + 1 < kWidth) values[e + 1] = both.y;
    }
  }
}

}  // namespace cutplan::quantize::sm80
