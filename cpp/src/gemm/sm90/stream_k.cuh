// Stream-K (Osama, Merrill, Cecka, Garland and Owens 2023, "Stream-K: work-centric parallel decomposition for dense
// matrix-matrix multiplication on the GPU"): where tiles do not fill a whole number of waves, blocks share out some of them
// evenly, K step by K step, so that all blocks end together.
//
// What is shared out: the tiles beyond the last whole wave (stream_k.hpp says how); the rest are whole tiles in whole waves. A
// worker, which is a block or a cluster, owns one contiguous run of K steps. It holds at most one beginning of a tile and one
// end.
//
// Data movement. The sums of a beginning go to the worker's place in the workspace as they lie in registers, 16 bytes a
// thread; then a flag is raised. The worker that has a tile's end adds to its own sums those of the workers before it, last
// to first, one order for all runs, and runs the epilogue: no second pass over D. A worker walks its run backwards: the
// beginning it owes to others comes first, and what it waits for was the first thing that others did. It waits only for
// workers of lower number, whose blocks are started no later than its own and wait for no higher one: no deadlock, whatever
// else runs on the device. Flags are lowered by a kernel of one block under whose end this one starts.
#pragma once

#include <algorithm>

#include "core/sm80/memory.cuh"
#include "core/sm90/cluster.cuh"
#include "core/sm90/warpgroup.cuh"
#include "gemm/stream_k.hpp"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm90 {

/// How tiles are shared out, and where sums wait; `tiles` = 0: not at all.
struct StreamK {
  std::uint32_t tiles, steps, workers;  // tiles that are shared out, the K steps of each, and among how many
  std::uint32_t* flags;                 // [blocks][2]: of a block's warpgroup
  float* sums;                          // [blocks][tile]

  /// The first step of a worker's run. 32 bits hold the product (choose.cpp).
  __device__ std::uint32_t first_step(std::uint32_t worker) const {
    return min(worker, workers) * (tiles * steps) / workers;
  }
};

inline StreamK share_out(const TileGrid& grid, std::int64_t k, int tile_k, std::uint32_t workers, int blocks,
                         void* workspace) {
  const StreamPartition partition = stream_partition(grid.tiles, workers);
  StreamK s{};
  s.tiles = partition.tiles;
  s.steps = static_cast<std::uint32_t>((k + tile_k - 1) / tile_k);
  s.workers = std::min(partition.workers, s.tiles * s.steps);  // each has work
  s.flags = static_cast<std::uint32_t*>(workspace);
  s.sums = reinterpret_cast<float*>(static_cast<char*>(workspace) + stream_flags_bytes(blocks));
  return s;
}

/// A tile, or some K steps of it.
struct Piece : Tile {
  std::uint32_t first_worker;  // that has steps of the tile; the piece's own worker: none came before
  bool is_beginning;           // others have the tile's end
};

/// The pieces of one worker, in order.
template <int kTileM, int kTileN, int kTileK>
class Work {
 public:
  __device__ Work(const Problem& p, const TileGrid& grid, const StreamK& stream, std::uint32_t worker, std::uint32_t workers)
      : walk_(p, grid), stream_(stream), worker_(worker), workers_(workers), index_(stream.tiles + worker) {
    if (stream.tiles > 0) {
      begin_ = stream.first_step(worker);
      end_ = stream.first_step(worker + 1);
    }
  }

  __device__ __forceinline__ bool next(Piece& piece) {
    const bool shared = end_ > begin_;
    const std::uint32_t index = shared ? (end_ - 1) / stream_.steps : index_;
    if (!walk_.find(index, piece)) return false;
    piece.first_worker = worker_;
    piece.is_beginning = false;
    if (!shared) {
      index_ += workers_;
      return true;
    }
    const std::uint32_t first = index * stream_.steps;
    piece.is_beginning = end_ < first + stream_.steps;
    if (piece.is_beginning) piece.k_end = std::int64_t{end_ - first} * kTileK;
    if (begin_ > first) {
      piece.k = std::int64_t{begin_ - first} * kTileK;
      while (stream_.first_step(piece.first_worker) > first) --piece.first_worker;
    }
    end_ = max(begin_, first);
    return true;
  }

 private:
  TileWalk<kTileM, kTileN> walk_;
  const StreamK& stream_;
  std::uint32_t worker_, workers_, index_;
  std::uint32_t begin_ = 0, end_ = 0;  // steps left
};

/// Leaves the sums of a tile's beginning for the worker that has its end. `thread` of `kThreads` that share the tile.
template <int kThreads, int kValues>
__device__ __forceinline__ void store_partial_sums(const StreamK& stream, const float (&acc)[kValues], std::uint32_t block,
                                                   int thread) {
  auto* to = reinterpret_cast<float4*>(stream.sums + std::size_t{block} * (kThreads * kValues)) + thread;
#pragma unroll
  for (int i = 0; i < kValues / 4; ++i)
    __stcg(to + i * kThreads, make_float4(acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]));
  cutplan::sm90::sync_warpgroup();
  if (thread % 128 == 0) {
    cutplan::sm90::await_previous_grid();  // lower_flags
    store_release(stream.flags + 2 * block + thread / 128, 1u);
  }
}

/// Adds the sums that a block left: of integers in the bits of floats.
template <int kThreads, bool kIntegers, int kValues>
__device__ __forceinline__ void add_partial_sums(const StreamK& stream, float (&acc)[kValues], std::uint32_t block,
                                                 int thread) {
  if (thread % 128 == 0) {
    cutplan::sm90::await_previous_grid();
    while (load_acquire(stream.flags + 2 * block + thread / 128) == 0) {
    }
  }
  cutplan::sm90::sync_warpgroup();
  const auto* from = reinterpret_cast<const float4*>(stream.sums + std::size_t{block} * (kThreads * kValues)) + thread;
#pragma unroll
  for (int i = 0; i < kValues / 4; ++i) {
    const float4 v = __ldcg(from + i * kThreads);
    const auto add = [](float& sum, float x) {
      sum = kIntegers ? __int_as_float(__float_as_int(sum) + __float_as_int(x)) : sum + x;
    };
    add(acc[4 * i], v.x);
    add(acc[4 * i + 1], v.y);
    add(acc[4 * i + 2], v.z);
    add(acc[4 * i + 3], v.w);
  }
}

/// In front of each launch.
static __global__ void lower_flags(std::uint32_t* flags, int count) {
  cutplan::sm90::launch_next_grid();
  for (int i = threadIdx.x; i < count; i += blockDim.x) flags[i] = 0;
}

}  // namespace cutplan::gemm::sm90
