// What the forward and the backward kernel share: tiles in shared memory, how they get there and how fragments leave them.
//
// A tile holds rows of kDim 16-bit elements, in chunks of 16 bytes. ldmatrix reads eight rows' chunks at a time, and a copy
// writes one row's chunks one after the other: both are free of bank conflicts when the chunks of a row are permuted by an
// exclusive or with a number that differs for those eight rows. Which eight these are is the tile's Permutation.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/sm80/convert.cuh"
#include "core/sm80/math.cuh"
#include "core/sm80/memory.cuh"
#include "core/sm80/mma.cuh"
#include "core/sm80/warp.cuh"
#include "fmha/sm80/scores.cuh"

namespace cutplan::fmha::sm80 {

using namespace cutplan::sm80;

/// Rows 8 r .. 8 r + 7 are read together.
struct Adjacent {
  __device__ static constexpr int row(int group, int i) { return group * 8 + i; }
  __device__ static constexpr int permute(int row) { return row % 8; }
};

/// Keys of a score tile of kRows columns, dealt so that a thread's columns of the product are adjacent keys: column 2 c + e
/// of group t (c < 4, e < 2) is key c * (kRows / 4) + 2 t + e. Bias and mask are then read in vectors, and dropout draws
/// whole groups of random bits.
template <int kRows>
struct Dealt {
  __device__ static constexpr int row(int group, int i) { return i / 2 * (kRows / 4) + 2 * group + i % 2; }
  __device__ static constexpr int permute(int row) { return row / (kRows / 4) % 4 * 2 + row % 2; }
};

template <int kRows_, int kDim_, typename Permutation>
struct Tile {
  static constexpr int kRows = kRows_, kDim = kDim_;
  static constexpr int kChunks = kDim / 8;                // of 16 bytes, per row
  static constexpr int kLine = kChunks % 8 == 0 ? 8 : 4;  // chunks among which a row's are permuted
  static constexpr int kRowBytes = kDim * 2, kBytes = kRows * kRowBytes;
  static_assert(kDim % 32 == 0);

  /// Rows of half a line share one in pairs, so that four permutations are enough there.
  __device__ static constexpr int permute(int row) {
    return kLine == 8 ? Permutation::permute(row) : Permutation::permute(row) / 2;
  }
  __device__ static constexpr int offset(int row, int chunk) { return row * kRowBytes + (chunk ^ permute(row)) * 16; }

  /// This lane's address for ldmatrix.x4 of two row groups x one 16-byte chunk pair, rows first: matrices (group 0, chunk
  /// 0), (group 1, chunk 0), (group 0, chunk 1), (group 1, chunk 1).
  __device__ static int rows_first(int lane) { return offset(Permutation::row(lane / 8 % 2, lane % 8), lane / 16); }
  /// The same with chunks first: (group 0, chunk 0), (group 0, chunk 1), (group 1, chunk 0), (group 1, chunk 1).
  __device__ static int chunks_first(int lane) { return offset(Permutation::row(lane / 16, lane % 8), lane / 8 % 2); }

  /// The address for the pair of row groups `groups` and the chunk pair `chunks` from that of the first ones. Row groups are
  /// a constant distance apart and permuted alike; chunks are moved by an exclusive or within a line.
  __device__ static std::uint32_t at(std::uint32_t first, unsigned groups, unsigned chunks) {
    constexpr unsigned kPairs = kLine / 2;
    return (first ^ (chunks % kPairs * 32)) + chunks / kPairs * (kLine * 16) +
           (Permutation::row(2 * groups, 0) - Permutation::row(0, 0)) * kRowBytes;
  }
};

/// Element i of an operand that is of the kernel's type or of float32.
template <typename Element>
__device__ __forceinline__ float load_side(const void* data, DType type, std::int64_t i) {
  return type == DType::f32 ? __ldg(static_cast<const float*>(data) + i)
                            : widen_low<Element>(__ldg(static_cast<const std::uint16_t*>(data) + i));
}

/// A pair with -inf replaced by the lowest number.
template <typename Element>
__device__ __forceinline__ std::uint32_t at_least_lowest(std::uint32_t pair) {
  std::uint32_t r;
  if constexpr (std::is_same_v<Element, cutlass::half_t>) {
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(r) : "r"(pair), "r"(0xfbfffbffu));
  } else {
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(pair), "r"(0xff7fff7fu));
  }
  return r;
}

/// Starts the copy of `rows` rows of one operand to a tile, kThreads threads together: kLine threads to a row.
/// `row_data(row)` is where a row starts. What the operand does not have, rows from `rows` on and columns from `dim` on,
/// becomes zero. Without `vectorised` (16-byte aligned rows of whole chunks) elements are read one by one, and the copy is
/// complete.
template <typename Tile, int kThreads, typename RowData>
__device__ __forceinline__ void copy_rows(std::uint32_t slot, int rows, int dim, bool vectorised, const RowData& row_data) {
  constexpr int kRowStep = kThreads / Tile::kLine, kPasses = Tile::kRows / kRowStep, kLines = Tile::kChunks / Tile::kLine;
  static_assert(Tile::kRows % kRowStep == 0);
  const int thread_row = threadIdx.x / Tile::kLine, chunk = threadIdx.x % Tile::kLine;
  if (vectorised) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = thread_row + pass * kRowStep;
      const std::uint16_t* from = row_data(row) + chunk * 8;
      const std::uint32_t to = slot + Tile::offset(row, chunk);
#pragma unroll
      for (int line = 0; line < kLines; ++line) {
        const int bytes = row < rows && (chunk + line * Tile::kLine) * 8 < dim ? 16 : 0;
        cp_async_zfill(to + line * Tile::kLine * 16, from + line * Tile::kLine * 8, bytes);
      }
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kPasses * kLines; ++i) {
    const int row = thread_row + i / kLines * kRowStep, column = (chunk + i % kLines * Tile::kLine) * 8;
    std::uint32_t word[4] = {};
    if (row < rows) {
      const std::uint16_t* from = row_data(row) + column;
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (column + e < dim) word[e / 2] |= static_cast<std::uint32_t>(from[e]) << (e % 2 * 16);
      }
    }
    store_shared(slot + Tile::offset(row, column / 8), word);
  }
}

/// Writes accumulators, times `factor`, to a tile as 16-bit elements: rows row0 + 16 i, columns of 8 from group0 on.
template <typename Tile, typename Element, int kI, int kJ>
__device__ __forceinline__ void fragments_to_tile(std::uint32_t slot, int row0, int group0, float factor,
                                                  const float (&acc)[kI][kJ][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t to = slot + Tile::offset(row0 + i * 16 + half * 8 + lane / 4, group0 + j) + lane % 4 * 4;
        store_shared(to, narrow<Element>(acc[i][j][2 * half] * factor, acc[i][j][2 * half + 1] * factor));
      }
    }
  }
}

/// Stores the first `rows` of kRows rows of a tile, from row0 on, to global memory in 16-byte pieces where rows are aligned.
/// Thread `thread` of `threads` that share the work.
template <typename Tile, int kRows, typename RowData>
__device__ __forceinline__ void tile_to_rows(std::uint32_t slot, int row0, int rows, int dim, bool vectorised, int thread,
                                             int threads, const RowData& row_data) {
#pragma unroll 2
  for (int c = thread; c < kRows * Tile::kChunks; c += threads) {
    const int row = c / Tile::kChunks, chunk = c % Tile::kChunks;
    if (row >= rows || chunk * 8 >= dim) continue;
    std::uint32_t v[4];
    load_shared(slot + Tile::offset(row0 + row, chunk), v);
    std::uint16_t* to = row_data(row) + chunk * 8;
    if (vectorised) {
      *reinterpret_cast<uint4*>(to) = {v[0], v[1], v[2], v[3]};
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (chunk * 8 + e < dim) to[e] = static_cast<std::uint16_t>(v[e / 2] >> (e % 2 * 16));
      }
    }
  }
}

/// Stores accumulators, times `factor`, as float32: rows 16 i of which `rows` exist, columns from column0 on.
template <int kI, int kJ, typename RowData>
__device__ __forceinline__ void fragments_to_rows(int rows, int column0, int dim, float factor,
                                                  const float (&acc)[kI][kJ][4], const RowData& row_data) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = i * 16 + half * 8 + lane / 4;
      if (row >= rows) continue;
      float* to = row_data(row);
      const bool pairs = reinterpret_cast<std::uintptr_t>(to) % 8 == 0;
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const int column = column0 + j * 8 + lane % 4 * 2;
        const float v0 = acc[i][j][2 * half] * factor, v1 = acc[i][j][2 * half + 1] * factor;
        if (pairs && column + 1 < dim) {
          *reinterpret_cast<float2*>(to + column) = {v0, v1};
        } else {
          if (column < dim) to[column] = v0;
          if (column + 1 < dim) to[column + 1] = v1;
        }
      }
    }
  }
}

/// Whether rows at these addresses can be read or written in 16-byte pieces.
__device__ __forceinline__ bool aligned_rows(const void* data, const Strides& strides, std::int64_t dim, int element_bytes) {
  const auto all = static_cast<std::uint64_t>(strides.batch | strides.head | strides.row | dim) * element_bytes;
  return ((reinterpret_cast<std::uintptr_t>(data) | all) & 15) == 0;
}

/// Block `index` of a grid of tiles x heads: tiles run from the first on, and within a tile number all heads of a turn, so
/// that `heads_at_once` heads at a time, whose operands fit into L2 together, work down from their first tiles.
struct Place {
  std::uint32_t tile, head;
};
__device__ __forceinline__ Place place_of(std::uint32_t index, std::uint32_t tiles, std::uint32_t heads,
                                          std::uint32_t heads_at_once) {
  const std::uint32_t turn = index / (tiles * heads_at_once), first_head = turn * heads_at_once,
                      of_turn = min(heads_at_once, heads - first_head);
  index -= turn * tiles * heads_at_once;
  const std::uint32_t tile = index / of_turn;
  return {tile, first_head + index - tile * of_turn};
}

/// 32 sequences at a time, by all lanes of a warp: which sequence holds item `index` when they are laid end to end, and
/// which of its items that is, counted from its end. `count(batch)` is how many a sequence has. False: there is no such
/// item.
template <typename Count>
__device__ __forceinline__ bool find_sequence(std::int64_t batches, std::int64_t index, const Count& count,
                                              std::int64_t& batch, std::int64_t& from_end) {
  std::int64_t before = 0;
  const int lane = threadIdx.x % 32;
  for (std::int64_t first = 0; first < batches; first += 32) {
    std::int64_t sum = first + lane < batches ? count(first + lane) : 0;
    for (int step = 1; step < 32; step *= 2) {
      const std::int64_t other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    const std::uint32_t reached = __ballot_sync(~0u, before + sum > index);
    if (reached != 0) {
      const int found = __ffs(static_cast<int>(reached)) - 1;
      batch = first + found;
      from_end = before + __shfl_sync(~0u, sum, found) - 1 - index;
      return true;
    }
    before += __shfl_sync(~0u, sum, 31);
  }
  return false;
}

/// What the table's entries of a forward and a backward kernel have in common.
template <typename Config>
constexpr Kernel describe(Pass pass, double teraflops) {
  Kernel k{};
  k.pass = pass;
  k.arch = Config::kArch;
  k.operand = dtype_of<typename Config::Element>;
  k.math = Math::strict;
  k.dim = Config::kDim;
  k.tile_m = Config::kTileM;
  k.tile_n = Config::kTileN;
  k.threads = Config::kThreads;
  k.blocks_by_registers = Config::kBlocksPerSm;
  k.shared_memory = Config::kSharedMemory;
  k.minimum_compute_capability = Config::kArch == Arch::sm89 ? 89 : 80;
  k.maximum_compute_capability = Config::kArch == Arch::sm89 ? 90 : any_newer;
  k.teraflops = teraflops;
  k.divides = true;
  return k;
}

}  // namespace cutplan::fmha::sm80
