// How a matrix is shared out, and what blocks of threads do together.
//
// A region is some rows of some columns. Either it has one scale, and a team of 2^n lanes, up to a block, takes it, each lane every
// 2^n-th piece; or each of its columns has one, and a block takes it, lanes side by side columns that are, and their rows in turn.
// A lane has several pieces on their way at once, and keeps the last of them until the scale is known: what a region has beyond
// that is read again, from the last to the first, of which L2 still has most.
#pragma once

#include <cutlass/fast_math.h>

#include <algorithm>
#include <cstdint>

#include "core/launch.hpp"
#include "core/sm80/warp.cuh"
#include "quantize/kernel.hpp"
#include "quantize/sm80/elements.cuh"

namespace cutplan::quantize::sm80 {

inline constexpr int threads = 256, most_threads = 512;
inline constexpr int lanes_across = 16;  // of a block whose columns have scales of their own

/// Regions of one problem, numbered along columns first.
struct Regions {
  cutlass::FastDivmod across, down;   // regions of a matrix
  cutlass::FastDivmod pieces_of_row;  // of a region
  std::int64_t count;
  std::int64_t height, width;  // of a region, rows and columns
  int team;                    // lanes of one, as a power of two
  bool one_scale;              // all regions down a matrix have the same row of scales

  struct Place {
    int batch, row, column;  // numbers of the matrix and, in it, of the scale
    int rows, columns;       // that there are
    std::int64_t first_row, first_column;

    /// Its first element.
    template <typename T>
    __device__ __forceinline__ T* in(const Matrix& m, int elements_of_step = 1) const {
      return static_cast<T*>(m.data) + batch * m.batch + first_row * m.row + first_column / elements_of_step;
    }
  };
  __device__ __forceinline__ Place at(const Problem& p, std::int64_t index) const {
    Place place;
    int rest, row;
    across(rest, place.column, static_cast<int>(index));
    down(place.batch, row, rest);
    place.first_row = row * height;
    place.first_column = place.column * width;
    place.row = one_scale ? 0 : row;
    place.rows = static_cast<int>(min(height, p.rows - place.first_row));
    place.columns = static_cast<int>(min(width, p.columns - place.first_column));
    return place;
  }
};

template <typename T>
__device__ __forceinline__ T* at(const PerScale<T>& s, int batch, int row, int column) {
  return s.data + batch * s.batch + row * s.row + column * s.column;
}

inline cutlass::FastDivmod divisor(std::int64_t n) {
  return cutlass::FastDivmod(static_cast<int>(std::max<std::int64_t>(n, 1)));
}

/// Lanes of a team, as a power of two: enough for `pieces`, at most `most_bits`.
inline int team_bits(std::int64_t pieces, int most_bits) {
  int bits = 0;
  while (bits < most_bits && (std::int64_t{1} << bits) < pieces) ++bits;
  return bits;
}

/// Of regions with one scale each, or of parts of them where all share one: about `pieces` pieces a region.
inline Regions regions_with_one_scale(const Problem& p, int width, bool parts, std::int64_t pieces, int pieces_of_lane) {
  Regions r{};
  r.height = p.group_rows;
  r.width = p.scales_across == 1 ? std::max<std::int64_t>(p.columns, 1) : p.group_columns;
  if (parts) {
    r.width = std::min(r.width, pieces * width);
    r.height = std::min(p.group_rows, std::max<std::int64_t>(pieces / ceil_div(r.width, std::int64_t{width}), 1));
  }
  const std::int64_t across =
                         p.scales_across == 1 ? std::max<std::int64_t>(ceil_div(p.columns, r.width), 1) : p.scales_across,
                     down = parts ? std::max<std::int64_t>(ceil_div(p.rows, r.height), 1) : p.scales_down;
  r.across = divisor(across);
  r.down = divisor(down);
  r.count = p.batch * across * down;
  const std::int64_t of_row = ceil_div(std::min(r.width, std::max<std::int64_t>(p.columns, 1)), std::int64_t{width}),
                     of_region = of_row * std::min(r.height, std::max<std::int64_t>(p.rows, 1));
  r.pieces_of_row = divisor(of_row);
  r.team = std::max(team_bits(ceil_div(of_region, std::int64_t{pieces_of_lane}), 9), std::min(team_bits(of_region, 9), 2));
  return r;
}

/// Of regions whose columns have a scale each. `rows`: of a region where all rows share scales.
inline Regions regions_of_columns(const Problem& p, int width, std::int64_t rows) {
  Regions r{};
  r.one_scale = p.shared;
  r.height = r.one_scale ? std::min(rows, std::max<std::int64_t>(p.rows, 1)) : p.group_rows;
  r.width = lanes_across * width;
  const std::int64_t across = ceil_div(p.columns, r.width),
                     down = r.one_scale ? std::max<std::int64_t>(ceil_div(p.rows, r.height), 1) : p.scales_down;
  r.across = divisor(across);
  r.down = divisor(down);
  r.count = p.batch * across * down;
  return r;
}

/// Threads of a block that takes `rows` rows of columns, of which a lane has `of_lane` at once: no more than have rows.
inline int threads_for_rows(std::int64_t rows, int of_lane) {
  int count = threads;
  while (count > 32 && rows * lanes_across <= count / 2 * of_lane) count /= 2;
  return count;
}

/// What follows from x is computed anew: addresses cost fewer instructions than registers, while pieces wait for their scale.
__device__ __forceinline__ void forget(int& x) { asm volatile("" : "+r"(x)); }

// ---- ranges ----

/// fmaxf takes the number where the other is NaN.
__device__ __forceinline__ void extend(Range& range, float x) {
  range.below = fmaxf(range.below, -x);
  range.above = fmaxf(range.above, x);
}

__device__ __forceinline__ void join(Range& range, const Range& other) {
  range.below = fmaxf(range.below, other.below);
  range.above = fmaxf(range.above, other.above);
}

/// Of all lanes of a team; in all of them. All threads of the block ask; `shared`: a place for each warp.
__device__ __forceinline__ Range range_of_team(Range range, int team, Range* shared) {
  for (int step = 1; step < min(1 << team, 32); step *= 2)
    join(range, {__shfl_xor_sync(~0u, range.below, step), __shfl_xor_sync(~0u, range.above, step)});
  if (team > 5) {  // of the whole block
    const int warp = threadIdx.x / 32, warps = 1 << (team - 5), first = warp & ~(warps - 1);
    if (threadIdx.x % 32 == 0) shared[warp] = range;
    __syncthreads();
    for (int i = 0; i < warps; ++i) join(range, shared[first + i]);
  }
  return range;
}

/// Floats that are not negative have the order of their bits. Most blocks find that theirs is not the greatest.
__device__ __forceinline__ void raise(float* to, float x) {
  if (x > __ldcg(to)) atomicMax(reinterpret_cast<int*>(to), __float_as_int(x));
}

/// Where blocks meet, in the workspace: `below` and `above` of each scale.
__device__ __forceinline__ Range* meeting(void* workspace, const Problem& p, int batch, int column) {
  return static_cast<Range*>(workspace) + (p.whole ? 0 : batch * p.scales_across + column);
}

}  // namespace cutplan::quantize::sm80
