// GEMM for Ampere and everything after it: cp.async, ldmatrix, mma.sync.
//
// Computes D = activation(alpha A B + beta C + bias) for 16-bit A and B in any of the four layouts, float32 accumulation.
//
// Data movement. Tiles of A and B go from global to shared memory through a ring of kStages slots, kStages - 1 of them in
// flight. Threads copy 16 bytes each with cp.async (or, where operands are not 16-byte aligned, element by element through
// registers). ldmatrix brings fragments of the next K block of 16 into registers while mma.sync works on the present one.
// Accumulators go from registers to global memory (epilogue.cuh). A tile lies in shared memory in runs, its contiguous
// direction in global memory (K, or M for A and N for B: then ldmatrix transposes). 16-byte chunks of a run are permuted by
// exclusive or with the run's number, so that the eight chunks that ldmatrix reads from eight runs, and those that a warp
// writes along one run, lie in different banks.
//
// Why these tiles. A warp's 64 x 64 piece reads 8 KiB of fragments for 131072 multiply-adds, which keeps ldmatrix below half
// of the shared memory bandwidth; its 128 accumulators and two fragment buffers fit the 255 registers that 256 threads on
// one SM have. Large tiles cut traffic from L2, smaller ones fill the SMs when D is small; K is split across blocks when
// even those are too few.
#pragma once

#include <cutlass/numeric_types.h>
#include <cute/arch/copy_sm75.hpp>
#include <cute/arch/copy_sm80.hpp>
#include <cute/arch/mma_sm80.hpp>

#include <algorithm>
#include <type_traits>

#include "core/cuda.hpp"
#include "gemm/epilogue.cuh"
#include "gemm/support.hpp"

namespace cutplan::gemm::sm80 {

template <typename Element_, GemmLayout kLayout_, int kTileM_, int kTileN_, int kTileK_, int kStages_, int kWarpsM_,
          int kWarpsN_, int kAlignment_>
struct Config {
  using Element = Element_;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kTileK = kTileK_, kStages = kStages_, kWarpsM = kWarpsM_,
                       kWarpsN = kWarpsN_;
  static constexpr int kAlignment = kAlignment_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kMmaM = kWarpM / 16, kMmaN = kWarpN / 8, kMmaK = kTileK / 16;
  static constexpr bool kAlongKA = kLayout == GemmLayout::rcr || kLayout == GemmLayout::rrr;
  static constexpr bool kAlongKB = kLayout == GemmLayout::rcr || kLayout == GemmLayout::ccr;
  static constexpr int kSlotBytes = (kTileM + kTileN) * kTileK * 2;
  static constexpr std::size_t kSharedMemory = static_cast<std::size_t>(kSlotBytes) * kStages;
  static_assert(kWarpN % 32 == 0 && kWarpM % 16 == 0 && kMmaK >= 2 && kStages >= 3);
};

/// One operand's tile in one slot: `kExtent` (M or N) by kTileK elements, stored in runs along K or along the extent.
template <typename Config, int kExtent, bool kAlongK>
struct OperandTile {
  static constexpr int kRunLength = kAlongK ? Config::kTileK : kExtent;
  static constexpr int kRuns = kAlongK ? kExtent : Config::kTileK;
  static constexpr int kChunks = kRunLength / 8;  // of 16 bytes, per run
  static constexpr int kPermuted = kChunks < 8 ? kChunks : 8;

  /// Byte offset of a chunk. Eight chunks fill a line of all banks; short runs share one. Runs 8 apart are permuted alike.
  __device__ static constexpr int offset(int run, int chunk) {
    return (run * kChunks + (chunk ^ (run / (8 / kPermuted) % kPermuted))) * 16;
  }

  /// Where this lane reads the first 16 (extent) by 16 (K) block of a warp's fragments: four 8 x 8 matrices, ordered as
  /// mma.sync wants them. A's second matrix is its lower half, B's its second half of K.
  template <bool kIsA>
  __device__ static int first_block(int extent0, int lane) {
    constexpr bool kRunsFirst = kIsA == kAlongK;
    const int inner = kRunsFirst ? lane % 16 : lane % 8 + lane / 16 * 8, outer = kRunsFirst ? lane / 16 : lane / 8 % 2;
    return kAlongK ? offset(extent0 + inner, outer) : offset(inner, extent0 / 8 + outer);
  }

  /// The address of block (i along the extent, k_block): a step over runs is an addition, one along a run an exclusive or of
  /// the chunk's low bits.
  __device__ static std::uint32_t block(std::uint32_t first, int i, int k_block) {
    const int over = kAlongK ? i : k_block, along = kAlongK ? k_block : i;
    return (first ^ (along * 32)) + over * 16 * kChunks * 16;
  }

  __device__ static void load_block(std::uint32_t address, std::uint32_t (&r)[4]) {
    if constexpr (kAlongK) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(address));
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(address));
    }
  }
};

/// Brings one operand's tiles from global memory, one K step after the other.
template <typename Config, int kExtent, bool kAlongK>
class Loader {
  using Tile = OperandTile<Config, kExtent, kAlongK>;
  static constexpr int kRunStep = Config::kThreads / Tile::kChunks;  // runs between two chunks of a thread
  static_assert(Config::kThreads % Tile::kChunks == 0 && Tile::kRuns % kRunStep == 0 && kRunStep % 8 == 0);

 public:
  static constexpr int kCopies = Tile::kRuns / kRunStep;  // chunks of a thread

  /// The tile at `extent0` of an operand with `extent` rows (A) or columns (B), from k0 on.
  __device__ Loader(const void* data, std::int64_t ld, std::int64_t extent0, std::int64_t extent, std::int64_t k0)
      : run_step_(kRunStep * ld),
        next_step_((kAlongK ? Config::kTileK : Config::kTileK * ld) - (kCopies - 1) * kRunStep * ld) {
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
    to_ = Tile::offset(run, chunk);
    const std::int64_t first = kAlongK ? (extent0 + run) * ld + k0 + 8 * chunk : (k0 + run) * ld + extent0 + 8 * chunk;
    from_ = static_cast<const std::uint16_t*>(data) + first;
    // Along K: which of the thread's runs exist. Others are left as they are: they only reach rows and columns outside D.
    // Along the extent: how much of the thread's chunk exists.
    const auto inside = [&](std::int64_t i) { return static_cast<int>(i < 0 ? 0 : i > 8 ? 8 : i); };
    elements_ = kAlongK ? 8 : inside(extent - extent0 - 8 * chunk);
    runs_ = 0;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (kAlongK ? extent0 + run + i * kRunStep < extent : elements_ > 0) runs_ |= 1u << i;
    }
    // Hold on to these in registers: recomputing them in each step was 60 instructions that the tensor cores waited for.
    asm volatile("" : "+r"(runs_), "+l"(run_step_), "+l"(next_step_));
  }

  /// Whether every chunk is whole or absent, for all threads.
  __device__ static bool whole_chunks(std::int64_t extent) { return kAlongK || extent % 8 == 0; }

  /// The thread's runs where `wanted`, else none: what copy_chunk takes.
  __device__ std::uint32_t runs(bool wanted) const { return wanted ? runs_ : 0; }

  /// Starts the copy of chunk i of a K step of whole chunks; the last one moves on to the next step.
  __device__ __forceinline__ void copy_chunk(std::uint32_t slot, int i, std::uint32_t runs) {
    if (runs >> i & 1)
      asm volatile(
          "cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(slot + to_ + i * kRunStep * Tile::kChunks * 16),
          "l"(from_));
    from_ += i + 1 < kCopies ? run_step_ : next_step_;
  }

  /// Starts the copy of a whole step of which only `k_left` elements, or parts of chunks, exist; the rest becomes zero. Does
  /// not move on.
  __device__ __forceinline__ void copy_partial(std::uint32_t slot, int k_left) {
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (runs_ >> i & 1) {
        const int left = kAlongK ? k_left - 8 * chunk : run + i * kRunStep < k_left ? elements_ : 0;
        const int bytes = left <= 0 ? 0 : left < 8 ? left * 2 : 16;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(slot + to_ + i * kRunStep * Tile::kChunks * 16),
                     "l"(bytes ? from_ + i * run_step_ : from_), "r"(bytes));
      }
    }
  }

  /// For operands of any alignment, in two steps: read into registers now, write to the slot later.
  __device__ __forceinline__ void fetch(int k_left) {
    const int chunk = threadIdx.x % Tile::kChunks, run = threadIdx.x / Tile::kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int left = !(runs_ >> i & 1) ? 0 : kAlongK ? k_left - 8 * chunk : run + i * kRunStep < k_left ? elements_ : 0;
      std::uint16_t element[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) element[e] = e < left ? from_[i * run_step_ + e] : std::uint16_t{0};
#pragma unroll
      for (int w = 0; w < 4; ++w) held_[i][w] = element[2 * w] | static_cast<std::uint32_t>(element[2 * w + 1]) << 16;
    }
    from_ += next_step_ + (kCopies - 1) * run_step_;
  }

  __device__ __forceinline__ void flush(std::uint32_t slot) const {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(slot + to_ + i * kRunStep * Tile::kChunks * 16),
                   "r"(held_[i][0]), "r"(held_[i][1]), "r"(held_[i][2]), "r"(held_[i][3]));
    }
  }

 private:
  const std::uint16_t* from_;
  std::int64_t run_step_;   // elements from a chunk to the thread's next
  std::int64_t next_step_;  // and from its last to its first of the next K step
  int to_, elements_;
  std::uint32_t runs_;
  std::uint32_t held_[kCopies][4];  // used by fetch and flush alone
};

template <typename Element>
__device__ __forceinline__ void multiply(float* acc, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  using Mma = std::conditional_t<std::is_same_v<Element, cutlass::half_t>, cute::SM80_16x8x16_F32F16F16F32_TN,
                                 cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  Mma::fma(acc[0], acc[1], acc[2], acc[3], a[0], a[1], a[2], a[3], b0, b1, acc[0], acc[1], acc[2], acc[3]);
}

struct Grid : TileGrid {
  std::int64_t k_slice;
  std::uint32_t split_k;
};

template <typename Config>
__global__ __launch_bounds__(Config::kThreads) void sm80_gemm(const __grid_constant__ Problem p,
                                                              const __grid_constant__ Grid grid) {
  using TileA = OperandTile<Config, Config::kTileM, Config::kAlongKA>;
  using TileB = OperandTile<Config, Config::kTileN, Config::kAlongKB>;
  constexpr int kStages = Config::kStages, kTileK = Config::kTileK, kMmaM = Config::kMmaM, kMmaN = Config::kMmaN,
                kMmaK = Config::kMmaK;
  constexpr bool kAsync = Config::kAlignment == 16;
  extern __shared__ __align__(128) char shared[];
  const auto ring = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  constexpr std::uint32_t kRingBytes = kStages * Config::kSlotBytes, kOffsetB = Config::kTileM * kTileK * 2;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_m = warp % Config::kWarpsM * Config::kWarpM, warp_n = warp / Config::kWarpsM * Config::kWarpN;
  const std::uint32_t first_a = ring + TileA::template first_block<true>(warp_m, lane),
                      first_b = ring + kOffsetB + TileB::template first_block<false>(warp_n, lane);

  for (std::uint32_t index = blockIdx.x; index < grid.tiles; index += gridDim.x) {
    const std::uint32_t tiles_per_split = grid.tiles / grid.split_k, split = index / tiles_per_split;
    const TileCoordinate tile = grid.coordinate(index - split * tiles_per_split);
    const std::int64_t k_begin = split * grid.k_slice, k_end = min(p.k, k_begin + grid.k_slice);
    const int steps = static_cast<int>((k_end - k_begin + kTileK - 1) / kTileK);
    const int k_last =
        static_cast<int>(k_end - k_begin - static_cast<std::int64_t>(steps - 1) * kTileK);  // elements of the last step
    const std::int64_t tile_m = tile.m * Config::kTileM, tile_n = tile.n * Config::kTileN;

    Loader<Config, Config::kTileM, Config::kAlongKA> load_a(static_cast<const std::uint16_t*>(p.a) + tile.batch * p.batch_a,
                                                            p.lda, tile_m, p.m, k_begin);
    Loader<Config, Config::kTileN, Config::kAlongKB> load_b(static_cast<const std::uint16_t*>(p.b) + tile.batch * p.batch_b,
                                                            p.ldb, tile_n, p.n, k_begin);
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
      asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2));
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
      asm volatile("cp.async.commit_group;");
    }

    float acc[kMmaM * kMmaN * 4] = {};
    std::uint32_t a[2][kMmaM][4], b[2][kMmaN / 2][4];  // a pair of column blocks in each b
    const auto load_fragments = [&](int buffer, std::uint32_t slot, int k_block) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) TileA::load_block(TileA::block(first_a + slot, i, k_block), a[buffer][i]);
#pragma unroll
      for (int j = 0; j < kMmaN / 2; ++j) TileB::load_block(TileB::block(first_b + slot, j, k_block), b[buffer][j]);
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
          asm volatile("cp.async.commit_group;");
          wait_for_slot();
        }
        // After the last step this reads a slot that nobody needs: cheaper than a branch.
        load_fragments((k_block + 1) % 2, k_block == kMmaK - 1 ? next_slot : slot, (k_block + 1) % kMmaK);
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
#pragma unroll
          for (int j = 0; j < kMmaN; ++j) {
            // Back and forth along N, so that neighbours in issue order share a fragment.
            const int n = i % 2 ? kMmaN - 1 - j : j;
            multiply<typename Config::Element>(&acc[(i * kMmaN + n) * 4], a[k_block % 2][i],
                                               b[k_block % 2][n / 2][n % 2 * 2], b[k_block % 2][n / 2][n % 2 * 2 + 1]);
          }
        }
      }
      if (incoming < steps) finish_copy(free_slot);
      free_slot = slot;
      slot = next_slot;
    }
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();  // the epilogue reuses the ring

    Epilogue(p, tile.batch, split * p.batch + tile.batch)
        .template store_warp_tile<kMmaM, kMmaN / 4>(acc, shared + warp * staging_bytes, tile_m + warp_m, tile_n + warp_n);
  }
}

/// Adds up the slices of a split K, in order, and runs the epilogue on the sum. One thread for 8 columns of a row.
static __global__ void split_k_reduce(const __grid_constant__ Problem p, const float* partial, int split_k) {
  const std::int64_t vectors = (p.n + 7) / 8, elements = p.batch * p.m * p.n;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < p.batch * p.m * vectors;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t col = i % vectors * 8, row = i / vectors % p.m, batch = i / vectors / p.m;
    const int count = p.n - col < 8 ? static_cast<int>(p.n - col) : 8;
    float x[8] = {};
    for (int split = 0; split < split_k; ++split) {
      RowVectors(partial + split * elements, p.n, p.m * p.n, batch, DType::f32).add_to(x, 1.0f, row, col, count);
    }
    Epilogue(p, batch, batch).finish(x, row, col);
  }
}

template <typename Config>
void prepare(const Kernel&) {
  allow_shared_memory(sm80_gemm<Config>, Config::kSharedMemory);
}

template <typename Config>
void run(const Kernel&, const Problem& p, const Launch& launch) {
  const auto stream = static_cast<cudaStream_t>(launch.stream);
  const int split_k = launch.split_k;
  Problem main = p;
  if (split_k > 1) {
    main.d = launch.workspace;
    main.d_type = DType::f32;
    main.ldd = p.n;
    main.batch_d = p.m * p.n;
    main.alpha = 1;
    main.c = main.bias = nullptr;
    main.activation = Activation::none;
  }
  Grid grid;
  grid.tiles_m = static_cast<std::uint32_t>((p.m + Config::kTileM - 1) / Config::kTileM);
  grid.tiles_n = static_cast<std::uint32_t>((p.n + Config::kTileN - 1) / Config::kTileN);
  grid.tiles = grid.tiles_m * grid.tiles_n * static_cast<std::uint32_t>(p.batch * split_k);
  grid.k_slice = split_k > 1 ? split_extent(p.k, split_k, Config::kTileK) : p.k;
  grid.split_k = static_cast<std::uint32_t>(split_k);
  grid.panel = 8;
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  const std::int64_t vectors = p.batch * p.m * ((p.n + 7) / 8);
  const auto reduction =
      static_cast<unsigned>(std::min<std::int64_t>((vectors + 255) / 256, std::int64_t{8} * launch.sm_count));
  for (int i = 0; i < launch.repeats; ++i) {
    sm80_gemm<Config><<<blocks, Config::kThreads, Config::kSharedMemory, stream>>>(main, grid);
    check_cuda(cudaPeekAtLastError(), "launch of the sm80 GEMM kernel");
    if (split_k > 1) {
      split_k_reduce<<<reduction, 256, 0, stream>>>(p, static_cast<const float*>(launch.workspace), split_k);
      check_cuda(cudaPeekAtLastError(), "launch of the split K reduction");
    }
  }
}

template <Arch kArch, typename Element, GemmLayout kLayout, int kTileM, int kTileN, int kTileK, int kStages, int kWarpsM,
          int kWarpsN, int kAlignment>
constexpr Kernel kernel(DType operand, double peak_fraction) {
  using C = Config<Element, kLayout, kTileM, kTileN, kTileK, kStages, kWarpsM, kWarpsN, kAlignment>;
  Kernel k{};
  k.arch = kArch;
  k.backend = Backend::cute;
  k.operand = operand;
  k.layout = kLayout;
  k.tile_m = kTileM;
  k.tile_n = kTileN;
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
  k.splits_k = true;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = 1.6e-6;
  k.run = run<C>;
  k.prepare = prepare<C>;
  return k;
}

}  // namespace cutplan::gemm::sm80

/// Four entries of a table: one tile in all layouts.
#define CUTPLAN_SM80_GEMM(arch, Element, operand, tile_m, tile_n, tile_k, stages, warps_m, warps_n, alignment,         \
                          peak_fraction)                                                                               \
  sm80::kernel<Arch::arch, Element, GemmLayout::rcr, tile_m, tile_n, tile_k, stages, warps_m, warps_n, alignment>(     \
      operand, peak_fraction),                                                                                         \
      sm80::kernel<Arch::arch, Element, GemmLayout::rrr, tile_m, tile_n, tile_k, stages, warps_m, warps_n, alignment>( \
          operand, peak_fraction),                                                                                     \
      sm80::kernel<Arch::arch, Element, GemmLayout::crr, tile_m, tile_n, tile_k, stages, warps_m, warps_n, alignment>( \
          operand, peak_fraction),                                                                                     \
      sm80::kernel<Arch::arch, Element, GemmLayout::ccr, tile_m, tile_n, tile_k, stages, warps_m, warps_n, alignment>( \
          operand, peak_fraction)
