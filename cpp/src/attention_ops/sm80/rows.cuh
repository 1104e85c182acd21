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

#include "attention_ops/place.hpp"
#include "core/launch.hpp"

namespace cutplan::attention_ops::sm80 {

inline constexpr int threads = 256;

/// Elements that move at once: 16 bytes where rows are aligned, else one.
template <typename Element, bool kWide>
inline constexpr int width = kWide ? 16 / static_cast<int>(sizeof(Element)) : 1;

template <typename Element>
using Arithmetic = std::conditional_t<std::is_same_v<Element, double>, double, float>;

/// Adjacent elements as they are loaded and stored. 16-bit ones stay in pairs until they are computed with: taken apart at once,
/// the first load would be waited for before the second is asked for.
template <typename Element, int kWidth>
struct alignas(sizeof(Element) * kWidth) Piece {
  static constexpr bool kPaired = sizeof(Element) == 2 && kWidth > 1;
  std::conditional_t<kPaired, std::uint32_t, Element> x[kPaired ? kWidth / 2 : kWidth];

  template <typename S>
  __device__ __forceinline__ void get(S (&values)[kWidth]) const {
#pragma unroll
    for (int e = 0; e < kWidth; e += kPaired ? 2 : 1) {
      if constexpr (!kPaired) {
        values[e] = static_cast<S>(x[e]);
      } else if constexpr (std::is_same_v<Element, __half>) {
        const float2 pair = __half22float2(reinterpret_cast<const __half2&>(x[e / 2]));
        values[e] = pair.x;
        values[e + 1] = pair.y;
      } else {
        values[e] = __uint_as_float(x[e / 2] << 16);
        values[e + 1] = __uint_as_float(x[e / 2] & 0xffff0000u);
      }
    }
  }

  /// That of a lane of the team, of `lanes` lanes side by side, all of which ask.
  __device__ __forceinline__ Piece of_lane(int lane, int lanes) const {
    static_assert(sizeof(Piece) % 4 == 0);
    constexpr int kWords = sizeof(Piece) / 4;
    const std::uint32_t team = (lanes == 32 ? ~0u : (1u << lanes) - 1) << (threadIdx.x % 32 & ~(lanes - 1));
    Piece other;
#pragma unroll
    for (int i = 0; i < kWords; ++i)
      reinterpret_cast<std::uint32_t (&)[kWords]>(other)[i] =
          __shfl_sync(team, reinterpret_cast<const std::uint32_t (&)[kWords]>(*this)[i], lane, lanes);
    return other;
  }

  /// Rounded to nearest even.
  template <typename S>
  __device__ __forceinline__ void set(const S (&values)[kWidth]) {
#pragma unroll
    for (int e = 0; e < kWidth; e += kPaired ? 2 : 1) {
      if constexpr (std::is_same_v<Element, __half>) {
        if constexpr (kPaired) {
          reinterpret_cast<__half2&>(x[e / 2]) = __floats2half2_rn(values[e], values[e + 1]);
        } else {
          x[e] = __float2half_rn(values[e]);
        }
      } else if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
        if constexpr (kPaired) {
          reinterpret_cast<__nv_bfloat162&>(x[e / 2]) = __floats2bfloat162_rn(values[e], values[e + 1]);
        } else {
          x[e] = __float2bfloat16_rn(values[e]);
        }
      } else {
        x[e] = static_cast<Element>(values[e]);
      }
    }
  }
};

template <typename Element, int kWidth>
__device__ __forceinline__ Piece<Element, kWidth> load(const Element* from) {
  return *reinterpret_cast<const Piece<Element, kWidth>*>(from);
}
template <typename Element, int kWidth>
__device__ __forceinline__ void store(Element* to, const Piece<Element, kWidth>& piece) {
  *reinterpret_cast<Piece<Element, kWidth>*>(to) = piece;
}

/// A pair turned by an angle: written out, so that every kernel's result has the same bits.
template <typename S>
__device__ __forceinline__ void turn(S& a, S& b, S sine, S cosine) {
  const S x = a, y = b;
  a = fma(-y, sine, x * cosine);
  b = fma(x, sine, y * cosine);
}

/// Of pairs from `i` on at a position; NaN where the tables have no row for it.
template <typename S, int kPairs>
__device__ __forceinline__ void sincos_of_table(const Tables& t, std::int64_t position, std::int64_t i, S (&sine)[kPairs],
                                                S (&cosine)[kPairs]) {
  if constexpr (kPairs % 4 == 0) {
    if (t.wide) {
      const bool inside = position >= 0 && position < t.rows;
      float4 sines[kPairs / 4], cosines[kPairs / 4];
#pragma unroll
      for (int j = 0; j < kPairs / 4; ++j) {
        sines[j] = cosines[j] = make_float4(NAN, NAN, NAN, NAN);
        if (!inside) continue;
        sines[j] = __ldg(reinterpret_cast<const float4*>(t.sin + position * t.sin_stride + i) + j);
        cosines[j] = __ldg(reinterpret_cast<const float4*>(t.cos + position * t.cos_stride + i) + j);
      }
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        sine[j] = static_cast<S>(reinterpret_cast<const float (&)[kPairs]>(sines)[j]);
        cosine[j] = static_cast<S>(reinterpret_cast<const float (&)[kPairs]>(cosines)[j]);
      }
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < kPairs; ++j) attention_ops::sincos_of_table(t, position, i + j, sine[j], cosine[j]);
}

/// Rows of [batch, heads, rows], numbered with the last innermost.
struct Rows {
  cutlass::FastDivmod heads, rows;
  std::int64_t count;

  Rows(std::int64_t batch, std::int64_t heads, std::int64_t rows)
      : heads(static_cast<int>(heads)), rows(static_cast<int>(rows)), count(batch * heads * rows) {}

  /// Unsigned: a product with a stride takes half as many instructions.
  struct Place {
    unsigned batch, head, row;
  };
  __device__ __forceinline__ Place at(std::int64_t index) const {
    int batch, head, row, batch_head;
    rows(batch_head, row, static_cast<int>(index));
    heads(batch, head, batch_head);
    return {static_cast<unsigned>(batch), static_cast<unsigned>(head), static_cast<unsigned>(row)};
  }
};

/// Lanes of a team, as a power of two: enough for `pieces`, at most a block.
inline int team_bits(std::int64_t pieces, int most_bits = 8) {
  int bits = 0;
  while (bits < most_bits && (std::int64_t{1} << bits) < pieces) ++bits;
  return bits;
}

/// How the rows of several tensors are shared out. A block has rows of one tensor, and a team in it some heads at one position. What
/// a kernel reads before its first row comes lies side by side, tensor by tensor: the first to ask for a line of parameters waits.
template <int kTensors>
struct Shares {
  struct Tensor {
    Heads from, to;
    int heads, dim, pairs;
    cutlass::FastDivmod inner, middle;
  };
  int team;                   // lanes, as a power of two
  int heads_of_team;          // at most
  int batch;                  // entries that have rows
  bool rows_first;            // teams side by side have positions side by side, and else other heads of one
  int first_block[kTensors];  // of each tensor
  Tensor of[kTensors];
  std::int64_t blocks;

  /// Up to 32 heads a team, whose angles are the same, as long as there are teams for two waves. `lanes`: that a row has work for.
  Shares(std::int64_t batch, std::int64_t rows, std::int64_t lanes, int sm_count, const Tensor (&tensors)[kTensors])
      : team(team_bits(std::max<std::int64_t>(lanes, 1), 5)),
        heads_of_team(1),
        batch(rows > 0 ? static_cast<int>(batch) : 0),
        rows_first(tensors[0].from.strides.row < tensors[0].from.strides.head),
        first_block{},
        of{},
        blocks(0) {
    std::int64_t all_heads = 0;
    for (const Tensor& tensor : tensors) all_heads += tensor.heads;
    const std::int64_t wanted = std::max<std::int64_t>(std::int64_t{sm_count} * 4096 >> team, 1),
                       of_team = batch * rows * all_heads / wanted;
    while (heads_of_team < 32 && heads_of_team * 2 <= of_team) heads_of_team *= 2;
    for (int i = 0; i < kTensors; ++i) {
      of[i] = tensors[i];
      const std::int64_t shares = ceil_div(std::int64_t{of[i].heads}, std::int64_t{heads_of_team});
      const auto divisor = [](std::int64_t n) {
        return cutlass::FastDivmod(static_cast<int>(std::max<std::int64_t>(n, 1)));
      };
      of[i].inner = divisor(rows_first ? rows : shares);
      of[i].middle = divisor(rows_first ? shares : rows);
      first_block[i] = static_cast<int>(blocks);
      blocks += ceil_div(batch * rows * shares << team, std::int64_t{threads});
    }
  }

  __device__ __forceinline__ int tensor() const {
    int tensor = 0;
#pragma unroll
    for (int i = 1; i < kTensors; ++i)
      if (static_cast<int>(blockIdx.x) >= first_block[i]) tensor = i;
    return tensor;
  }

  /// heads 0: none is left for this team.
  struct Place {
    unsigned batch, row, first_head;
    int heads;
  };
  __device__ __forceinline__ Place place(int tensor) const {
    const Tensor& mine = of[tensor];
    int rest, at_batch, near, far;
    mine.inner(rest, near, static_cast<int>(((blockIdx.x - first_block[tensor]) * threads + threadIdx.x) >> team));
    mine.middle(at_batch, far, rest);
    const int first = (rows_first ? far : near) * heads_of_team;
    return {static_cast<unsigned>(at_batch), static_cast<unsigned>(rows_first ? near : far), static_cast<unsigned>(first),
            at_batch < batch ? min(heads_of_team, mine.heads - first) : 0};
  }
};

__device__ __forceinline__ std::int64_t offset(const Strides& s, const Rows::Place& p) {
  return at(s, p.batch, p.head, p.row);
}

/// Pairs of elements that are turned. interleaved: (2i, 2i + 1). halves: (i, i + n), a lane having both elements; facing: likewise,
/// but the second half in other lanes of the team, so that its lanes read and write whole rows side by side.
enum class Turn { none, interleaved, halves, facing };

/// Where a team's rows go: of its first head; one head's step is `step` elements.
template <typename Output>
struct Target {
  Output* to;
  std::int64_t step, position;
};

/// The rows of `heads` heads at one position, `step` elements apart, of which the first `pairs` pairs of elements are turned.
template <typename Element>
struct HeadRows {
  const Element* from;
  std::int64_t step;
  int heads, pairs, dim;
};

/// Moves them. `find()` makes the target once the first rows are on their way, so that what it has to read comes meanwhile, and
/// angles(position, first pair, sines, cosines) what they are turned by; store(to, piece, head) has the last word.
template <int kWidth, Turn kTurn, typename Element, typename Find, typename Angles, typename Store>
__device__ __forceinline__ void move_rows(const HeadRows<Element>& rows, int lane, int lanes, const Find& find,
                                          const Angles& angles, const Store& store) {
  using S = Arithmetic<Element>;
  constexpr int kInFlight = 4;  // pieces of a lane
  int copied = 0;
  if constexpr (kTurn == Turn::halves || (kTurn == Turn::interleaved && kWidth == 1)) {
    constexpr int kPairs = kWidth, kAtOnce = kInFlight / 2;
    copied = 2 * rows.pairs;
    for (int pair = lane * kPairs; pair < rows.pairs; pair += kPairs * lanes) {
      const int first = kTurn == Turn::interleaved ? 2 * pair : pair,
                second = kTurn == Turn::interleaved ? first + 1 : pair + rows.pairs;
      decltype(find()) target;
      S sine[kPairs], cosine[kPairs];
#pragma unroll 1
      for (int h = 0; h < rows.heads; h += kAtOnce) {
        Piece<Element, kWidth> a[kAtOnce], b[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (h + i >= rows.heads) continue;
          const Element* const row = rows.from + (h + i) * rows.step;
          a[i] = load<Element, kWidth>(row + first);
          b[i] = load<Element, kWidth>(row + second);
        }
        if (h == 0) {
          target = find();
          angles(target.position, pair, sine, cosine);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (h + i >= rows.heads) continue;
          S x[kWidth], y[kWidth];
          a[i].get(x);
          b[i].get(y);
#pragma unroll
          for (int j = 0; j < kPairs; ++j) turn(x[j], y[j], sine[j], cosine[j]);
          a[i].set(x);
          b[i].set(y);
          auto* const row = target.to + (h + i) * target.step;
          store(row + first, a[i], h + i);
          store(row + second, b[i], h + i);
        }
      }
    }
  }
  // A piece of each row a lane.
  for (int column = copied + lane * kWidth; column - lane * kWidth < rows.dim; column += kWidth * lanes) {
    constexpr bool kTurns = kTurn == Turn::facing || (kTurn == Turn::interleaved && kWidth > 1);
    constexpr int kPairs = kTurn == Turn::facing ? kWidth : std::max(kWidth / 2, 1);
    const bool inside = column < rows.dim, turns = kTurns && column < 2 * rows.pairs,
               first_half = kTurn == Turn::facing && column < rows.pairs;
    decltype(find()) target;
    S sine[kPairs], cosine[kPairs];
#pragma unroll 1
    for (int h = 0; h < rows.heads; h += kInFlight) {
      Piece<Element, kWidth> piece[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i)
        if (h + i < rows.heads && inside) piece[i] = load<Element, kWidth>(rows.from + (h + i) * rows.step + column);
      if (h == 0) {
        target = find();
        if (turns) {
          const int pair = kTurn == Turn::interleaved ? column / 2 : first_half ? column : column - rows.pairs;
          angles(target.position, pair, sine, cosine);
        }
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (h + i >= rows.heads) continue;
        if constexpr (kTurn == Turn::facing) {
          if (rows.pairs > 0) {
            Piece<Element, kWidth> other = piece[i].of_lane(lane + (first_half ? rows.pairs : -rows.pairs) / kWidth, lanes);
            S x[kWidth], y[kWidth];
            piece[i].get(x);
            other.get(y);
#pragma unroll
            for (int j = 0; j < kPairs; ++j) x[j] = fma(y[j], first_half ? -sine[j] : sine[j], x[j] * cosine[j]);
            if (turns) piece[i].set(x);
          }
        } else if constexpr (kTurns) {
          S x[kWidth];
          piece[i].get(x);
#pragma unroll
          for (int j = 0; j < kPairs; ++j) turn(x[2 * j], x[2 * j + 1], sine[j], cosine[j]);
          if (turns) piece[i].set(x);
        }
        if (inside) store(target.to + (h + i) * target.step + column, piece[i], h + i);
      }
    }
  }
}

/// Calls start(width, turn, elements of a row for a lane) with the way in which rows are turned that these have.
template <typename Element, typename Start>
void choose_turn(bool wide, bool interleaved, std::int64_t pairs, const Start& start) {
  constexpr int kWidth = width<Element, true>;
  using Wide = std::integral_constant<int, kWidth>;
  using Narrow = std::integral_constant<int, 1>;
  if (interleaved) {
    wide ? start(Wide{}, std::integral_constant<Turn, Turn::interleaved>{}, kWidth)
         : start(Narrow{}, std::integral_constant<Turn, Turn::interleaved>{}, 2);
  } else if (!wide) {
    start(Narrow{}, std::integral_constant<Turn, Turn::halves>{}, 2);
  } else if (2 * pairs <= 32 * kWidth) {
    start(Wide{}, std::integral_constant<Turn, Turn::facing>{}, kWidth);
  } else {
    start(Wide{}, std::integral_constant<Turn, Turn::halves>{}, 2 * kWidth);
  }
}

}  // namespace cutplan::attention_ops::sm80
