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

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& word : x) word = {};
  }

  /// The first `count`; 0 beyond them.
  __device__ __forceinline__ void load(const Element* from, int count) {
    if constexpr (kWide) {
      if (count >= kWidth) {
        x[0] = __ldg(reinterpret_cast<const uint4*>(from));
        return;
      }
      std::uint32_t words[4] = {};
      using Bits = std::conditional_t<sizeof(Element) == 2, std::uint16_t, std::uint32_t>;
#pragma unroll
      for (int e = 0; e < kWidth - 1; ++e) {
        if (e < count)
          words[e / kOfWord] |= std::uint32_t{__ldg(reinterpret_cast<const Bits*>(from) + e)} << e % kOfWord * 16;
      }
      x[0] = make_uint4(words[0], words[1], words[2], words[3]);
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
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
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

/// Integers as sums with a float whose last bit is 1: their low bits are those of the sum.
inline constexpr float kOne = 0x1.8p23f;

/// What a block's lanes are to encode with: zero as a float, bounds as sums.
struct Encoder {
  float first, last;

  __device__ __forceinline__ Encoder(DType type, bool symmetric) {
    const Bounds b = bounds_of(type, symmetric);
    first = kOne + static_cast<float>(b.first);
    last = kOne + static_cast<float>(b.last);
  }

  /// The sum of kOne and the code.
  __device__ __forceinline__ std::uint32_t integer(float x, float inverse, float zero) const {
    const float sum = fmaf(x, inverse, kOne), number = sum == sum ? sum : kOne;
    return __float_as_uint(fminf(fmaxf(number + zero, first), last));
  }
};

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

/// `inverse(e)` and `zero(e)`: of element e.
template <typename Code, int kWidth, typename Inverse, typename Zero>
__device__ __forceinline__ Codes<Code, kWidth> encode(const float (&x)[kWidth], const Encoder& encoder,
                                                      const Inverse& inverse, const Zero& zero) {
  Codes<Code, kWidth> codes;
#pragma unroll
  for (int i = 0; i < Codes<Code, kWidth>::kWords; ++i) codes.word[i] = 0;
  if constexpr (std::is_same_v<Code, Int4>) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) codes.word[0] |= (encoder.integer(x[e], inverse(e), zero(e)) & 15u) << 4 * e;
  } else if constexpr (std::is_same_v<Code, std::int8_t>) {
    if constexpr (kWidth == 1) {
      codes.word[0] = encoder.integer(x[0], inverse(0), zero(0)) & 255u;
    } else {
#pragma unroll
      for (int e = 0; e < kWidth; e += 4) {
        std::uint32_t sums[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[i] = encoder.integer(x[e + i], inverse(e + i), zero(e + i));
        codes.word[e / 4] =
            __byte_perm(__byte_perm(sums[0], sums[1], 0x0040), __byte_perm(sums[2], sums[3], 0x0040), 0x5410);
      }
    }
  } else if constexpr (kWidth == 1) {
    codes.word[0] = narrow_pair<Code>(x[0] * inverse(0), 0.0f) & 255u;
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; e += 2)
      codes.word[e / 4] |= narrow_pair<Code>(x[e] * inverse(e), x[e + 1] * inverse(e + 1)) << e % 4 * 8;
  }
  return codes;
}

/// What a code stands for before zero is taken away, as the float that `offset` is to be taken from.
template <typename Code>
__device__ __forceinline__ float offset_of(bool symmetric) {
  if constexpr (std::is_same_v<Code, std::int8_t>) return 0x1p23f + 128.0f;
  if constexpr (std::is_same_v<Code, Int4>) return 0x1p23f + (symmetric ? 8.0f : 0.0f);
  return 0.0f;
}

/// (code - zero) of each element: integers are laid into the low bits of 2^23, whose last bit is 1. `offset(e)`: offset_of() + zero.
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
