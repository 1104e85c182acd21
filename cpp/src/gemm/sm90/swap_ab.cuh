// GEMM of few rows for Hopper: D^T = B^T A^T, so that wgmma's 64 rows are columns of D, and its short side, 8 and up, the
// rows. Few rows are a matter of reading B at the speed of memory.
//
// 16-bit A (row-major) and B, or float32 ones as TF32 in rcr, float32 accumulation; gemm.hpp has what is computed. Groups may
// share out rows.
//
// Data movement. One thread issues TMA copies of 64 columns of B and kRows rows of A, a K step of 128 bytes of each, into a
// ring of kStages slots; one warpgroup multiplies. No more than kRows rows of A take up shared memory: with 16, of a slot of
// 10 KiB 8 are B's. Two blocks share an SM, so that one streams while the other starts or ends, which is worth more than
// twice the slots. Where there are few tiles the blocks of a cluster share
// out a tile's K: each leaves its sums in its shared memory, and each adds up a part of D's tile, block by block, which is
// one order for all runs: no second kernel, no workspace. The epilogue works vector by vector: its code is small. Code comes
// from memory, too, when it has been driven out of L2, and each jump is a latency then; so the plain one has a path of its own.
#pragma once

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/barrier.cuh"
#include "core/sm90/cluster.cuh"
#include "core/sm90/ring.cuh"
#include "core/sm90/tma.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/sm90/operand_map.hpp"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm90::swap_ab {

using namespace cute;
using namespace cutplan::sm90;

template <typename Element_, GemmLayout kLayout_, int kRows_, int kStages_, bool kGated_>
struct Config {
  using Element = typename ElementsOf<Element_>::A;
  using ElementB = typename ElementsOf<Element_>::B;
  using Sum = SumOf<Element>;
  static constexpr bool kQuantized = sizeof(Element) == 1, kIntegers = std::is_same_v<Sum, std::int32_t>,
                        kPromotes = kQuantized && !kIntegers;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr bool kGated = kGated_;
  static constexpr int kRows = kRows_, kStages = kStages_, kColumns = 64, kFactors = kGated ? 2 : 1;  // rows, columns: of D
  static constexpr int kTileK = run_bytes / sizeof(Element);
  static constexpr int kThreads = 128 + 32, kBlocksOnSm = 2;
  static_assert(a_is_k_major(kLayout), "an MN-major tile of A would have to be 64 wide");
  static constexpr GMMA::Major kMajorB = b_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;

  using SmemA = decltype(slot_layout<Element, GMMA::Major::K, kRows, kTileK, kStages>());
  using SmemB = decltype(slot_layout<ElementB, kMajorB, kColumns * kFactors, kTileK, kStages>());
  using Mma =
      decltype(make_tiled_mma(GMMA::ss_op_selector<ElementB, Element, Sum, Shape<Int<kColumns>, Int<kRows>, Int<kTileK>>,
                                                   kMajorB, GMMA::Major::K>()));

  static constexpr std::uint32_t kSlotBytes = (kRows + kColumns * kFactors) * run_bytes;
  static constexpr int kPitch = kColumns + 4;  // what a warp writes at once meets in no bank

  struct Storage {
    alignas(1024) Element a[cosize_v<SmemA>];
    alignas(1024) ElementB b[cosize_v<SmemB>];
    alignas(16) Sum sums[kFactors][kRows][kPitch];
    Ring<kStages> ring;
  };
  static constexpr std::size_t kSharedMemory = sizeof(Storage);
  static_assert(kBlocksOnSm * (kSharedMemory + 1024) <= 228 * 1024);
};

/// Calls visit(tile) for the tiles of this block, whose K is the block's share.
template <typename C, typename Visit>
__device__ __forceinline__ void for_each_tile(const Problem& p, const TileGrid& grid, int split, int rank,
                                              const Visit& visit) {
  TileWalk<C::kRows, C::kColumns> walk(p, grid);
  Tile tile;
  const std::uint32_t clusters = gridDim.x / split;
  for (std::uint32_t index = blockIdx.x / split; walk.find(index, tile); index += clusters) {
    tile.k += rank * grid.k_slice;
    tile.k_end = min(tile.k_end, tile.k + grid.k_slice);
    visit(tile, static_cast<int>((tile.k_end - tile.k + C::kTileK - 1) / C::kTileK));
  }
}

/// Cluster reduction: adds 8 sums that the block `rank` of the cluster left at `sums` in its shared memory.
template <typename Sum>
__device__ __forceinline__ void add_sums(Sum (&x)[8], const Sum* sums, int rank) {
  const std::uint32_t from = set_block_rank(shared_address(sums), rank);
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    float v[4];
    load_shared_cluster(from + i * 4, v);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (std::is_same_v<Sum, float>) {
        x[i + j] += v[j];
      } else {
        x[i + j] += __float_as_int(v[j]);
      }
    }
  }
}

template <typename C>
__device__ __forceinline__ void produce(typename C::Storage& storage, const CUtensorMap& map_a, const CUtensorMap& map_b,
                                        const CUtensorMap& map_b2, const Problem& p, const TileGrid& grid, int split,
                                        int rank) {
  constexpr int kTileK = C::kTileK, kColumns = C::kColumns;
  const std::uint64_t hint_b = grid.tiles_m == 1 ? read_once : keep;
  RingPosition<C::kStages> at;
  for_each_tile<C>(p, grid, split, rank, [&](const Tile& tile, int steps) {
    const int row = static_cast<int>(tile.row), col = static_cast<int>(tile.col);
    const int batch_a = p.a.batch_stride == 0 ? 0 : static_cast<int>(tile.batch),
              batch_b = p.b.batch_stride == 0 ? 0 : static_cast<int>(tile.batch);
    for (int step = 0; step < steps; ++step) {
      const int k = static_cast<int>(tile.k) + step * kTileK;
      auto& full = storage.ring.fill(at, C::kSlotBytes);
      auto* b = storage.b + at.slot * (kColumns * C::kFactors * kTileK);
      const auto load_b = [&](const CUtensorMap& map, void* to) {
        constexpr bool kAlongK = C::kMajorB == GMMA::Major::K;
        load_box(map, full, hint_b, to, kAlongK ? k : col, kAlongK ? col : k, batch_b);
      };
      load_b(map_b, b);
      if constexpr (C::kGated) load_b(map_b2, b + kColumns * kTileK);
      load_box(map_a, full, keep, storage.a + at.slot * (C::kRows * kTileK), k, row, batch_a);
      at.advance();
    }
  });
}

/// The scales of one step, of a thread's columns and rows. Beyond D whichever: what comes of them is not stored.
template <typename C>
struct Factors {
  float columns[C::kFactors][2], rows[C::kRows / 8][2];

  __device__ __forceinline__ Factors(const Problem& p, const Tile& tile, int step) {
    const int thread = threadIdx.x, lane = thread % 32;
    const std::int64_t group = tile.k / scale_group + step;
    const auto at = [&](const Coding& of, std::int64_t line, std::int64_t lines) {
      if (of.scale.data == nullptr) return 1.0f;
      return __ldg(static_cast<const float*>(of.scale.data) + tile.batch * of.scale.batch_stride +
                   (min(line, lines - 1) >> of.shift) * of.scale.ld + group * of.scale.step);
    };
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int f = 0; f < C::kFactors; ++f)
        columns[f][i] = at(f == 0 ? p.of_b : p.of_b2, tile.col + thread / 32 * 16 + lane / 4 + 8 * i, p.n);
#pragma unroll
      for (int j = 0; j < C::kRows / 8; ++j) rows[j][i] = at(p.of_a, tile.row + 8 * j + lane % 4 * 2 + i, p.m);
    }
  }

  /// acc += of_step, times these.
  template <typename Sums>
  __device__ __forceinline__ void promote(const Sums& of_step, Sums& acc) const {
#pragma unroll
    for (int f = 0; f < C::kFactors; ++f) {
#pragma unroll
      for (int j = 0; j < C::kRows / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const auto at = make_coord(e % 2, e / 2, j);
          acc(at, f, 0) = fmaf(of_step(at, f, 0), rows[j][e % 2] * columns[f][e / 2], acc(at, f, 0));
        }
      }
    }
  }
};

template <typename C>
__device__ __forceinline__ void consume(typename C::Storage& storage, const Problem& p, const TileGrid& grid, int split,
                                        int rank, bool plain) {
  constexpr int kRows = C::kRows, kColumns = C::kColumns, kFactors = C::kFactors;
  const int thread = threadIdx.x, lane = thread % 32;
  typename C::Mma mma;
  const auto slice = mma.get_slice(thread);
  const Tensor b = slice.make_fragment_A(slice.partition_A(make_tensor(make_smem_ptr(storage.b), typename C::SmemB{})));
  const Tensor a = slice.make_fragment_B(slice.partition_B(make_tensor(make_smem_ptr(storage.a), typename C::SmemA{})));
  Tensor acc = partition_fragment_C(mma, Shape<Int<kColumns * kFactors>, Int<kRows>>{});  // ((2, 2, kRows / 8), kFactors, 1)
  RingPosition<C::kStages> at;
  for_each_tile<C>(p, grid, split, rank, [&](const Tile& tile, int steps) {
    clear(acc);
    warpgroup_fence_operand(acc);
    int previous = -1;
    const auto release = [&](int slot) {
      if (slot >= 0) storage.ring.release(slot, thread);
    };
    for (int step = 0; step < steps; ++step) {
      if constexpr (C::kPromotes) {
        const Factors<C> factors(p, tile, step);
        storage.ring.await_full(at);
        // Of fp8 sums the tensor core keeps 14 bits or so: those of a step join the others in float32. Memory sets the pace.
        Tensor step_sums = make_fragment_like(acc);
        mma.accumulate_ = GMMA::ScaleOut::Zero;
        warpgroup_fence_operand(step_sums);
        warpgroup_arrive();
#pragma unroll
        for (int k = 0; k < decltype(size<2>(a))::value; ++k) {
          cute::gemm(mma, b(_, _, k, at.slot), a(_, _, k, at.slot), step_sums);
          mma.accumulate_ = GMMA::ScaleOut::One;
        }
        warpgroup_commit_batch();
        warpgroup_wait<0>();
        warpgroup_fence_operand(step_sums);
        storage.ring.release(at.slot, thread);
        factors.promote(step_sums, acc);
      } else {
        storage.ring.await_full(at);
        warpgroup_arrive();
        cute::gemm(mma, b(_, _, _, at.slot), a(_, _, _, at.slot), acc);
        warpgroup_commit_batch();
        warpgroup_wait<1>();
        release(previous);
        previous = at.slot;
      }
      at.advance();
    }
    warpgroup_wait<0>();
    warpgroup_fence_operand(acc);
    release(previous);

    named_barrier_sync<128>(1);  // the sums of the tile before have been read
#pragma unroll
    for (int f = 0; f < kFactors; ++f) {
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          storage.sums[f][8 * j + lane % 4 * 2 + i % 2][thread / 32 * 16 + lane / 4 + i / 2 * 8] =
              acc(make_coord(i % 2, i / 2, j), f, 0);
      }
    }
    if (split > 1) {
      cluster_sync();
    } else {
      named_barrier_sync<128>(1);
    }
    const int rows = static_cast<int>(min(tile.row_end - tile.row, std::int64_t{kRows})), vectors = rows * (kColumns / 8);
#pragma unroll 1
    for (int vector = thread * split + rank; vector < vectors; vector += 128 * split) {
      const int r = vector / (kColumns / 8), c = vector % (kColumns / 8) * 8;
      const std::int64_t row = tile.row + r, col = tile.col + c;
      if (col >= p.n) continue;
      typename C::Sum sum[kFactors][8] = {};
#pragma unroll 1
      for (int block = 0; block < split; ++block) {
#pragma unroll
        for (int f = 0; f < kFactors; ++f) add_sums(sum[f], &storage.sums[f][r][c], block);
      }
      Float8 x[kFactors];
#pragma unroll
      for (int f = 0; f < kFactors; ++f) {
        if constexpr (C::kIntegers) {
#pragma unroll
          for (int i = 0; i < 8; ++i) x[f].x[i] = __int_as_float(sum[f][i]);
          round_sums(p, x[f].x);
        } else {
#pragma unroll
          for (int i = 0; i < 8; ++i) x[f].x[i] = sum[f][i];
        }
      }
      if (!C::kQuantized && plain && col + 8 <= p.n) {
        const auto alpha = static_cast<float>(p.terms.alpha);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[0].x[i] *= alpha;
        RowVectors(matrix_of(p, output_of(p, col)), tile.batch).store(x[0].x, row, col, 8);
        continue;
      }
      if constexpr (C::kGated) {
        EightColumns<C::kQuantized> of_first(x[0].x, tile.batch, row, col, p.n),
            of_second(x[1].x, tile.batch, row, col, p.n);
        gate(p.terms, of_first, of_second);
      }
      finish<C::kQuantized>(p, tile.batch, tile.batch, row, col, C::kGated ? Stage::gated : Stage::sums, x[0]);
    }
  });
}

template <typename C>
__global__ __launch_bounds__(C::kThreads, C::kBlocksOnSm) void sm90_gemm_swap_ab(
    const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
    const __grid_constant__ CUtensorMap map_b2, const __grid_constant__ Problem p, const __grid_constant__ TileGrid grid,
    const __grid_constant__ int split, const __grid_constant__ bool plain) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) char shared[];  // the swizzle counts from multiples of 1024 bytes
  auto& storage = *reinterpret_cast<typename C::Storage*>(shared);
  if (threadIdx.x == 128) {
    if (p.k > 0) {  // without K there are no operands, nor maps of them
      prefetch_map(map_b);
      prefetch_map(map_a);
      if constexpr (C::kGated) prefetch_map(map_b2);
    }
    storage.ring.init(1);
    cutlass::arch::fence_barrier_init();
  }
  __syncthreads();
  const int rank = split > 1 ? static_cast<int>(block_rank_in_cluster()) : 0;
  if (threadIdx.x < 128) {
    consume<C>(storage, p, grid, split, rank, plain);
  } else {
    if (threadIdx.x == 128) produce<C>(storage, map_a, map_b, map_b2, p, grid, split, rank);
    __syncwarp();
    if (split > 1) cluster_sync();  // all threads take part: the sums are there
  }
  __syncwarp();                   // a cluster's barrier takes warps whose lanes arrive together
  if (split > 1) cluster_sync();  // a block's sums must outlive their readers
#endif
}

template <typename C>
void prepare(const Kernel&) {
  allow_shared_memory(sm90_gemm_swap_ab<C>, C::kSharedMemory);
  if constexpr (C::kIntegers) load_kernel(sum_codes);
}

template <typename C>
void run(const Kernel&, const Problem& asked, const Launch& launch) {
  const bool zeros = C::kIntegers && has_zeros(asked);
  const Problem p = zeros ? with_zero_sums(asked, launch.workspace) : asked;
  constexpr bool kAlongK = C::kMajorB == GMMA::Major::K;
  const CUtensorMap map_a = operand_map(p.a, p.k, p.m, p.batch, C::kRows);
  const auto columns = [&](const Matrix& b) {
    return operand_map(b, kAlongK ? p.k : p.n, kAlongK ? p.n : p.k, p.batch, kAlongK ? C::kColumns : C::kTileK);
  };
  const CUtensorMap map_b = columns(p.b), map_b2 = C::kGated ? columns(p.b2) : CUtensorMap{};
  TileGrid grid = tile_grid(p, C::kRows, C::kColumns, C::kTileK, 1);
  if (launch.split_k > 1) grid.k_slice = split_extent(p.k, launch.split_k, C::kTileK);

  // A cluster serves one tile: its blocks meet once. Without clusters blocks spread out over SMs before they share one.
  const auto blocks = static_cast<std::uint32_t>(launch.sm_count * (launch.sm_limited ? 1 : C::kBlocksOnSm));
  const LaunchShape shape{launch.split_k > 1 ? grid.tiles * std::int64_t{launch.split_k} : std::min(grid.tiles, blocks),
                          C::kThreads, C::kSharedMemory, launch.split_k};
  for (int i = 0; i < launch.repeats; ++i) {
    if (zeros) sum_codes_for_zeros(p, launch);
    launch_kernel("launch of the sm90 GEMM kernel for few rows", launch.stream, shape, sm90_gemm_swap_ab<C>, map_a, map_b,
                  map_b2, p, grid, launch.split_k, is_plain(p.terms));
  }
}

template <typename Element, GemmLayout kLayout, int kRows, int kStages, Gate kGate>
constexpr Kernel kernel(double peak_fraction, double exposed_seconds) {
  using C = Config<Element, kLayout, kRows, kStages, kGate == Gate::separate>;
  Kernel k{};
  k.arch = Arch::sm90;
  k.operand = dtype_of<typename ElementsOf<Element>::A>();
  k.operand_b = dtype_of<typename ElementsOf<Element>::B>();
  k.summation = {Multiplier::wgmma, 32 * 8 / bits(k.operand), C::kPromotes ? C::kTileK : 0};
  k.math = k.operand == DType::f32 ? Math::tf32 : Math::strict;
  k.layout = kLayout;
  k.gate = kGate;
  k.tile_m = kRows;
  k.tile_n = C::kColumns;
  k.tile_k = C::kTileK;
  k.stages = kStages;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = "swap_ab";
  k.alignment = 16;
  k.threads = C::kThreads;
  k.blocks_by_registers = C::kBlocksOnSm;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = k.maximum_compute_capability = 90;
  k.splits_k = k.slices_meet = true;
  k.groups = true;
  k.scales_along_k = C::kPromotes;
  k.zeros = C::kIntegers && kGate == Gate::none;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = exposed_seconds;
  k.run = run<C>;
  k.prepare = prepare<C>;
  return k;
}

/// With a row-major A.
inline constexpr Layouts<GemmLayout::rcr, GemmLayout::rrr> both_layouts{};

/// A table: one tile, in each of the layouts.
template <typename Element, int kRows, int kStages, Gate kGate = Gate::none, GemmLayout... kLayouts>
constexpr std::array<Kernel, sizeof...(kLayouts)> kernels(Layouts<kLayouts...>, double peak_fraction,
                                                          double exposed_seconds) {
  return {kernel<Element, kLayouts, kRows, kStages, kGate>(peak_fraction, exposed_seconds)...};
}

}  // namespace cutplan::gemm::sm90::swap_ab
