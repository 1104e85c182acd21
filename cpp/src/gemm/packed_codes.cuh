// Packed codes (core/weights_layout.hpp) to 16-bit floats, in the registers that an mma takes them from.
//
// By bit patterns, not by conversions, which run at a quarter of the rate: an integer code below the mantissa of a power of two is
// that number plus the code; a small float's bits in the place of a wider one's are that float times a power of two; entries of a
// table are put together of bytes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cutlass/numeric_types.h>

#include <cstdint>
#include <type_traits>

#include "core/sm80/convert.cuh"
#include "core/sm80/memory.cuh"
#include "core/weights_codes.hpp"

namespace cutplan::gemm {

/// Formats that are decoded alike.
enum class Codes { integers4, table4, integers8, e4m3 };

constexpr std::uint32_t bit_of(WeightFormat f) { return 1u << static_cast<int>(f); }
constexpr std::uint32_t formats_of(Codes codes) {
  switch (codes) {
    case Codes::integers4: return bit_of(WeightFormat::int4) | bit_of(WeightFormat::uint4);
    case Codes::table4: return bit_of(WeightFormat::nf4) | bit_of(WeightFormat::e2m1);
    case Codes::integers8: return bit_of(WeightFormat::int8);
    case Codes::e4m3: return bit_of(WeightFormat::e4m3);
  }
  return 0;
}

/// Two elements in a register.
template <bool kHalf>
struct Pair {
  using Type = std::conditional_t<kHalf, __half2, __nv_bfloat162>;

  static __device__ __forceinline__ std::uint32_t of(float x) {
    if constexpr (kHalf) {
      return bits(__float2half2_rn(x));
    } else {
      return bits(__float2bfloat162_rn(x));
    }
  }
  static __device__ __forceinline__ std::uint32_t subtract(std::uint32_t x, std::uint32_t y) {
    return bits(__hsub2(value(x), value(y)));
  }
  static __device__ __forceinline__ std::uint32_t multiply(std::uint32_t x, std::uint32_t y) {
    return bits(__hmul2(value(x), value(y)));
  }
  static __device__ __forceinline__ std::uint32_t multiply_add(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
    return bits(__hfma2(value(x), value(y), value(z)));
  }

 private:
  static __device__ __forceinline__ const Type& value(const std::uint32_t& x) { return reinterpret_cast<const Type&>(x); }
  static __device__ __forceinline__ std::uint32_t bits(const Type& x) { return reinterpret_cast<const std::uint32_t&>(x); }
};

/// (x & mask) | y
__device__ __forceinline__ std::uint32_t and_or(std::uint32_t x, std::uint32_t mask, std::uint32_t y) {
  std::uint32_t z;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(z) : "r"(x), "r"(mask), "r"(y));
  return z;
}

/// Of one lane. Elements of a 16 x 16 tile: register r has column lane / 4 + 8 (r % 2), rows lane % 4 * 2 + 8 (r / 2) and the next.
template <typename Element, Codes kCodes, bool kZero>
class Decoder {
  static constexpr bool kHalf = std::is_same_v<Element, cutlass::half_t>;
  using P = Pair<kHalf>;

 public:
  static constexpr bool kNibbles = kCodes == Codes::integers4 || kCodes == Codes::table4;
  static constexpr bool kIntegers = kCodes == Codes::integers4 || kCodes == Codes::integers8;
  static constexpr int kWords = kNibbles ? 4 : 8;  // of 64 rows of K
  static_assert(kIntegers || !kZero);

  /// What is subtracted from a column's codes: of a zero point the nearest integer, exactly, and the rest.
  struct Offset {
    std::uint32_t whole, rest;
  };

  /// Elements are decoded to the codes times unit() of the column, lane / 4 or the eighth after it. (4 bits at the end of a bfloat16,
  /// or 4 before its last 4, are the code times 2^-133 or 2^-129, subnormal or not; as much of that as a factor can be, 2^127,
  /// is taken back.)
  static constexpr bool kSmall = kCodes == Codes::integers4 && !kHalf;
  static constexpr float unit(int h) { return !kSmall ? 1 : h == 0 ? 0x1p-6f : 0x1p-2f; }

  __device__ explicit Decoder(WeightFormat format) {
    if constexpr (kCodes == Codes::table4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        low_[i] = high_[i] = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const std::uint32_t code = 4 * i + j, entry = P::of(format == WeightFormat::nf4 ? weights::nf4_value(code)
                                                                                          : weights::e2m1_value(code));
          low_[i] |= (entry & 0xff) << (8 * j);
          high_[i] |= (entry >> 8 & 0xff) << (8 * j);
        }
      }
    } else if constexpr (kCodes == Codes::integers4) {
      // Bits below the mantissa of a power of two: float16's of 4 bits have two places.
#pragma unroll
      for (int h = 0; h < 2; ++h) base_[h] = (format == WeightFormat::int4 ? 8 : 0) + (kSmall ? 0 : h == 0 ? 1024 : 64);
    } else if constexpr (kCodes == Codes::integers8) {
      // Of bfloat16 8 bits are one too many for the mantissa of 128: what code 128 stands for is taken off on the way.
      base_[0] = base_[1] = kHalf ? 1024 + 128 : 0;
    }
  }

  /// Of the lane's column h.
  __device__ __forceinline__ Offset plain(int h) const { return {P::of(base_[h] * unit(h)), 0}; }
  __device__ __forceinline__ Offset of_zero(float zero, int h) const {
    // As far as it and its sum with the base are such floats.
    constexpr bool kNarrow = kCodes == Codes::integers4 && !kHalf;
    const float whole = fminf(fmaxf(rintf(zero), kNarrow ? -16.0f : -256.0f), kNarrow ? 112.0f : 256.0f);
    return {P::of((base_[h] + whole) * unit(h)), P::of((zero - whole) * unit(h))};
  }

  /// The four registers of tile k16 of 64 rows of K. NaN's codes become finite: `nan` remembers that there were some.
  __device__ __forceinline__ void decode(const std::uint32_t* words, int k16, const Offset (&offsets)[2],
                                         std::uint32_t (&to)[4], std::uint32_t& nan) const {
    if constexpr (kCodes == Codes::integers4) {
      const std::uint32_t halves[2] = {words[k16], words[k16] >> 8};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        constexpr std::uint32_t kMask[2] = {0x000f000f, 0x00f000f0}, kBase[2] = {0x64006400, 0x54005400};
        const Offset& offset = offsets[r % 2];
        if constexpr (kHalf) {
          to[r] = less(and_or(halves[r / 2], kMask[r % 2], kBase[r % 2]), offset);
        } else {
          to[r] = P::multiply_add(halves[r / 2] & kMask[r % 2], 0x7f007f00, offset.whole ^ 0x80008000);
          if constexpr (kZero) to[r] = P::subtract(to[r], offset.rest);
        }
      }
    } else if constexpr (kCodes == Codes::integers8) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const std::uint32_t word = words[2 * k16 + r / 2], codes = r % 2 == 0 ? word >> 8 : word;
        if constexpr (kHalf) {
          to[r] = less(and_or(codes, 0x00ff00ffu, 0x64006400u), offsets[r % 2]);
        } else {  // 128 + the low 7 bits, less 128 or, without the eighth bit, 256
          to[r] = P::subtract(and_or(codes, 0x007f007fu, 0x43004300u), and_or(~codes, 0x00800080u, 0x43004300u));
          if constexpr (kZero) to[r] = less(to[r], offsets[r % 2]);
        }
      }
    } else if constexpr (kCodes == Codes::e4m3) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t word = words[2 * k16 + i];
        nan |= ((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const std::uint32_t codes = j == 0 ? word : word << 8;  // in the high bytes
          constexpr int kShift = kHalf ? 1 : 4;
          constexpr std::uint32_t kMask = kHalf ? 0x3f803f80u : 0x07f007f0u, kFactor = kHalf ? 0x5c005c00u : 0x7b807b80u;
          to[2 * i + j] = P::multiply(and_or(codes, 0x80008000u, codes >> kShift & kMask), kFactor);  // by 2^8, 2^120
        }
      }
    } else {
      const std::uint32_t word = words[k16], entries = word & 0x77777777u,
                          halves = and_or(word >> 1, 0x44444444u, 0x32103210u);
      std::uint32_t low[2], high[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const auto look_up = [&](const std::uint32_t (&table)[4]) {
          return __byte_perm(__byte_perm(table[0], table[1], entries >> (16 * h)),
                             __byte_perm(table[2], table[3], entries >> (16 * h)), halves >> (16 * h));
        };
        low[h] = look_up(low_);
        high[h] = look_up(high_);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t first = __byte_perm(low[0], high[0], i == 0 ? 0x5140 : 0x7362),
                            second = __byte_perm(low[1], high[1], i == 0 ? 0x5140 : 0x7362);
        to[2 * i] = __byte_perm(first, second, 0x5410);
        to[2 * i + 1] = __byte_perm(first, second, 0x7632);
      }
    }
  }

  /// NaN for the lane's columns, lane / 4 and the eighth after it, of which a code was NaN. All lanes of the warp take part.
  __device__ __forceinline__ static void spread_nan(std::uint32_t nan, float (&factors)[2]) {
    if constexpr (kCodes == Codes::e4m3) {
      nan |= __shfl_xor_sync(0xffffffffu, nan, 1);
      nan |= __shfl_xor_sync(0xffffffffu, nan, 2);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if ((nan & (i == 0 ? 0x80008000u : 0x00800080u)) != 0) factors[i] = __int_as_float(0x7fc00000);
      }
    }
  }

 private:
  __device__ __forceinline__ static std::uint32_t less(std::uint32_t x, const Offset& offset) {
    x = P::subtract(x, offset.whole);
    return kZero ? P::subtract(x, offset.rest) : x;
  }

  std::uint32_t low_[4], high_[4];  // bytes of the table's entries
  float base_[2];                   // what integers of column h begin at
};

/// A scale or zero.
__device__ __forceinline__ float factor_at(DType type, const void* factors, std::int64_t i) {
  return type == DType::f32 ? static_cast<const float*>(factors)[i]
                            : cutplan::sm80::widen(type, static_cast<const std::uint16_t*>(factors)[i]);
}

/// Those of column `first` and of every eighth after it, from shared memory. What type they are is asked once.
template <int kCount>
__device__ __forceinline__ void load_factors(DType type, std::uint32_t from, int first, float (&to)[kCount]) {
  if (type == DType::f32) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) cutplan::sm80::load_shared(from + (first + 8 * i) * 4, to[i]);
    return;
  }
  std::uint16_t x[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("ld.shared.u16 %0, [%1];" : "=h"(x[i]) : "r"(from + (first + 8 * i) * 2));
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = cutplan::sm80::widen(type, x[i]);
}

}  // namespace cutplan::gemm
