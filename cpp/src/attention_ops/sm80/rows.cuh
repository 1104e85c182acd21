// What kernels share that move rows of adjacent elements: who has which row, and elements in pieces of 16 bytes.
//
// A team of 2^n lanes, up to a block, takes a row, each lane every kWidth-th element group of it; rows of a block lie side by
// side. So a short row does not leave lanes idle, and a long one is read by many.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cutlass/fast_math.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "attention_ops/kernel.hpp"
#include "core/launch.hpp"

namespace cutplan::attention_ops::sm80 {

inline constexpr int threads = 256;

/// Elements that move at once: 16 bytes where rows are aligned, else one.
template <typename Element, bool kWide>
inline constexpr int width = kWide ? 16 / static_cast<int>(sizeof(Element)) : 1;

template <typename Element, int kWidth>
struct alignas(sizeof(Element) * kWidth) Piece {
  Element x[kWidth];
};

/// Bytes that nobody reads again pass L2 by.
template <typename Element, int kWidth>
__device__ __forceinline__ Piece<Element, kWidth> load(const Element* from) {
  if constexpr (sizeof(Element) * kWidth == 16) {
    const uint4 raw = __ldcs(reinterpret_cast<const uint4*>(from));
    return reinterpret_cast<const Piece<Element, kWidth>&>(raw);
  } else {
    return *reinterpret_cast<const Piece<Element, kWidth>*>(from);
  }
}
template <typename Element, int kWidth>
__device__ __forceinline__ void store(Element* to, const Piece<Element, kWidth>& piece) {
  if constexpr (sizeof(Element) * kWidth == 16) {
    __stcs(reinterpret_cast<uint4*>(to), reinterpret_cast<const uint4&>(piece));
  } else {
    *reinterpret_cast<Piece<Element, kWidth>*>(to) = piece;
  }
}

template <typename Element>
__device__ __forceinline__ float to_float(Element x) {
  return static_cast<float>(x);
}
template <typename Element, typename S>
__device__ __forceinline__ Element from_float(S x) {
  if constexpr (std::is_same_v<Element, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return static_cast<Element>(x);
  }
}

template <typename Element>
using Arithmetic = std::conditional_t<std::is_same_v<Element, double>, double, float>;

/// A pair turned by an angle: written out, so that every kernel's result has the same bits.
template <typename Element, typename S>
__device__ __forceinline__ void turn(Element& a, Element& b, S sine, S cosine) {
  const S x = static_cast<S>(a), y = static_cast<S>(b);
  a = from_float<Element>(fma(-y, sine, x * cosine));
  b = from_float<Element>(fma(x, sine, y * cosine));
}

__device__ __forceinline__ std::int64_t integer_at(const void* data, bool is_long, std::int64_t i) {
  return is_long ? static_cast<const std::int64_t*>(data)[i] : std::int64_t{static_cast<const std::int32_t*>(data)[i]};
}

/// Of a row among packed ones: its sequence, and its number there. Sequences' bounds outside of [0, rows] count as these.
__device__ __forceinline__ void find_sequence(const std::int32_t* bounds, std::int64_t batch, std::int64_t& row,
                                              std::int64_t& sequence) {
  std::int64_t low = 0, high = batch;
  while (low + 1 < high) {
    const std::int64_t middle = (low + high) / 2;
    (bounds[middle] <= row ? low : high) = middle;
  }
  sequence = low;
  row -= min(max(static_cast<std::int64_t>(bounds[low]), std::int64_t{0}), row);
}

/// Rows of [batch, heads, rows], numbered with the last innermost.
struct Rows {
  cutlass::FastDivmod heads, rows;
  std::int64_t count;

  Rows(std::int64_t batch, std::int64_t heads, std::int64_t rows)
      : heads(static_cast<int>(heads)), rows(static_cast<int>(rows)), count(batch * heads * rows) {}

  struct Place {
    int batch, head, row;
  };
  __device__ __forceinline__ Place at(std::int64_t index) const {
    int batch, head, row, batch_head;
    rows(batch_head, row, static_cast<int>(index));
    heads(batch, head, batch_head);
    return {batch, head, row};
  }
};

/// Teams that share out rows of positions: each has some of the heads of one.
struct Shares {
  int team;           // lanes, as a power of two
  int heads_of_team;  // of all tensors together
  cutlass::FastDivmod shares, rows;
  std::int64_t count;  // of teams

  /// Up to eight heads a team, as long as there are teams for two waves. `lanes`: that a row has work for.
  static Shares of(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t lanes, int sm_count);

  struct Place {
    int batch, row, first_head, end_head;
  };
  __device__ __forceinline__ Place at(std::int64_t index, int heads) const {
    int share, all_rows, batch, row;
    shares(all_rows, share, static_cast<int>(index));
    rows(batch, row, all_rows);
    return {batch, row, share * heads_of_team, min(heads, (share + 1) * heads_of_team)};
  }
};

/// Lanes of a team, as a power of two: enough for `pieces`, at most a block.
inline int team_bits(std::int64_t pieces, int most_bits = 8) {
  int bits = 0;
  while (bits < most_bits && (std::int64_t{1} << bits) < pieces) ++bits;
  return bits;
}

inline Shares Shares::of(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t lanes, int sm_count) {
  const int team = team_bits(std::max<std::int64_t>(lanes, 1), 5);
  const std::int64_t wanted = std::max<std::int64_t>(std::int64_t{sm_count} * 4096 >> team, 1),
                     heads_of_team = std::clamp<std::int64_t>(batch * rows * heads / wanted, 1, 8),
                     shares = std::max<std::int64_t>(ceil_div(heads, heads_of_team), 1);
  return {team, static_cast<int>(heads_of_team), cutlass::FastDivmod(static_cast<int>(shares)),
          cutlass::FastDivmod(static_cast<int>(std::max<std::int64_t>(rows, 1))), batch * rows * shares};
}

__device__ __forceinline__ std::int64_t offset(const Strides& s, const Rows::Place& p) {
  return p.batch * s.batch + p.head * s.head + p.row * s.row;
}

}  // namespace cutplan::attention_ops::sm80
