// The innermost loop of the host backends: a small product whose sums stay in vector registers. Two vectors wide and as high
// as the registers allow, or lower where rows are few; which instruction set it uses is found out at run time. Every height
// adds an element's products in the same order and with the same instructions.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cutplan {

/// What this machine's vectors are: of 16 bytes, of 32 with multiply-add and float16 conversions, or of 64.
enum class InstructionSet { baseline, avx2, avx512 };

inline InstructionSet instruction_set() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__builtin_cpu_supports("avx512f")) return InstructionSet::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
      (c & bit_F16C) != 0)
    return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

/// What becomes of the sums that are there: nothing is left of them, the new sum is added, or it goes on from them, adding one
/// product after another.
enum class Sums { set, add, resume };

template <typename T>
struct RegisterTile {
  using Multiply = void (*)(std::int64_t k, const T* left, const T* right, std::int64_t ld_right, T* sums, std::int64_t ld,
                            Sums how);
  int rows, columns;
  Multiply full, third, one;  // by their height: `rows`, a third of it, 1

  /// The tile for the first of `remaining` rows: the full one, unless lower ones hold them with less to spare.
  int height(std::int64_t remaining) const { return remaining > rows / 3 * 2 ? rows : remaining > 1 ? rows / 3 : 1; }

  /// sums[height, columns] (leading dimension ld) = or += left right: right[k, columns] has leading dimension ld_right and
  /// may lie anywhere, sums are aligned to vectors.
  void multiply(int height, std::int64_t k, const T* left, const T* right, std::int64_t ld_right, T* sums, std::int64_t ld,
                Sums how) const {
    (height == rows ? full : height == 1 ? one : third)(k, left, right, ld_right, sums, ld, how);
  }
};

/// Where the left factor's elements (i, p) are: left[i * row_stride + p * k_stride(rows of the tile)]. Constants, so that
/// the loop needs one pointer. Panel: the tile's rows packed k by k.
struct LeftPanel {
  static constexpr std::int64_t row_stride = 1;
  static constexpr std::int64_t k_stride(int rows) { return rows; }
};
template <int kLd>
struct LeftRowMajor {
  static constexpr std::int64_t row_stride = kLd;
  static constexpr std::int64_t k_stride(int) { return 1; }
};
template <int kLd>
struct LeftColumnMajor {
  static constexpr std::int64_t row_stride = 1;
  static constexpr std::int64_t k_stride(int) { return kLd; }
};

namespace register_tile_detail {

// GCC and Clang vectors: arithmetic on them is element-wise, and the compiler emits one instruction each.
template <typename T, int kBytes>
struct Vector {
  typedef T type __attribute__((vector_size(kBytes), may_alias));
  typedef T anywhere __attribute__((vector_size(kBytes), may_alias, aligned(sizeof(T))));  // as it lies in memory
};

#if defined(__clang__)
#define CUTPLAN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CUTPLAN_UNROLL _Pragma("GCC unroll 16")
#endif

template <typename T, typename Left, int kBytes, int kRows>
__attribute__((always_inline)) inline void multiply(std::int64_t k, const T* left, const T* right, std::int64_t ld_right,
                                                    T* sums, std::int64_t ld, Sums how) {
  using V = typename Vector<T, kBytes>::type;
  using Anywhere = typename Vector<T, kBytes>::anywhere;
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  constexpr std::int64_t row_stride = Left::row_stride, k_stride = Left::k_stride(kRows);
  V sum[kRows][2] = {};
  if (how == Sums::resume) {
    CUTPLAN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const V* out = reinterpret_cast<const V*>(sums + i * ld);
      sum[i][0] = out[0];
      sum[i][1] = out[1];
    }
  }
  for (std::int64_t p = 0; p < k; ++p) {
    const V b0 = *reinterpret_cast<const Anywhere*>(right);
    const V b1 = *reinterpret_cast<const Anywhere*>(right + lanes);
    CUTPLAN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      sum[i][0] += left[i * row_stride] * b0;
      sum[i][1] += left[i * row_stride] * b1;
    }
    left += k_stride;
    right += ld_right;
  }
  CUTPLAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    V* out = reinterpret_cast<V*>(sums + i * ld);
    out[0] = how == Sums::add ? out[0] + sum[i][0] : sum[i][0];
    out[1] = how == Sums::add ? out[1] + sum[i][1] : sum[i][1];
  }
}

#if defined(__x86_64__)

template <typename T, typename Left, int kRows>
__attribute__((target("avx512f"))) void multiply_avx512(std::int64_t k, const T* left, const T* right, std::int64_t ld_right,
                                                        T* sums, std::int64_t ld, Sums how) {
  multiply<T, Left, 64, kRows>(k, left, right, ld_right, sums, ld, how);
}

template <typename T, typename Left, int kRows>
__attribute__((target("avx2,fma"))) void multiply_avx2(std::int64_t k, const T* left, const T* right, std::int64_t ld_right,
                                                       T* sums, std::int64_t ld, Sums how) {
  multiply<T, Left, 32, kRows>(k, left, right, ld_right, sums, ld, how);
}

template <typename T, typename Left, int kRows>
void multiply_sse2(std::int64_t k, const T* left, const T* right, std::int64_t ld_right, T* sums, std::int64_t ld,
                   Sums how) {
  multiply<T, Left, 16, kRows>(k, left, right, ld_right, sums, ld, how);
}

template <typename T, typename Left>
RegisterTile<T> choose() {
  constexpr int size = static_cast<int>(sizeof(T));
  const InstructionSet set = instruction_set();
  if (set == InstructionSet::avx512)
    return {12, 128 / size, multiply_avx512<T, Left, 12>, multiply_avx512<T, Left, 4>, multiply_avx512<T, Left, 1>};
  if (set == InstructionSet::avx2)
    return {6, 64 / size, multiply_avx2<T, Left, 6>, multiply_avx2<T, Left, 2>, multiply_avx2<T, Left, 1>};
  return {6, 32 / size, multiply_sse2<T, Left, 6>, multiply_sse2<T, Left, 2>, multiply_sse2<T, Left, 1>};
}

#else

template <typename T, typename Left, int kRows>
void multiply_128_bit(std::int64_t k, const T* left, const T* right, std::int64_t ld_right, T* sums, std::int64_t ld,
                      Sums how) {
  multiply<T, Left, 16, kRows>(k, left, right, ld_right, sums, ld, how);
}

template <typename T, typename Left>
RegisterTile<T> choose() {
  constexpr int size = static_cast<int>(sizeof(T));
  return {12, 32 / size, multiply_128_bit<T, Left, 12>, multiply_128_bit<T, Left, 4>, multiply_128_bit<T, Left, 1>};
}

#endif

}  // namespace register_tile_detail

/// The tile for this machine; its extents are the same for every Left.
template <typename T, typename Left>
const RegisterTile<T>& register_tile() {
  static const RegisterTile<T> chosen = register_tile_detail::choose<T, Left>();
  return chosen;
}

}  // namespace cutplan
