// How a matrix is shared out, and what blocks of threads do together.
//
// A region is some rows of some columns. Either it has one scale, and a team of 2^n lanes, up to a block, takes it, or a few of its
// like where they are no more than a piece a lane; or each of its columns has one, and a block takes it, lanes side by side columns
// that are, and their rows in turn. A lane has several pieces on their way at once, and keeps the last of them until the scale is
// known: what a region has beyond that is read again, from the last to the first, of which L2 still has most.
#pragma once

#include <cutlass/fast_math.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "core/launch.hpp"
#include "quantize/kernel.hpp"
#include "quantize/sm80/elements.cuh"

namespace cutplan::quantize::sm80 {

inline constexpr int threads = 256, most_threads = 512;
inline constexpr int lanes_across = 16;  // of a block whose columns have scales of their own

/// Strides are not negative, and what counts rows and columns has 32 bits.
__device__ __forceinline__ std::int64_t times(int n, std::int64_t stride) {
  return static_cast<std::int64_t>(static_cast<std::uint32_t>(n)) * stride;
}

/// How things in rows and columns, pieces or regions, are shared out to lanes or teams: 2^bits of these are side by side and the
/// rest below them. Each takes several at once, that are below each other or, where rows are long, side by side. All at once are a
/// chunk.
struct Spread {
  cutlass::FastDivmod chunks_across;
  int chunks;  // all of them
  int bits;
  int chunk_rows, chunk_columns;
  int row_step, column_step;       // rows and columns of the matrix from one thing of a unit to its next
  std::int64_t x_step, data_step;  // likewise, in elements and in bytes

  struct Spot {
    std::int64_t row, column;
  };
  /// The first thing of a unit.
  __device__ __forceinline__ Spot at(int unit, int chunk) const {
    int down, right;
    chunks_across(down, right, chunk);
    return {static_cast<std::int64_t>(down) * chunk_rows + (unit >> bits),
            static_cast<std::int64_t>(right) * chunk_columns + (unit & ((1 << bits) - 1))};
  }
};

/// Regions of one problem, numbered along columns first.
struct Regions {
  cutlass::FastDivmod across, down;  // regions of a matrix
  Spread pieces;                     // of a region over its team
  std::int64_t count;
  int height, width;            // of a region, rows and columns
  int last_height, last_width;  // of those at the edges
  int team;                     // lanes of one, as a power of two

  /// From a region to that below it, and to that beside it.
  struct Steps {
    std::int64_t row, column;
  } x, data;

  struct Place {
    int batch, row, column;  // numbers of the matrix and, in it, of the region

    /// Its first element.
    template <typename T>
    __device__ __forceinline__ T* in(const Matrix& m, const Steps& steps) const {
      return static_cast<T*>(m.data) + times(batch, m.batch) + times(row, steps.row) + times(column, steps.column);
    }
  };
  __device__ __forceinline__ Place at(int index) const {
    Place place;
    int rest;
    across(rest, place.column, index);
    down(place.batch, place.row, rest);
    return place;
  }
  __device__ __forceinline__ int rows(const Place& place) const {
    return place.row == down.divisor - 1 ? last_height : height;
  }
  __device__ __forceinline__ int columns(const Place& place) const {
    return place.column == across.divisor - 1 ? last_width : width;
  }
};

template <typename T>
__device__ __forceinline__ T* at(const PerScale<T>& s, int batch, int row, int column) {
  return s.data + times(batch, s.batch) + times(row, s.row) + times(column, s.column);
}

inline cutlass::FastDivmod divisor(std::int64_t n) {
  return cutlass::FastDivmod(static_cast<int>(std::max<std::int64_t>(n, 1)));
}

/// The least power of two that is not less than n, at most `most_bits`.
inline int bits_for(std::int64_t n, int most_bits) {
  int bits = 0;
  while (bits < most_bits && (std::int64_t{1} << bits) < n) ++bits;
  return bits;
}

/// What is left of rows and columns from a lane's piece on.
struct Left {
  int rows, columns;

  __device__ __forceinline__ int of_row() const { return rows > 0 ? columns : 0; }
  __device__ __forceinline__ void step(const Spread& s) {
    rows -= s.row_step;
    columns -= s.column_step;
  }
};

/// Over 2^unit_bits units, of which each takes `of_unit` at once. Things have `height` rows and `width` columns.
inline Spread spread(const Problem& p, std::int64_t rows, std::int64_t columns, std::int64_t height, std::int64_t width,
                     int unit_bits, int of_unit) {
  Spread s{};
  s.bits = bits_for(columns, unit_bits);
  const int across = 1 << s.bits, down = 1 << (unit_bits - s.bits);
  const bool is_long = columns > across;
  s.row_step = is_long ? 0 : static_cast<int>(down * height);
  s.column_step = is_long ? static_cast<int>(across * width) : 0;
  s.chunk_rows = is_long ? down : down * of_unit;
  s.chunk_columns = is_long ? across * of_unit : across;
  const std::int64_t chunks_across = std::max<std::int64_t>(ceil_div(columns, std::int64_t{s.chunk_columns}), 1);
  s.chunks_across = divisor(chunks_across);
  s.chunks = static_cast<int>(chunks_across * ceil_div(rows, std::int64_t{s.chunk_rows}));
  s.x_step = s.row_step * p.x.row + s.column_step;
  s.data_step = s.row_step * p.data.row + s.column_step / (p.type == DType::i4 ? 2 : 1);
  return s;
}

/// `across`, `down`: how many there are. Both extents are those of a region.
inline Regions regions(const Problem& p, std::int64_t across, std::int64_t down, std::int64_t height, std::int64_t width) {
  Regions r{};
  r.across = divisor(across);
  r.down = divisor(down);
  r.count = p.batch * across * down;
  r.height = static_cast<int>(std::min(height, p.rows));
  r.width = static_cast<int>(std::min(width, p.columns));
  r.last_height = static_cast<int>(p.rows - std::max<std::int64_t>(down - 1, 0) * height);
  r.last_width = static_cast<int>(p.columns - std::max<std::int64_t>(across - 1, 0) * width);
  r.x = {height * p.x.row, width};
  r.data = {height * p.data.row, width / (p.type == DType::i4 ? 2 : 1)};
  return r;
}

/// Of regions with one scale each, or of parts of them where all share one: about `pieces` pieces a region, and those of a lane.
inline Regions regions_with_one_scale(const Problem& p, int width, std::int64_t pieces, int pieces_of_lane) {
  std::int64_t rows = p.group_rows, columns = p.scales_across == 1 ? std::max<std::int64_t>(p.columns, 1) : p.group_columns,
               across = p.scales_across, down = p.scales_down;
  if (p.whole) {
    columns = std::min(columns, pieces * width);
    rows = std::min(rows, pieces >> bits_for(ceil_div(columns, std::int64_t{width}), 62));
    across = std::max<std::int64_t>(ceil_div(p.columns, columns), 1);
    down = std::max<std::int64_t>(ceil_div(p.rows, rows), 1);
  }
  Regions r = regions(p, across, down, rows, columns);
  const auto spread_over = [&](int team) {
    return spread(p, r.height, ceil_div(r.width, width), 1, width, team, pieces_of_lane);
  };
  r.pieces = spread_over(0);
  while (r.pieces.chunks > 1 && r.team < 9) r.pieces = spread_over(++r.team);
  return r;
}

/// Of regions whose columns have a scale each. `rows`: of a region where all rows share scales.
inline Regions regions_of_columns(const Problem& p, int width, std::int64_t rows) {
  const std::int64_t height = p.shared ? std::min(rows, std::max<std::int64_t>(p.rows, 1)) : p.group_rows,
                     columns = std::int64_t{lanes_across} * width;
  return regions(p, ceil_div(p.columns, columns),
                 p.shared ? std::max<std::int64_t>(ceil_div(p.rows, height), 1) : p.scales_down, height, columns);
}

/// Regions with one scale each and few pieces, of which a team takes several. All at once of a block are a chunk of a matrix.
struct SmallRegions {
  Spread spread;
  cutlass::FastDivmod chunks, pieces_of_row;
  int height, width;                      // of a region
  int scale_row_step, scale_column_step;  // from one region of a team to its next
  int team;                               // lanes of one, as a power of two
};

/// A team has as many lanes as regions or more, up to a warp, so that each finds the scale of one.
inline constexpr int regions_of_team = 4, least_team = 2, most_team = 5;

/// None where regions are larger.
inline std::optional<SmallRegions> small_regions(const Problem& p, int width) {
  constexpr std::int64_t most = 1 << most_team;
  const std::int64_t rows = std::min(p.group_rows, std::max<std::int64_t>(p.rows, 1)),
                     columns = p.scales_across == 1 ? std::max<std::int64_t>(p.columns, 1) : p.group_columns,
                     of_row = ceil_div(columns, std::int64_t{width});
  if (p.shared || p.by_columns || rows > most || of_row > most || rows * of_row > most) return std::nullopt;
  SmallRegions r{};
  r.height = static_cast<int>(rows);
  r.width = static_cast<int>(columns);
  r.pieces_of_row = divisor(of_row);
  r.team = std::max(bits_for(rows * of_row, most_team), least_team);
  r.spread = spread(p, p.scales_down, p.scales_across, rows, columns, bits_for(threads, 9) - r.team, regions_of_team);
  r.chunks = divisor(r.spread.chunks);
  r.scale_row_step = r.spread.row_step / r.height;
  r.scale_column_step = r.spread.column_step / r.width;
  return r;
}

/// Threads of a block that takes `rows` rows of columns, of which a lane has `of_lane` at once: no more than have rows.
inline int threads_for_rows(std::int64_t rows, int of_lane) {
  int count = threads;
  while (count > 32 && rows * lanes_across <= count / 2 * of_lane) count /= 2;
  return count;
}

// ---- ranges ----

/// With that of the lane whose number differs in the bit that `step` has.
__device__ __forceinline__ void join_lanes(Range& range, int step) {
  join(range, {__shfl_xor_sync(~0u, range.below, step), __shfl_xor_sync(~0u, range.above, step)});
}

/// Of each of several regions, whose number has bits; of one in each lane of a team, that whose number the lane's ends in.
template <int kRegions>
__device__ __forceinline__ Range range_of_one(Range (&ranges)[kRegions], int lane, int lanes) {
#pragma unroll
  for (int half = kRegions / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const bool high = lane & half;
      const Range other = high ? ranges[i] : ranges[i + half];
      if (high) ranges[i] = ranges[i + half];
      join(ranges[i], {__shfl_xor_sync(~0u, other.below, half), __shfl_xor_sync(~0u, other.above, half)});
    }
  }
  for (int step = kRegions; step < lanes; step *= 2) join_lanes(ranges[0], step);
  return ranges[0];
}

/// Of a warp; in all of its lanes. Floats that are not negative have the order of their bits.
__device__ __forceinline__ Range range_of_warp(const Range& range) {
  const auto greatest = [](float x) { return __int_as_float(__reduce_max_sync(~0u, __float_as_int(x))); };
  return {greatest(range.below), greatest(range.above)};
}

/// Of all lanes of a team; in all of them. All threads of the block ask; `shared`: a place for each warp.
__device__ __forceinline__ Range range_of_team(Range range, int team, Range* shared) {
  if (team < 5) {
    for (int step = 1; step < 1 << team; step *= 2) join_lanes(range, step);
    return range;
  }
  range = range_of_warp(range);
  if (team > 5) {  // up to the whole block
    const int warp = threadIdx.x / 32, last = (1 << (team - 5)) - 1;
    if (threadIdx.x % 32 == 0) shared[warp] = range;
    __syncthreads();
    range = range_of_warp(shared[(warp & ~last) | (threadIdx.x & last)]);
  }
  return range;
}

/// Most blocks find that theirs is not the greatest.
__device__ __forceinline__ void raise(float* to, float x) {
  if (x > __ldcg(to)) atomicMax(reinterpret_cast<int*>(to), __float_as_int(x));
}

/// Where blocks meet, in the workspace: `below` and `above` of each scale.
__device__ __forceinline__ Range* meeting(void* workspace, const Problem& p, int batch, int column) {
  return static_cast<Range*>(workspace) + (p.whole ? 0 : batch * p.scales_across + column);
}

}  // namespace cutplan::quantize::sm80
