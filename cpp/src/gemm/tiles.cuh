// Which part of a problem a block works on: tiles of D, slices of K, groups whose sizes only the device knows.
#pragma once

#include <cutlass/fast_math.h>

#include <algorithm>

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

constexpr bool a_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::rrr; }
constexpr bool b_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::ccr; }

/// Tiles of a panel: an H200's 132 SMs work on 16 x 8 tiles of 128 x 256, a patch of 2048 x 2048.
constexpr std::uint32_t panel = 8;

/// A launch's tiles: fewer than 2^31 of them (choose.cpp), since 64-bit divisions cost a thousand cycles a tile. The host
/// prepares the divisors: nothing is loaded before a tile is found.
struct TileGrid {
  std::uint32_t tiles_m, tiles_n;  // of one matrix of the batch; over groups of rows tiles_m counts nothing
  std::uint32_t tiles;             // of the whole batch and every slice of K; over groups of rows an upper bound
  std::uint32_t slices;            // of K
  cutlass::FastDivmod by_matrix, by_panel, by_last_width;  // tiles of a matrix and of a panel, width of the last panel
  cutlass::FastDivmod by_batch;
  std::int64_t k_slice;
};

/// One tile. Rows and columns are D's; over groups of rows they count through all groups.
struct Tile {
  std::int64_t row, row_end, col;  // rows from row_end on belong to others, or do not exist
  std::int64_t k, k_end;
  std::uint32_t batch, slice;  // batch: or group
};

/// The grid of a problem for tiles of tile_m x tile_n (of a cluster: of all its rows).
inline TileGrid tile_grid(const Problem& p, int tile_m, int tile_n, int tile_k, int slices) {
  const auto up = [](std::int64_t x, std::int64_t to) { return static_cast<std::uint32_t>((x + to - 1) / to); };
  TileGrid grid;
  const bool groups_of_rows = p.groups.offsets != nullptr && p.groups.over == GroupedOver::m;
  grid.tiles_m = up(p.m, tile_m);
  grid.tiles_n = up(p.n, tile_n);
  grid.slices = static_cast<std::uint32_t>(slices);
  const auto batch = static_cast<std::uint32_t>(p.batch);
  // Each group may end with a tile of its own.
  grid.tiles = (groups_of_rows ? grid.tiles_m + batch : grid.tiles_m * batch * grid.slices) * grid.tiles_n;
  const auto by = [](std::uint32_t x) { return cutlass::FastDivmod(static_cast<int>(std::max(x, 1u))); };
  grid.by_matrix = by(grid.tiles_m * grid.tiles_n);
  grid.by_panel = by(grid.tiles_m * std::min(grid.tiles_n, panel));
  grid.by_last_width = by(grid.tiles_n % panel);
  grid.by_batch = by(batch);
  grid.k_slice = slices > 1 ? split_extent(p.k, slices, tile_k) : p.k;
  return grid;
}

/// Finds tiles by number. Numbers must not decrease from call to call: over groups of rows the search goes on where it was.
template <int kTileM, int kTileN>
class TileWalk {
 public:
  __device__ TileWalk(const Problem& p, const TileGrid& grid) : p_(p), grid_(grid) {
    if (groups_of_rows()) group_end_ = bounded(0, p.m);
  }

  /// False: there is no such tile, nor any after it.
  __device__ __forceinline__ bool find(std::uint32_t index, Tile& tile) {
    if (index >= grid_.tiles) return false;
    tile.slice = 0;
    tile.k = 0;
    tile.k_end = p_.k;
    if (!groups_of_rows()) {
      int turn, rest;
      grid_.by_matrix(turn, rest, static_cast<int>(index));
      place(rest, grid_.by_panel.div(rest), grid_.tiles_m, tile);
      tile.row_end = p_.m;
      tile.batch = turn;
      if (grid_.slices > 1) {
        int slice, batch;
        grid_.by_batch(slice, batch, turn);
        tile.slice = slice;
        tile.batch = batch;
        tile.k = tile.slice * grid_.k_slice;
        tile.k_end = min(p_.k, tile.k + grid_.k_slice);
      } else if (p_.groups.offsets != nullptr) {
        tile.k = bounded(tile.batch, p_.k);
        tile.k_end = max(tile.k, bounded(tile.batch + 1, p_.k));
      }
      return true;
    }
    while (index - passed_ >= tiles_of_group_) {
      if (group_ == static_cast<std::uint32_t>(p_.batch)) return false;
      passed_ += tiles_of_group_;
      group_begin_ = group_end_;
      group_end_ = max(group_begin_, bounded(++group_, p_.m));
      tiles_m_ = static_cast<std::uint32_t>((group_end_ - group_begin_ + kTileM - 1) / kTileM);
      tiles_of_group_ = tiles_m_ * grid_.tiles_n;
    }
    tile.batch = group_ - 1;
    place(index - passed_, (index - passed_) / (tiles_m_ * min(grid_.tiles_n, panel)), tiles_m_, tile);
    tile.row += group_begin_;
    tile.row_end = group_end_;
    return true;
  }

 private:
  __device__ __forceinline__ bool groups_of_rows() const {
    return p_.groups.offsets != nullptr && p_.groups.over == GroupedOver::m;
  }
  __device__ __forceinline__ std::int64_t bounded(std::uint32_t group, std::int64_t extent) const {
    return min(max(std::int64_t{__ldg(p_.groups.offsets + group)}, std::int64_t{0}), extent);
  }
  /// Panels of `panel` tiles along N, walked along M, so that the tiles in flight together form a near-square patch of D and
  /// their rows of A and columns of B are shared in L2. `number` is the panel's.
  __device__ __forceinline__ void place(std::uint32_t index, std::uint32_t number, std::uint32_t tiles_m, Tile& tile) const {
    const std::uint32_t first = number * panel, width = min(grid_.tiles_n - first, panel);
    index -= first * tiles_m;
    const std::uint32_t row = width == panel ? index / panel : grid_.by_last_width.div(static_cast<int>(index));
    tile.row = std::int64_t{row} * kTileM;
    tile.col = std::int64_t{first + index - row * width} * kTileN;
  }

  const Problem& p_;
  const TileGrid& grid_;
  std::uint32_t group_ = 0, passed_ = 0, tiles_of_group_ = 0, tiles_m_ = 0;  // group_: one past the present
  std::int64_t group_begin_ = 0, group_end_ = 0;
};

}  // namespace cutplan::gemm
