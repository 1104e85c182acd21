// How stream-K shares out tiles: what the cost model, the workspace and the kernels (sm90/stream_k.cuh) agree on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace cutplan::gemm {

/// Tiles beyond the last whole wave, cut along K for `workers` blocks, or clusters: each into `slices` of its own, or, where
/// there are too many for two slices each, end to end into equal runs (slices = 1).
struct StreamPartition {
  std::uint32_t tiles, workers, slices;
};

/// `workers`: all there are. Tiles are cut alike, as far as there are workers for it, because blocks then read the same
/// steps of A and B at the same time; cut end to end, their reads meet in L2 no more (3072 x 4096 x 8192 on an H200: 280
/// microseconds with two waves of tiles cut end to end, 263 with a part of one). Adding up a slice takes a microsecond and a
/// half: beyond 8 of them the rest is no longer worth it.
constexpr StreamPartition stream_partition(std::uint32_t tiles, std::uint32_t workers) {
  const std::uint32_t rest = tiles % workers, slices = rest == 0 ? 1 : std::min<std::uint32_t>(workers / rest, 8);
  return {rest, slices > 1 ? rest * slices : workers, slices};
}

/// Of the workspace: two flags for each block, then its place for the sums of a tile.
constexpr std::size_t stream_flags_bytes(int blocks) {
  return (static_cast<std::size_t>(blocks) * 2 * sizeof(std::uint32_t) + 255) / 256 * 256;
}

}  // namespace cutplan::gemm
