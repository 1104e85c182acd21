// What a register tile reads on its right: two vectors' worth of columns of a matrix, k by k, in its own type. Columns that
// lie side by side are copied line by line; columns that lie one after another are transposed in vector registers, a square of
// as many columns as a vector has lanes at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/half.hpp"
#include "core/register_tile.hpp"

namespace cutplan {

/// Copies columns of a matrix, `stride` apart, their elements `stride_k` apart, into packed[k, columns of the register tile],
/// widened. `used` of the columns exist, at least one: what is packed for the others is zero, or that of the last one.
template <typename S, typename T>
using PackPanel = void (*)(const S* source, std::int64_t stride, std::int64_t stride_k, int used, std::int64_t k, T* packed);

namespace panel_detail {

using register_tile_detail::Vector;

/// out = lanes of x and y, by their numbers in x y.
template <typename T, int kBytes, int... kLane>
__attribute__((always_inline)) inline void shuffle(const typename Vector<T, kBytes>::type& x,
                                                   const typename Vector<T, kBytes>::type& y,
                                                   typename Vector<T, kBytes>::type& out) {
#if defined(__clang__)
  out = __builtin_shufflevector(x, y, kLane...);
#else
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  out = __builtin_shuffle(x, y, typename Vector<Index, kBytes>::type{kLane...});
#endif
}

/// Swaps the odd chunks of x, kStep lanes each, with the even ones of y.
template <typename T, int kBytes, int kStep, int... kLane>
__attribute__((always_inline)) inline void swap_chunks(typename Vector<T, kBytes>::type& x,
                                                       typename Vector<T, kBytes>::type& y,
                                                       std::integer_sequence<int, kLane...>) {
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  const typename Vector<T, kBytes>::type above = x, below = y;
  shuffle<T, kBytes, ((kLane & kStep) != 0 ? lanes + kLane - kStep : kLane)...>(above, below, x);
  shuffle<T, kBytes, ((kLane & kStep) != 0 ? lanes + kLane : kLane + kStep)...>(above, below, y);
}

/// Transposes a square of vectors: chunks of half its size change places across the diagonal, then quarters of each half ...
template <typename T, int kBytes, int kStep = kBytes / static_cast<int>(sizeof(T)) / 2>
__attribute__((always_inline)) inline void transpose(typename Vector<T, kBytes>::type* x) {
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  CUTPLAN_UNROLL
  for (int i = 0; i < lanes; ++i) {
    if ((i & kStep) == 0) swap_chunks<T, kBytes, kStep>(x[i], x[i + kStep], std::make_integer_sequence<int, lanes>());
  }
  if constexpr (kStep > 1) transpose<T, kBytes, kStep / 2>(x);
}

/// A vector of the elements at `source`.
template <typename S, typename T, int kBytes>
__attribute__((always_inline)) inline void load(const S* source, typename Vector<T, kBytes>::type& out) {
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  if constexpr (std::is_same_v<S, BFloat16>) {
    using Wide = typename Vector<std::uint32_t, kBytes>::type;
    const auto bits = *reinterpret_cast<const typename Vector<std::uint16_t, lanes * 2>::anywhere*>(source);
    out = reinterpret_cast<typename Vector<T, kBytes>::type>(__builtin_convertvector(bits, Wide) << 16);
  } else {
    static_assert(std::is_same_v<S, T>);
    out = *reinterpret_cast<const typename Vector<T, kBytes>::anywhere*>(source);
  }
}

template <typename S, typename T, int kBytes>
__attribute__((always_inline)) inline void pack(const S* source, std::int64_t stride, std::int64_t stride_k, int used,
                                                std::int64_t k, T* packed) {
  using V = typename Vector<T, kBytes>::type;
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T)), width = 2 * lanes;
  V* out = reinterpret_cast<V*>(packed);
  if (stride == 1 && used == width) {
    for (std::int64_t p = 0; p < k; ++p, out += 2) {
      load<S, T, kBytes>(source + p * stride_k, out[0]);
      load<S, T, kBytes>(source + p * stride_k + lanes, out[1]);
    }
    return;
  }
  if (stride == 1 && used > lanes) {  // the second vector ends where the line does, over a part of the first
    using Anywhere = typename Vector<T, kBytes>::anywhere;
    std::fill_n(packed, k * width, T(0));
    for (std::int64_t p = 0; p < k; ++p, packed += width) {
      V first, second;
      load<S, T, kBytes>(source + p * stride_k, first);
      load<S, T, kBytes>(source + p * stride_k + used - lanes, second);
      *reinterpret_cast<Anywhere*>(packed) = first;
      *reinterpret_cast<Anywhere*>(packed + used - lanes) = second;
    }
    return;
  }
  if (stride_k != 1) {
    for (std::int64_t p = 0; p < k; ++p, packed += width) {
      for (int i = 0; i < width; ++i) packed[i] = i < used ? static_cast<T>(source[p * stride_k + i * stride]) : T(0);
    }
    return;
  }
  // Each column is a stream of its own, too many for the processor to read ahead in: asked for, 256 bytes ahead, a matrix that
  // is not in the caches comes twice as fast.
  for (int half = 0; half < 2; ++half) {
    const auto column = [&](int i) { return source + std::min(half * lanes + i, used - 1) * stride; };
    // Of bfloat16 two neighbours in k travel as one lane, and part afterwards.
    constexpr int depth = std::is_same_v<S, BFloat16> ? 2 * lanes : lanes;
    std::int64_t p = 0;
    for (; p + depth <= k; p += depth) {
      V x[lanes];
      CUTPLAN_UNROLL
      for (int i = 0; i < lanes; ++i) {
        __builtin_prefetch(column(i) + p + 256 / sizeof(S), 0, 2);
        std::memcpy(&x[i], column(i) + p, kBytes);  // pairs of 16-bit elements begin anywhere
      }
      transpose<T, kBytes>(x);
      CUTPLAN_UNROLL
      for (int i = 0; i < lanes; ++i) {
        if constexpr (std::is_same_v<S, BFloat16>) {
          const auto pair = reinterpret_cast<typename Vector<std::uint32_t, kBytes>::type>(x[i]);
          out[2 * (p + 2 * i) + half] = reinterpret_cast<V>(pair << 16);
          out[2 * (p + 2 * i + 1) + half] = reinterpret_cast<V>(pair & 0xffff0000u);
        } else {
          out[2 * (p + i) + half] = x[i];
        }
      }
    }
    for (; p < k; ++p) {
      for (int i = 0; i < lanes; ++i) packed[p * width + half * lanes + i] = static_cast<T>(column(i)[p]);
    }
  }
}

inline void widen(const Half* source, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(source[i]);
}

/// The same for float16, through lines that `kWiden` has widened: the instruction that does it needs a function of its own.
template <int kBytes, void (*kWiden)(const Half*, std::int64_t, float*)>
__attribute__((always_inline)) inline void pack_half(const Half* source, std::int64_t stride, std::int64_t stride_k,
                                                     int used, std::int64_t k, float* packed) {
  constexpr int width = 2 * kBytes / static_cast<int>(sizeof(float));
  if (stride == 1) {
    for (std::int64_t p = 0; p < k; ++p, packed += width) {
      kWiden(source + p * stride_k, used, packed);
      for (int i = used; i < width; ++i) packed[i] = 0;
    }
    return;
  }
  constexpr std::int64_t depth = 64;
  alignas(64) float lines[width * depth];
  for (; k > 0; k -= depth, source += depth * stride_k, packed += depth * width) {
    const std::int64_t slice = std::min(depth, k);
    for (int i = 0; i < used; ++i) {
      if (stride_k == 1) {
        __builtin_prefetch(source + i * stride + 2 * depth, 0, 2);
        kWiden(source + i * stride, slice, lines + i * depth);
      } else {
        for (std::int64_t p = 0; p < slice; ++p)
          lines[i * depth + p] = static_cast<float>(source[i * stride + p * stride_k]);
      }
    }
    pack<float, float, kBytes>(lines, depth, 1, used, slice, packed);
  }
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) inline void widen_avx512(const Half* source, std::int64_t count, float* out) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i));
    _mm512_storeu_ps(out + i, _mm512_maskz_cvtph_ps(0xffff, halves));
  }
  widen(source + i, count - i, out + i);
}

__attribute__((target("avx2,f16c"))) inline void widen_avx2(const Half* source, std::int64_t count, float* out) {
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  widen(source + i, count - i, out + i);
}

template <typename S, typename T>
__attribute__((target("avx512f"))) void pack_avx512(const S* source, std::int64_t stride, std::int64_t stride_k, int used,
                                                    std::int64_t k, T* packed) {
  if constexpr (std::is_same_v<S, Half>) {
    pack_half<64, widen_avx512>(source, stride, stride_k, used, k, packed);
  } else {
    pack<S, T, 64>(source, stride, stride_k, used, k, packed);
  }
}

template <typename S, typename T>
__attribute__((target("avx2,fma"))) void pack_avx2(const S* source, std::int64_t stride, std::int64_t stride_k, int used,
                                                   std::int64_t k, T* packed) {
  if constexpr (std::is_same_v<S, Half>) {
    pack_half<32, widen_avx2>(source, stride, stride_k, used, k, packed);
  } else {
    pack<S, T, 32>(source, stride, stride_k, used, k, packed);
  }
}

#endif

template <typename S, typename T>
void pack_128_bit(const S* source, std::int64_t stride, std::int64_t stride_k, int used, std::int64_t k, T* packed) {
  if constexpr (std::is_same_v<S, Half>) {
    pack_half<16, widen>(source, stride, stride_k, used, k, packed);
  } else {
    pack<S, T, 16>(source, stride, stride_k, used, k, packed);
  }
}

template <typename S, typename T>
PackPanel<S, T> choose() {
#if defined(__x86_64__)
  const InstructionSet set = instruction_set();
  if (set == InstructionSet::avx512) return pack_avx512<S, T>;
  if (set == InstructionSet::avx2) return pack_avx2<S, T>;
#endif
  return pack_128_bit<S, T>;
}

inline void (*choose_widen())(const Half*, std::int64_t, float*) {
#if defined(__x86_64__)
  const InstructionSet set = instruction_set();
  if (set == InstructionSet::avx512) return widen_avx512;
  if (set == InstructionSet::avx2) return widen_avx2;
#endif
  return widen;
}

}  // namespace panel_detail

/// Widens `count` elements that lie side by side.
template <typename S, typename T>
void widen(const S* source, std::int64_t count, T* out) {
  if constexpr (std::is_same_v<S, Half> && std::is_same_v<T, float>) {
    static const auto chosen = panel_detail::choose_widen();
    chosen(source, count, out);
  } else {
    for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(source[i]);
  }
}

/// The one for this machine's register tiles.
template <typename S, typename T>
PackPanel<S, T> pack_panel() {
  static const PackPanel<S, T> chosen = panel_detail::choose<S, T>();
  return chosen;
}

}  // namespace cutplan
