// GEMM for Ampere and everything after it: cp.async, ldmatrix, mma.sync.
//
// A and B of 16 bits, summed in float32, and of int8, summed in int32, in any of the four layouts; of fp8 (compute capability
// 8.9 and after it) where K is contiguous in both. gemm.hpp has what is computed, epilogue.cuh what happens to sums, tiles.cuh
// which tiles there are. Groups may share out rows (A row-major) or K (16 bits, A column-major, B row-major).
//
// Data movement. Tiles of A and B go from global to shared memory through a ring of kStages slots, kStages - 1 of them in
// flight. Threads copy 16 bytes each with cp.async (or, where operands are not 16-byte aligned, element by element through
// registers). ldmatrix brings fragments of the next K block of 16 into registers while mma.sync works on the present one.
// Accumulators go from registers to global memory (epilogue.cuh). A tile lies in shared memory in runs, its contiguous
// direction in global memory (K, or M for A and N for B: then ldmatrix transposes, single bytes with the help of PRMT and of
// shuffles of the sums). 16-byte chunks of a run are permuted by exclusive or with the run's number, so that the eight chunks
// that ldmatrix reads from eight runs, and those that a warp writes along one run, lie in different banks. Gated: half of the B
// tile's columns come from B, half from b2, and a warp has the same columns of both, so that x and x2 of an element meet in one
// thread.
//
// Why these tiles. A warp's 64 x 64 piece reads 8 KiB of fragments for 131072 multiply-adds, which keeps ldmatrix below half
// of the shared memory bandwidth; its 128 accumulators and two fragment buffers fit the 255 registers that 256 threads on
// one SM have. Large tiles cut traffic from L2, smaller ones fill the SMs when D is small; K is split across blocks when
// even those are too few.
#pragma once

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/memory.cuh"
#include "core/sm80/mma.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm80 {

template <typename Element_, GemmLayout kLayout_, int kTileM_, int kTileN_, int kTileK_, int kStages_, int kWarpsM_,
          int kWarpsN_, int kAlignment_, bool kGated_>
struct Config {
  using Element = Element_;
  using ElementA = typename ElementsOf<Element>::A;
  using Sum = SumOf<ElementA>;
  static constexpr int kBytes = sizeof(ElementA), kChunkElements = 16 / kBytes;
  static constexpr bool kQuantized = kBytes == 1, kIntegers = std::is_same_v<Element_, std::int8_t>;
  using Unit = std::conditional_t<kQuantized, std::uint8_t, std::uint16_t>;
  // Half of the B tile's columns come from B, half from b2; a warp has the same columns of both.
  static constexpr bool kGated = kGated_;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kTileK = kTileK_, kStages = kStages_, kWarpsM = kWarpsM_,
                       kWarpsN = kWarpsN_;
  static constexpr int kAlignment = kAlignment_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN, kColumns = kGated ? kTileN / 2 : kTileN;  // kColumns: of D
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kMmaM = kWarpM / 16, kMmaN = kWarpN / 8, kMmaK = kTileK * kBytes / 32,
                       kWarpColumns = kColumns / kWarpsN;
  static constexpr bool kAlongKA = a_is_k_major(kLayout), kAlongKB = b_is_k_major(kLayout);
  static constexpr int kSlotBytes = (kTileM + kTileN) * kTileK * kBytes;
  static constexpr std::size_t kSharedMemory = static_cast<std::size_t>(kSlotBytes) * kStages;
  static_assert(kWarpN % 32 == 0 && kWarpM % 16 == 0 && kMmaK >= 2 && kStages >= 3);
};

/// One operand's tile in one slot: `kExtent` (M or N) by kTileK elements, stored in runs along K or along the extent.
///
/// Single bytes in runs along the extent (kPairs). ldmatrix transposes 16-bit units: of a matrix, eight runs of 16 bytes, lane
/// 4 g + q gets bytes 2 g and 2 g + 1 of runs 2 q and 2 q + 1. A fragment's register has four neighbours along K of one row or
/// column, those of lane 4 g + q from 4 q on. So two matrices of one 16-byte chunk go together: one has K's 4 q and 4 q + 1 as
/// its runs 2 q and 2 q + 1, the other 4 q + 2 and 4 q + 3, and PRMT makes of the lane's two registers that of byte 2 g and
/// that of byte 2 g + 1 (join_pairs). These stand where g and 8 + g should, in A's fragments and B's: 16 rows or columns of
/// sums come out in another order, which unshuffle() mends.
template <typename Config, int kExtent, bool kAlongK>
struct OperandTile {
  static constexpr int kRunLength = kAlongK ? Config::kTileK : kExtent;
  static constexpr int kRuns = kAlongK ? kExtent : Config::kTileK;
  static constexpr int kChunks = kRunLength / Config::kChunkElements;  // of 16 bytes, per run
  static constexpr int kPermuted = kChunks < 8 ? kChunks : 8;
  static constexpr bool kPairs = !kAlongK && Config::kBytes == 1;
  static constexpr int kAlike = kPairs ? 16 : 8;  // runs so far apart are permuted alike

  /// Byte offset of a chunk. Eight chunks fill a line of all banks; short runs share one. Of pairs a matrix has every other two
  /// runs, which are those to tell apart.
  __device__ static constexpr int offset(int run, int chunk) {
    const int place = kPairs ? run / 4 * 2 + run % 2 : run;
    return (run * kChunks + (chunk ^ (place / (8 / kPermuted) % kPermuted))) * 16;
  }

  /// Where this lane reads the first block of a warp's fragments, 16 (extent) by 32 bytes (K): four 8 x 8 matrices, ordered as
  /// mma.sync wants them. A's second matrix is its lower half, B's its second half of K; of pairs the two that go together are
  /// neighbours.
  template <bool kIsA>
  __device__ static int first_block(int extent0, int lane) {
    if constexpr (kPairs) {
      return offset(lane / 16 * 16 + lane % 8 / 2 * 4 + lane / 8 % 2 * 2 + lane % 2, extent0 / 16);
    } else {
      constexpr bool kRunsFirst = kIsA == kAlongK;
      const int inner = kRunsFirst ? lane % 16 : lane % 8 + lane / 16 * 8, outer = kRunsFirst ? lane / 16 : lane / 8 % 2;
      return kAlongK ? offset(extent0 + inner, outer) : offset(inner, extent0 / 8 + outer);
    }
  }

  /// The address of block (i along the extent, k_block): a step over runs is an addition, one along a run an exclusive or of
  /// the chunk's low bits.
  __device__ static std::uint32_t block(std::uint32_t first, int i, int k_block) {
    constexpr int kBytesAlong = kPairs ? 16 : 32, kRunsOver = kPairs ? 32 : 16;
    const int over = kAlongK ? i : k_block, along = kAlongK ? k_block : i;
    return (first ^ (along * kBytesAlong)) + over * kRunsOver * kChunks * 16;
  }

  __device__ static void load_block(std::uint32_t address, std::uint32_t (&r)[4]) {
    if constexpr (kAlongK) {
      ldmatrix(address, r);
    } else {
      ldmatrix_transposed(address, r);
    }
  }

  /// Makes a fragment of what load_block() brought. Apart from it, so that nothing waits for shared memory until the fragment
  /// is used.
  template <bool kIsA>
  __device__ static void join_pairs(std::uint32_t (&r)[4]) {
    if constexpr (kPairs) {
      const std::uint32_t r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
      r[0] = __byte_perm(r0, r1, 0x6420);
      r[kIsA ? 1 : 2] = __byte_perm(r0, r1, 0x7531);
      r[kIsA ? 2 : 1] = __byte_perm(r2, r3, 0x6420);
      r[3] = __byte_perm(r2, r3, 0x7531);
    }
  }
};

/// Brings one operand's tiles from global memory, one K step after the other. kSources = 2: the second half of a tile's
/// extent comes from another matrix.
template <typename Config, int kExtent, bool kAlongK, int kSources = 1>
class Loader {
  using Tile = OperandTile<Config, kExtent, kAlongK>;
  using Unit = typename Config::Unit;
  static constexpr int kBytes = Config::kBytes, kChunkElements = Config::kChunkElements;
  static constexpr int kRunStep = Config::kThreads / Tile::kChunks;  // runs between two chunks of a thread
  static_assert(Config::kThreads % Tile::kChunks == 0 && Tile::kRuns % kRunStep == 0 && kRunStep % Tile::kAlike == 0);

 public:
  static constexpr int kCopies = Tile::kRuns / kRunStep;  // chunks of a thread

  /// The tile at `extent0` of an operand with `extent` rows (A) or columns (B), from k0 on.
  __device__ Loader(const Matrix& source, const Matrix& second, std::uint32_t batch, std::int64_t extent0,
                    std::int64_t extent, std::int64_t k0) {
    constexpr int kShare = kExtent / kSources;
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
    to_ = Tile::offset(run, chunk);
    // Along the extent a thread's chunks are of one matrix; along K its first ones are of one, the others of the other.
    const int place = kAlongK ? run : kChunkElements * chunk;
    const Matrix& own = kSources == 2 && !kAlongK && place >= kShare ? second : source;
    const auto first = [&](const Matrix& from) {
      const std::int64_t at = extent0 + place % kShare;
      return static_cast<const Unit*>(from.data) + batch * from.batch_stride +
             (kAlongK ? at * from.ld + k0 + kChunkElements * chunk : (k0 + run) * from.ld + at);
    };
    from_ = first(own);
    run_step_ = kRunStep * own.ld;
    next_step_ = kAlongK ? Config::kTileK : Config::kTileK * own.ld;
    if constexpr (kSplit) {
      static_assert(kShare % kRunStep == 0);
      second_step_ = kRunStep * second.ld;
      second_ = first(second) - from_;
    }
    next_step_ -= offset(kCopies - 1);
    // Along K: which of the thread's runs exist. Others are left as they are: they only reach rows and columns outside D.
    // Along the extent: how much of the thread's chunk exists.
    const auto inside = [&](std::int64_t i) {
      return static_cast<int>(i < 0 ? 0 : i > kChunkElements ? kChunkElements : i);
    };
    elements_ = kAlongK ? kChunkElements : inside(extent - extent0 - place % kShare);
    runs_ = 0;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (kAlongK ? extent0 + (run + i * kRunStep) % kShare < extent : elements_ > 0) runs_ |= 1u << i;
    }
    // Hold on to these in registers: recomputing them in each step was 60 instructions that the tensor cores waited for.
    asm volatile("" : "+r"(runs_), "+l"(run_step_), "+l"(next_step_));
  }

  /// Whether every chunk is whole or absent, for all threads.
  __device__ static bool whole_chunks(std::int64_t extent) { return kAlongK || extent % kChunkElements == 0; }

  /// The thread's runs where `wanted`, else none: what copy_chunk takes.
  __device__ std::uint32_t runs(bool wanted) const { return wanted ? runs_ : 0; }

  /// Starts the copy of chunk i of a K step of whole chunks; the last one moves on to the next step.
  __device__ __forceinline__ void copy_chunk(std::uint32_t slot, int i, std::uint32_t runs) {
    if (runs >> i & 1) cp_async(slot + to(i), from_);
    from_ += i + 1 < kCopies ? offset(i + 1) - offset(i) : next_step_;
  }

  /// Starts the copy of a whole step of which only `k_left` elements, or parts of chunks, exist; the rest becomes zero. Does
  /// not move on.
  __device__ __forceinline__ void copy_partial(std::uint32_t slot, int k_left) {
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (runs_ >> i & 1) {
        const int left = kAlongK ? k_left - kChunkElements * chunk : run + i * kRunStep < k_left ? elements_ : 0;
        const int bytes = left <= 0 ? 0 : left < kChunkElements ? left * kBytes : 16;
        cp_async_zfill<16, false>(slot + to(i), bytes ? from_ + offset(i) : from_, bytes);
      }
    }
  }

  /// For operands of any alignment, in two steps: read into registers now, write to the slot later.
  __device__ __forceinline__ void fetch(int k_left) {
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int left = !(runs_ >> i & 1)             ? 0
                       : kAlongK                     ? k_left - kChunkElements * chunk
                       : run + i * kRunStep < k_left ? elements_
                                                     : 0;
#pragma unroll
      for (int w = 0; w < 4; ++w) held_[i][w] = 0;
#pragma unroll
      for (int e = 0; e < kChunkElements; ++e) {
        const std::uint32_t element = e < left ? from_[offset(i) + e] : Unit{0};
        held_[i][e * kBytes / 4] |= element << (e * kBytes % 4 * 8);
      }
    }
    from_ += next_step_ + offset(kCopies - 1);
  }

  __device__ __forceinline__ void flush(std::uint32_t slot) const {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) store_shared(slot + to(i), held_[i]);
  }

 private:
  static constexpr bool kSplit = kSources == 2 && kAlongK;

  /// Where the thread's chunk i lies in a slot.
  __device__ __forceinline__ int to(int i) const { return to_ + i * kRunStep * Tile::kChunks * 16; }

  /// Elements from the thread's first chunk to chunk i.
  __device__ __forceinline__ std::int64_t offset(int i) const {
    if constexpr (kSplit) {
      if (i >= kCopies / 2) return second_ + (i - kCopies / 2) * second_step_;
    }
    return i * run_step_;
  }

  const Unit* from_;
  std::int64_t run_step_;                      // elements from a chunk to the thread's next
  std::int64_t next_step_;                     // and from its last to its first of the next K step
  std::int64_t second_ = 0, second_step_ = 0;  // to the first chunk of the second matrix, and between its chunks
  int to_, elements_;
  std::uint32_t runs_;
  std::uint32_t held_[kCopies][4];  // used by fetch and flush alone
};

/// 16 x 8 sums, of one K block of 32 bytes.
template <typename Element>
__device__ __forceinline__ void multiply_block(float* d, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  using A = typename ElementsOf<Element>::A;
  if constexpr (std::is_same_v<A, std::int8_t>) {
    mma_int8(d, a, b0, b1);
  } else if constexpr (sizeof(A) == 1) {
    mma_fp8<A, typename ElementsOf<Element>::B>(d, a, b0, b1);
  } else {
    mma<Element>(d, a, b0, b1);
  }
}

/// Row i of a warp's blocks of 16 x 8 sums, of one K block.
template <typename Config>
__device__ __forceinline__ void multiply_row(float (&acc)[Config::kMmaM * Config::kMmaN * 4], int i,
                                             const std::uint32_t (&a)[4], const std::uint32_t (&b)[Config::kMmaN / 2][4]) {
  constexpr int kMmaN = Config::kMmaN;
#pragma unroll
  for (int j = 0; j < kMmaN; ++j) {
    // Back and forth along N, so that neighbours in issue order share a fragment.
    const int n = i % 2 ? kMmaN - 1 - j : j;
    multiply_block<typename Config::Element>(&acc[(i * kMmaN + n) * 4], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
  }
}

/// kPlaces lanes, kStride apart, have two values each: the lane in place h the 2 h-th and its next, and afterwards the h-th and
/// the one kPlaces after it. That turns the bits of a value's number, the lowest of which says which of the two it is, by one:
/// this bit changes places with each bit of h in turn.
template <int kPlaces, int kStride>
__device__ __forceinline__ void deal(float& x, float& y) {
#pragma unroll
  for (int bit = kStride; bit < kPlaces * kStride; bit *= 2) {
    const bool set = threadIdx.x & bit;
    const float other = __shfl_xor_sync(~0u, set ? x : y, bit);
    (set ? x : y) = other;
  }
}

/// Where fragments were joined of pairs (OperandTile), the sums of a row of blocks go to the lanes and registers that mma.sync
/// has them in. Of 16 rows lanes 4 g to 4 g + 3 have 2 g and 2 g + 1. Of 16 columns, those of blocks n and n + 1, lane q of
/// four has 4 q and 4 q + 2 in block n, and the columns next to these in block n + 1.
template <typename Config>
__device__ __forceinline__ void unshuffle(float (&of_row)[Config::kMmaN * 4]) {
  if constexpr (OperandTile<Config, Config::kTileM, Config::kAlongKA>::kPairs) {
#pragma unroll
    for (int n = 0; n < Config::kMmaN; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) deal<8, 4>(of_row[4 * n + e], of_row[4 * n + 2 + e]);
    }
  }
  if constexpr (OperandTile<Config, Config::kTileN, Config::kAlongKB>::kPairs) {
#pragma unroll
    for (int n = 0; n < Config::kMmaN; n += 2) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float *const even = &of_row[4 * n + 2 * h], *const odd = even + 4;
        deal<4, 1>(even[0], even[1]);
        deal<4, 1>(odd[0], odd[1]);
        const float second = even[1];
        even[1] = odd[0];
        odd[0] = second;
      }
    }
  }
}

template <typename Config>
__global__ __launch_bounds__(Config::kThreads) void sm80_gemm(const __grid_constant__ Problem p,
                                                              const __grid_constant__ TileGrid grid) {
  using TileA = OperandTile<Config, Config::kTileM, Config::kAlongKA>;
  using TileB = OperandTile<Config, Config::kTileN, Config::kAlongKB>;
  constexpr int kStages = Config::kStages, kTileK = Config::kTileK, kMmaM = Config::kMmaM, kMmaN = Config::kMmaN,
                kMmaK = Config::kMmaK;
  constexpr bool kAsync = Config::kAlignment == 16;
  extern __shared__ __align__(128) char shared[];
  const auto ring = shared_address(shared);
  constexpr std::uint32_t kRingBytes = kStages * Config::kSlotBytes, kOffsetB = Config::kTileM * kTileK * Config::kBytes;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_m = warp % Config::kWarpsM * Config::kWarpM, warp_n = warp / Config::kWarpsM * Config::kWarpColumns;
  const std::uint32_t first_a = ring + TileA::template first_block<true>(warp_m, lane),
                      first_b = ring + kOffsetB + TileB::template first_block<false>(warp_n, lane);

  TileWalk<Config::kTileM, Config::kColumns> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    const int steps = static_cast<int>((tile.k_end - tile.k + kTileK - 1) / kTileK);
    const int k_last =
        static_cast<int>(tile.k_end - tile.k - static_cast<std::int64_t>(steps - 1) * kTileK);  // of the last step

    Loader<Config, Config::kTileM, Config::kAlongKA> load_a(p.a, p.a, tile.batch, tile.row, tile.row_end, tile.k);
    Loader<Config, Config::kTileN, Config::kAlongKB, Config::kGated ? 2 : 1> load_b(p.b, p.b2, tile.batch, tile.col, p.n,
                                                                                    tile.k);
    // Steps whose chunks all exist whole; others are copied with zero fill.
    const int full_steps = k_last == kTileK ? steps : steps - 1;
    const int whole_steps = kAsync && load_a.whole_chunks(p.m) && load_b.whole_chunks(p.n) ? full_steps : 0;
    const auto start_ragged_copy = [&](int step, std::uint32_t slot) {
      const int k_left = step < full_steps ? kTileK : k_last;
      if constexpr (kAsync) {
        load_a.copy_partial(slot, k_left);
        load_b.copy_partial(slot + kOffsetB, k_left);
      } else {
        load_a.fetch(k_left);
        load_b.fetch(k_left);
      }
    };
    const auto copy_chunk = [&](int chunk, std::uint32_t slot, std::uint32_t runs_a, std::uint32_t runs_b) {
      if (chunk < load_a.kCopies) {
        load_a.copy_chunk(slot, chunk, runs_a);
      } else {
        load_b.copy_chunk(slot + kOffsetB, chunk - load_a.kCopies, runs_b);
      }
    };
    constexpr int kCopies = load_a.kCopies + load_b.kCopies;
    const auto finish_copy = [&](std::uint32_t slot) {
      if constexpr (!kAsync) {
        load_a.flush(ring + slot);
        load_b.flush(ring + slot + kOffsetB);
      }
    };
    const auto wait_for_slot = [&] {
      cp_async_wait<kStages - 2>();
      __syncthreads();
    };

    __syncthreads();  // the ring is still read by the previous tile
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      if (stage < steps) {
        const bool whole = stage < whole_steps;
        if (!whole) start_ragged_copy(stage, ring + stage * Config::kSlotBytes);
        if constexpr (kAsync) {
#pragma unroll
          for (int chunk = 0; chunk < kCopies; ++chunk)
            copy_chunk(chunk, ring + stage * Config::kSlotBytes, load_a.runs(whole), load_b.runs(whole));
        }
        finish_copy(stage * Config::kSlotBytes);
      }
      cp_async_commit();
    }

    float acc[kMmaM * kMmaN * 4] = {};
    std::uint32_t a[2][kMmaM][4], b[2][kMmaN / 2][4];  // a pair of column blocks in each b
    const auto load_fragments = [&](int buffer, std::uint32_t slot, int k_block) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) TileA::load_block(TileA::block(first_a + slot, i, k_block), a[buffer][i]);
#pragma unroll
      for (int j = 0; j < kMmaN / 2; ++j) {
        const int block = Config::kGated && j >= kMmaN / 4 ? j - kMmaN / 4 + Config::kColumns / 16 : j;
        TileB::load_block(TileB::block(first_b + slot, block, k_block), b[buffer][j]);
      }
    };

    if (steps > 0) {
      wait_for_slot();
      load_fragments(0, 0, 0);
    }
    std::uint32_t slot = 0, free_slot = (kStages - 1) * Config::kSlotBytes;  // free_slot: read in the previous step
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const std::uint32_t next_slot = slot + Config::kSlotBytes == kRingBytes ? 0 : slot + Config::kSlotBytes;
      const int incoming = step + kStages - 1;
      const bool whole = incoming < whole_steps;
      const std::uint32_t runs_a = load_a.runs(whole), runs_b = load_b.runs(whole);
      if (!whole && incoming < steps) start_ragged_copy(incoming, ring + free_slot);
#pragma unroll
      for (int k_block = 0; k_block < kMmaK; ++k_block) {
        if (k_block == kMmaK - 1) {
          cp_async_commit();
          wait_for_slot();
        }
        // After the last step this reads a slot that nobody needs: cheaper than a branch.
        load_fragments((k_block + 1) % 2, k_block == kMmaK - 1 ? next_slot : slot, (k_block + 1) % kMmaK);
#pragma unroll
        for (int j = 0; j < kMmaN / 2; ++j) TileB::template join_pairs<false>(b[k_block % 2][j]);
#pragma unroll
        for (int i = 0; i < kMmaM; ++i) {
          // Copies are spread between the rows of mma before the last K block, so that neither the tensor cores nor ldmatrix
          // wait for a burst of them.
          if constexpr (kAsync) {
            if (k_block < kMmaK - 1) {
              constexpr int kPlaces = (kMmaK - 1) * kMmaM;
              const int place = k_block * kMmaM + i;
#pragma unroll
              for (int chunk = place * kCopies / kPlaces; chunk < (place + 1) * kCopies / kPlaces; ++chunk)
                copy_chunk(chunk, ring + free_slot, runs_a, runs_b);
            }
          }
          TileA::template join_pairs<true>(a[k_block % 2][i]);
          multiply_row<Config>(acc, i, a[k_block % 2][i], b[k_block % 2]);
        }
      }
      if (incoming < steps) finish_copy(free_slot);
      free_slot = slot;
      slot = next_slot;
    }
    cp_async_wait<0>();
    __syncthreads();  // the epilogue reuses the ring

    Epilogue<Config::kQuantized> epilogue(p, tile.batch, tile.slice * p.batch + tile.batch, tile.row_end);
    char* staging = shared + warp * staging_bytes;
    const std::int64_t row = tile.row + warp_m, col = tile.col + warp_n;
    if constexpr (Config::kIntegers) round_sums(p, acc);
    if constexpr (Config::kQuantized && !Config::kGated) {
      // Row by row of blocks: scales and terms for all of them take more registers than there are.
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) {
        auto& of_row = reinterpret_cast<float (&)[kMmaN * 4]>(acc[i * kMmaN * 4]);
        unshuffle<Config>(of_row);
        epilogue.template store_warp_tile<1, kMmaN / 4>(of_row, staging, row + 16 * i, col);
      }
    } else if constexpr (Config::kGated) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) {
        auto& of_row = reinterpret_cast<float (&)[kMmaN * 4]>(acc[i * kMmaN * 4]);
        unshuffle<Config>(of_row);
        epilogue.template gate<kMmaN / 8>(of_row, row + 16 * i, col);
        epilogue.template store_warp_tile<1, kMmaN / 8>(reinterpret_cast<float (&)[kMmaN * 2]>(of_row), staging,
                                                        row + 16 * i, col);
      }
    } else {
      epilogue.template store_warp_tile<kMmaM, kMmaN / 4>(acc, staging, row, col);
    }
  }
}

/// What sum_codes() does, for operands whose lines lie side by side. A block has 32 lines, a sector of each K, which its warps
/// share out.
template <typename Code>
__global__ void sum_codes_across(const __grid_constant__ Problem p, std::int32_t* a_sums, std::int32_t* b_sums) {
  __shared__ std::int32_t part[32][33];
  const std::int64_t of_a = a_sums != nullptr ? p.batch * ((p.m + 31) / 32) : 0;
  const bool is_a = blockIdx.x < of_a;
  const Matrix& x = is_a ? p.a : p.b;
  const std::int64_t extent = is_a ? p.m : p.n, blocks = (extent + 31) / 32, index = is_a ? blockIdx.x : blockIdx.x - of_a,
                     batch = index / blocks, first = index % blocks * 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto* from = static_cast<const Code*>(x.data) + batch * x.batch_stride + first + lane;
  std::int32_t sum = 0;
  if (first + lane < extent) {
#pragma unroll 8
    for (std::int64_t k = warp; k < p.k; k += 32) sum += from[k * x.ld];
  }
  part[warp][lane] = sum;
  __syncthreads();
  sum = __reduce_add_sync(0xffffffffu, part[lane][warp]);
  const std::int64_t line = first + warp;
  if (lane != 0 || line >= extent) return;
  if (!is_a) {
    b_sums[batch * extent + line] = sum;
  } else {
    const Matrix& zero = p.of_a.zero;
    const std::int32_t of_row =
        zero.data != nullptr ? static_cast<const std::int32_t*>(zero.data)[batch * zero.batch_stride + line * zero.ld] : 0;
    a_sums[batch * extent + line] = sum - static_cast<std::int32_t>(p.k) * of_row;
  }
}

/// Launches what makes the sums that with_zero_sums() has given places.
template <typename Config>
void sum_codes_for(const Problem& p, const Launch& launch) {
  Problem along = p, across = p;
  (Config::kAlongKA ? across : along).a_sums = {};
  (Config::kAlongKB ? across : along).b_sums = {};
  sum_codes_for_zeros(along, launch);
  const std::int64_t blocks = (across.a_sums.data != nullptr ? p.batch * ((p.m + 31) / 32) : 0) +
                              (across.b_sums.data != nullptr ? p.batch * ((p.n + 31) / 32) : 0);
  launch_kernel("launch of the kernel that sums codes", launch.stream, {blocks, 1024},
                sum_codes_across<typename Config::Element>, across, static_cast<std::int32_t*>(across.a_sums.data),
                static_cast<std::int32_t*>(across.b_sums.data));
}

template <typename Config>
void prepare(const Kernel&) {
  allow_shared_memory(sm80_gemm<Config>, Config::kSharedMemory);
  load_kernel(split_k_reduce);
  if constexpr (Config::kIntegers) {
    load_kernel(sum_codes);
    load_kernel(sum_codes_across<typename Config::Element>);
  }
}

template <typename Config>
void run(const Kernel&, const Problem& p, const Launch& launch) {
  const bool zeros = Config::kIntegers && has_zeros(p);
  const Problem main = launch.split_k > 1 ? partial_sums(p, launch.workspace)
                       : zeros            ? with_zero_sums(p, launch.workspace)
                                          : p;
  const TileGrid grid = tile_grid(p, Config::kTileM, Config::kColumns, Config::kTileK, launch.split_k);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  for (int i = 0; i < launch.repeats; ++i) {
    if constexpr (Config::kIntegers) {
      if (zeros) sum_codes_for<Config>(main, launch);
    }
    launch_kernel("launch of the sm80 GEMM kernel", launch.stream, {blocks, Config::kThreads, Config::kSharedMemory},
                  sm80_gemm<Config>, main, grid);
    if (launch.split_k > 1) reduce_split_k(p, launch);
  }
}

template <Arch kArch, typename Element, GemmLayout kLayout, int kTileM, int kTileN, int kTileK, int kStages, int kWarpsM,
          int kWarpsN, int kAlignment, Gate kGate>
constexpr Kernel kernel(double peak_fraction) {
  using C = Config<Element, kLayout, kTileM, kTileN, kTileK, kStages, kWarpsM, kWarpsN, kAlignment, kGate == Gate::separate>;
  Kernel k{};
  k.arch = kArch;
  k.summation = {Multiplier::mma_sync, 32 / C::kBytes};
  k.operand = dtype_of<typename ElementsOf<Element>::A>();
  k.operand_b = dtype_of<typename ElementsOf<Element>::B>();
  k.math = is_float8(k.operand) ? Math::fast : Math::strict;
  k.layout = kLayout;
  k.tile_m = kTileM;
  k.gate = kGate;
  k.tile_n = C::kColumns;
  k.tile_k = kTileK;
  k.stages = kStages;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = "multistage";
  k.alignment = kAlignment;
  k.threads = C::kThreads;
  // Warps with 64 x 64 accumulators take all 255 registers, so that 8 of them fill an SM; others take half.
  k.blocks_by_registers = (C::kMmaM * C::kMmaN == 32 ? 8 : 16) / (C::kThreads / 32);
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = kArch == Arch::sm89 ? 89 : 80;
  k.maximum_compute_capability = kArch == Arch::sm89 ? 90 : any_newer;
  k.splits_k = kGate == Gate::none && !C::kQuantized;
  k.groups = true;
  k.zeros = C::kIntegers && kGate == Gate::none;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = 1.6e-6;
  k.run = run<C>;
  k.prepare = prepare<C>;
  return k;
}

/// A table: one tile, in each of the layouts.
template <Arch kArch, typename Element, int kTileM, int kTileN, int kTileK, int kStages, int kWarpsM, int kWarpsN,
          int kAlignment, Gate kGate = Gate::none, GemmLayout... kLayouts>
constexpr std::array<Kernel, sizeof...(kLayouts)> kernels(Layouts<kLayouts...>, double peak_fraction) {
  return {kernel<kArch, Element, kLayouts, kTileM, kTileN, kTileK, kStages, kWarpsM, kWarpsN, kAlignment, kGate>(
      peak_fraction)...};
}

}  // namespace cutplan::gemm::sm80
