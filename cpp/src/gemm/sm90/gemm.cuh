// GEMM for Hopper: TMA loads, wgmma, one persistent block per SM.
//
// 16-bit A and B in any of the four layouts, or float32 ones as TF32 in rcr (wgmma reads no other), float32 accumulation;
// gemm.hpp has what is computed, epilogue.cuh what happens to sums, tiles.cuh which tiles there are. Groups may share out
// rows (A row-major) or K (A column-major, B row-major).
//
// Data movement. A block is three warpgroups. One thread of the first issues TMA copies of A and B tiles, 128-byte swizzled,
// into a ring of kStages slots; a slot's `full` barrier counts the bytes that arrive, its `empty` barrier the consumers that
// are done with it. The other two warpgroups multiply with wgmma straight from shared memory, keep one wgmma group in
// flight, and free the slot of the one before. Accumulators go from registers to global memory (epilogue.cuh) while the
// producer already fills the ring. Cooperative: the two take half of a tile's rows each. Ping-pong: each takes every other
// tile, in turns, so that one's epilogue runs while the other multiplies.
// With kClusterM = 2 two blocks with neighbouring rows of D share their columns of B: each loads half of the B tile and
// multicasts it. Gated: half of the B tile's columns come from B, half from b2, and belong to the same columns of D. A TMA
// box reads beyond a group's K into the next one's: before the last step of such a tile its consumers clear what is not
// theirs.
//
// Why these tiles. A thread has room for 128 float32 accumulators: 128 x 256 for two warpgroups, 128 x 128 for one. The
// large tile takes 32 KiB from L2 (with multicast) for the 1024 cycles of a K step of 64, the small one 64 KiB; but the
// large one's epilogue is exposed, 2.6 microseconds a tile on an H200. bfloat16, rcr, H200, one run, relative to cuBLAS: at
// 4096 cubed 0.957 and 0.947, at 8192 cubed 1.007 and 1.021, at 2048 x 28672 x 8192 0.973 and 0.983. Multicast made the
// ping-pong kernel slower (0.90 at 4096 cubed): two blocks in step lose what two warpgroups out of step gain.
#pragma once

#include <cutlass/arch/barrier.h>
#include <cutlass/arch/reg_reconfig.h>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/atom/mma_atom.hpp>
#include <cute/tensor.hpp>

#include <algorithm>

#include "gemm/epilogue.cuh"
#include "gemm/sm90/tensor_map.hpp"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm90 {

using namespace cute;

constexpr bool a_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::rrr; }
constexpr bool b_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::ccr; }

/// cooperative: both consumer warpgroups share a tile. pingpong: each has its own, and one's epilogue runs under the
/// other's main loop.
enum class Schedule { cooperative, pingpong };

constexpr int run_bytes = 128;    // of a K step, or of a box: one row of the widest swizzle
constexpr int threads = 3 * 128;  // producer and two consumer warpgroups

template <typename Element_, GemmLayout kLayout_, int kTileM_, int kTileN_, int kStages_, int kClusterM_,
          Schedule kSchedule_, bool kGated_>
struct Config {
  static constexpr bool kGated = kGated_;
  static constexpr bool kPingPong = kSchedule_ == Schedule::pingpong;
  static constexpr int kConsumers = kPingPong ? 1 : 2;  // warpgroups that share a tile

  using Element = Element_;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kStages = kStages_, kClusterM = kClusterM_;
  static constexpr int kTileK = run_bytes / sizeof(Element), kColumns = kGated ? kTileN / 2 : kTileN;  // kColumns: of D
  static constexpr int kShareN = kTileN / (kGated ? 2 : kClusterM);  // columns of B that come in one piece
  static_assert(kClusterM <= 2 && sizeof(Element) * kTileK == run_bytes);
  static_assert(kTileM == 128 || (!kPingPong && kTileM == 256) || (kPingPong && kTileM == 64),
                "64 rows or twice 64 for a warpgroup");
  // Groups cut A's rows, or K where K is the outer dimension of both A and B. A cluster's rows would often be empty there.
  static constexpr bool kGroupsOfRows = kClusterM == 1 && a_is_k_major(kLayout),
                        kGroupsOfK = kClusterM == 1 && kPingPong && kLayout == GemmLayout::crr && !kGated,
                        kGroups = kGroupsOfRows || kGroupsOfK;
  static constexpr GMMA::Major kMajorA = a_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;
  static constexpr GMMA::Major kMajorB = b_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;

  // The order in which TMA boxes of 128 contiguous bytes lie in shared memory: an MN-major tile is a row of boxes, each
  // kTileK deep.
  template <GMMA::Major kMajor, int kExtent>
  static constexpr auto slots() {
    using Shape_ = Shape<Int<kExtent>, Int<kTileK>, Int<kStages>>;
    if constexpr (kMajor == GMMA::Major::K) {
      return tile_to_shape(GMMA::Layout_K_SW128_Atom<Element>{}, Shape_{}, Step<_1, _2, _3>{});
    } else {
      return tile_to_shape(GMMA::Layout_MN_SW128_Atom<Element>{}, Shape_{}, Step<_2, _1, _3>{});
    }
  }
  using SmemA = decltype(slots<kMajorA, kTileM>());
  using SmemB = decltype(slots<kMajorB, kTileN>());
  using Mma = decltype(make_tiled_mma(
      GMMA::ss_op_selector<Element, Element, float, Shape<Int<64 * kConsumers>, Int<kTileN>, Int<kTileK>>, kMajorA,
                           kMajorB>(),
      Layout<Shape<Int<kConsumers>, _1, _1>>{}));

  static constexpr std::uint32_t kSlotBytes = (kTileM + kTileN) * run_bytes;

  struct Storage {
    alignas(1024) Element a[cosize_v<SmemA>];
    alignas(1024) Element b[cosize_v<SmemB>];
    alignas(16) float staging[8][staging_bytes / 4];
    cutlass::arch::ClusterTransactionBarrier full[kStages];
    cutlass::arch::ClusterBarrier empty[kStages];
  };
  static constexpr std::size_t kSharedMemory = sizeof(Storage);
  static_assert(kSharedMemory <= 227 * 1024);
};

/// Position in the ring of slots; `phase` flips at each lap.
template <int kStages>
struct RingPosition {
  int slot = 0;
  std::uint32_t phase = 0;
  __device__ void advance() {
    if (++slot == kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
  __device__ void advance(int steps) {
    const int total = slot + steps, laps = total / kStages;
    slot = total - laps * kStages;
    phase ^= laps & 1;
  }
};

template <typename Config>
using Walk = TileWalk<Config::kTileM * Config::kClusterM, Config::kColumns>;

template <typename Config>
__device__ __forceinline__ int steps_of(const Tile& tile) {
  return static_cast<int>((tile.k_end - tile.k + Config::kTileK - 1) / Config::kTileK);
}

template <typename Config>
__device__ __forceinline__ void produce(typename Config::Storage& storage, const CUtensorMap& map_a,
                                        const CUtensorMap& map_b, const CUtensorMap& map_b2, const Problem& p,
                                        const TileGrid& grid) {
  using Element = typename Config::Element;
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileK = Config::kTileK, kShareN = Config::kShareN;
  constexpr std::uint16_t kEveryone = (1 << kClusterM) - 1;
  constexpr auto kNormal = static_cast<std::uint64_t>(TMA::CacheHintSm90::EVICT_NORMAL),
                 kFirst = static_cast<std::uint64_t>(TMA::CacheHintSm90::EVICT_FIRST);
  const std::uint64_t hint_b = grid.tiles_m == 1 ? kFirst : kNormal;  // read once, B must not drive out what is in L2
  const int rank = kClusterM == 1 ? 0 : static_cast<int>(block_rank_in_cluster());
  const auto load = [&](const CUtensorMap& map, auto& full, std::uint64_t hint, bool multicast, Element* to, int inner,
                        int outer, int batch) {
    if (multicast) {
      SM90_TMA_LOAD_MULTICAST_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), kEveryone, hint, to, inner, outer,
                                       batch);
    } else {
      SM90_TMA_LOAD_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), hint, to, inner, outer, batch);
    }
  };
  RingPosition<Config::kStages> ring;
  Walk<Config> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x / kClusterM; walk.find(index, tile); index += gridDim.x / kClusterM) {
    const int m0 = static_cast<int>(tile.row) + rank * kTileM, n0 = static_cast<int>(tile.col);
    const int batch_a = p.batch_a == 0 ? 0 : static_cast<int>(tile.batch),
              batch_b = p.batch_b == 0 ? 0 : static_cast<int>(tile.batch);
    const int steps = steps_of<Config>(tile);
    for (int step = 0; step < steps; ++step) {
      const int k0 = static_cast<int>(tile.k) + step * kTileK;
      auto& full = storage.full[ring.slot];
      storage.empty[ring.slot].wait(ring.phase ^ 1);
      full.arrive_and_expect_tx(Config::kSlotBytes);
      Element* a = storage.a + ring.slot * (kTileM * kTileK);
      if constexpr (Config::kMajorA == GMMA::Major::K) {
        load(map_a, full, kNormal, false, a, k0, m0, batch_a);
      } else {
#pragma unroll
        for (int i = 0; i < kTileM; i += 64) load(map_a, full, kNormal, false, a + i * kTileK, m0 + i, k0, batch_a);
      }
      // The piece of B's tile that this block loads, for the whole cluster; of two pieces of a gated tile one block loads
      // both.
      const auto load_share = [&](int share, const CUtensorMap& map, int col) {
        Element* b = storage.b + ring.slot * (Config::kTileN * kTileK) + share * kShareN * kTileK;
        if constexpr (Config::kMajorB == GMMA::Major::K) {
          load(map, full, hint_b, kClusterM > 1, b, k0, col, batch_b);
        } else {
#pragma unroll
          for (int i = 0; i < kShareN; i += 64) load(map, full, hint_b, kClusterM > 1, b + i * kTileK, col + i, k0, batch_b);
        }
      };
      if constexpr (!Config::kGated) {
        load_share(rank, map_b, n0 + rank * kShareN);
      } else {
        if (kClusterM == 1 || rank == 0) load_share(0, map_b, n0);
        if (kClusterM == 1 || rank == 1) load_share(1, map_b2, n0);
      }
      ring.advance();
    }
  }
}

/// Two warpgroups that take turns at the main loop. A turn is also what keeps a warpgroup from waiting for a lap of the ring
/// that is more than one ahead, which a barrier's phase bit cannot tell from the present one.
__device__ __forceinline__ void await_turn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory"); }
__device__ __forceinline__ void pass_turn(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(1 + group) : "memory"); }

/// Clears the rows of K from k_left on in a slot of column-major A and row-major B, whose boxes have a row of 128 bytes for
/// each k.
template <typename Config>
__device__ __forceinline__ void clear_tail(typename Config::Storage& storage, int slot, int k_left, int thread) {
  constexpr int kThreads = 128 * Config::kConsumers, kTileK = Config::kTileK;
  const auto clear = [&](typename Config::Element* tile, int extent) {
    const int tail = (kTileK - k_left) * (run_bytes / 16), boxes = extent / 64;
    for (int i = thread; i < boxes * tail; i += kThreads) {
      char* box = reinterpret_cast<char*>(tile) + i / tail * (kTileK * run_bytes);
      reinterpret_cast<uint4*>(box + k_left * run_bytes)[i % tail] = make_uint4(0, 0, 0, 0);
    }
  };
  clear(storage.a + slot * (Config::kTileM * kTileK), Config::kTileM);
  clear(storage.b + slot * (Config::kTileN * kTileK), Config::kTileN);
  cutlass::arch::fence_view_async_shared();  // wgmma reads through another proxy
  asm volatile("bar.sync %0, %1;" ::"r"(3 + static_cast<int>(threadIdx.x / 128)), "n"(128) : "memory");
}

template <typename Config>
__device__ __forceinline__ void consume(typename Config::Storage& storage, const Problem& p, const TileGrid& grid) {
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileN = Config::kTileN, kTileK = Config::kTileK;
  const int thread = (threadIdx.x - 128) % (128 * Config::kConsumers);  // among those that share the tile
  const int group = Config::kPingPong ? threadIdx.x / 128 - 1 : 0;
  const int rank = kClusterM == 1 ? 0 : static_cast<int>(block_rank_in_cluster());
  typename Config::Mma mma;
  const auto slice = mma.get_slice(thread);
  const Tensor a = slice.make_fragment_A(slice.partition_A(make_tensor(make_smem_ptr(storage.a), typename Config::SmemA{})));
  const Tensor b = slice.make_fragment_B(slice.partition_B(make_tensor(make_smem_ptr(storage.b), typename Config::SmemB{})));
  Tensor acc = partition_fragment_C(mma, Shape<Int<kTileM>, Int<kTileN>>{});  // ((2, 2, kTileN / 8), kTileM / 128, 1)
  constexpr int kBlocksM = decltype(size<1>(acc))::value;                     // of 64 rows, of a warpgroup
  const auto release = [&](int slot) {
    // One thread of the warpgroup frees the slot in each block of the cluster, since each block writes into all of them.
    if constexpr (kClusterM == 1) {
      if (thread % 128 == 0) storage.empty[slot].arrive();
    } else {
      storage.empty[slot].arrive(thread % 128, thread % 128 < kClusterM);
    }
  };
  RingPosition<Config::kStages> ring;
  // Sums of the tile's K in the first `blocks` blocks of rows.
  const auto multiply = [&](int steps, int k_last, auto blocks) {
    int previous = -1;
    const auto fence = [&] {
#pragma unroll
      for (int i = 0; i < decltype(blocks)::value; ++i) {
        Tensor block = acc(_, i, 0);
        warpgroup_fence_operand(block);
      }
    };
    fence();
    for (int step = 0; step < steps; ++step) {
      storage.full[ring.slot].wait(ring.phase);
      if constexpr (Config::kGroupsOfK) {
        if (step == steps - 1 && k_last < kTileK) clear_tail<Config>(storage, ring.slot, k_last, thread);
      }
      warpgroup_arrive();
#pragma unroll
      for (int k = 0; k < size<2>(a); ++k) {
#pragma unroll
        for (int i = 0; i < decltype(blocks)::value; ++i)
          cute::gemm(mma, a(_, i, k, ring.slot), b(_, 0, k, ring.slot), acc(_, i, 0));
      }
      warpgroup_commit_batch();
      warpgroup_wait<1>();
      if (previous >= 0) release(previous);
      previous = ring.slot;
      ring.advance();
    }
    if constexpr (Config::kPingPong) pass_turn(group ^ 1);
    warpgroup_wait<0>();
    fence();
    if (previous >= 0) release(previous);
  };
  if (group == 1) pass_turn(0);
  Walk<Config> walk(p, grid);
  Tile tile;
  std::uint32_t turn = 0;
  for (std::uint32_t index = blockIdx.x / kClusterM; walk.find(index, tile); index += gridDim.x / kClusterM, ++turn) {
    const int steps = steps_of<Config>(tile);
    if (Config::kPingPong && turn % 2 != group) {
      ring.advance(steps);  // the other warpgroup's tile
      continue;
    }
    if constexpr (Config::kPingPong) await_turn(group);
    const int k_last = static_cast<int>(tile.k_end - tile.k) - (steps - 1) * kTileK;
    clear(acc);
    // A tile at the end of its rows may need only half of them.
    const std::int64_t first_row = tile.row + rank * kTileM;
    if (kBlocksM == 2 && tile.row_end - first_row <= 64) {
      multiply(steps, k_last, Int<1>{});
    } else {
      multiply(steps, k_last, Int<kBlocksM>{});
    }
    Epilogue epilogue(p, tile.batch, tile.slice * p.batch + tile.batch, tile.row_end);
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) {
      auto& values = reinterpret_cast<float (&)[kTileN / 2]>(acc(0, i, 0));
      const std::int64_t row = first_row + i * 64 * Config::kConsumers + thread / 32 * 16;
      float* staging = storage.staging[threadIdx.x / 32 - 4];
      if constexpr (Config::kGated) {
        epilogue.template gate<kTileN / 64>(values, row, tile.col);
        epilogue.template store_warp_tile<1, kTileN / 64>(reinterpret_cast<float (&)[kTileN / 4]>(values), staging, row,
                                                          tile.col);
      } else {
        epilogue.template store_warp_tile<1, kTileN / 32>(values, staging, row, tile.col);
      }
    }
  }
}

template <typename Config>
__global__ __launch_bounds__(threads, 1) void sm90_gemm(const __grid_constant__ CUtensorMap map_a,
                                                        const __grid_constant__ CUtensorMap map_b,
                                                        const __grid_constant__ CUtensorMap map_b2,
                                                        const __grid_constant__ Problem p,
                                                        const __grid_constant__ TileGrid grid) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) char shared[];  // the swizzle counts from multiples of 1024 bytes
  auto& storage = *reinterpret_cast<typename Config::Storage*>(shared);
  if (grid.slices > 1) asm volatile("griddepcontrol.launch_dependents;");
  if (threadIdx.x == 0) {
    if (p.k > 0) {  // without K there are no operands, nor maps of them
      prefetch_tma_descriptor(reinterpret_cast<const TmaDescriptor*>(&map_a));
      prefetch_tma_descriptor(reinterpret_cast<const TmaDescriptor*>(&map_b));
      if constexpr (Config::kGated) prefetch_tma_descriptor(reinterpret_cast<const TmaDescriptor*>(&map_b2));
    }
    for (int i = 0; i < Config::kStages; ++i) {
      storage.full[i].init(1);
      storage.empty[i].init(Config::kConsumers * Config::kClusterM);
    }
    cutlass::arch::fence_barrier_init();
  }
  if constexpr (Config::kClusterM > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }
  if (threadIdx.x < 128) {
    cutlass::arch::warpgroup_reg_dealloc<40>();
    if (threadIdx.x == 0) produce<Config>(storage, map_a, map_b, map_b2, p, grid);
  } else {
    cutlass::arch::warpgroup_reg_alloc<232>();
    consume<Config>(storage, p, grid);
  }
  if constexpr (Config::kClusterM > 1) {
    // A block must outlive the arrivals that its neighbours send it.
    cluster_arrive_relaxed();
    cluster_wait();
  }
#endif
}

template <typename Config>
void prepare(const Kernel&) {
  allow_shared_memory(sm90_gemm<Config>, Config::kSharedMemory);
}

template <typename Config>
void run(const Kernel&, const Problem& p, const Launch& launch) {
  constexpr int kClusterM = Config::kClusterM;
  constexpr bool a_k = Config::kMajorA == GMMA::Major::K, b_k = Config::kMajorB == GMMA::Major::K;
  const CUtensorMap map_a = operand_map(p.operand, p.a, a_k ? p.k : p.m, a_k ? p.m : p.k, p.lda, p.batch, p.batch_a,
                                        a_k ? Config::kTileM : Config::kTileK);
  const auto columns = [&](const void* b, std::int64_t ld, std::int64_t stride) {
    return operand_map(p.operand, b, b_k ? p.k : p.n, b_k ? p.n : p.k, ld, p.batch, stride,
                       b_k ? Config::kShareN : Config::kTileK);
  };
  const CUtensorMap map_b = columns(p.b, p.ldb, p.batch_b),
                    map_b2 = Config::kGated ? columns(p.b2, p.ldb2, p.batch_b2) : CUtensorMap{};
  const Problem main = launch.split_k > 1 ? partial_sums(p, launch.workspace) : p;
  const TileGrid grid = tile_grid(p, kClusterM * Config::kTileM, Config::kColumns, Config::kTileK, launch.split_k);

  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kClusterM;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  const auto clusters = static_cast<std::uint32_t>(std::max(1, launch.sm_count / kClusterM));
  config.gridDim = dim3(std::min(clusters, grid.tiles) * kClusterM);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = Config::kSharedMemory;
  config.stream = static_cast<cudaStream_t>(launch.stream);
  config.attrs = &cluster;
  config.numAttrs = kClusterM > 1 ? 1 : 0;
  for (int i = 0; i < launch.repeats; ++i) {
    check_cuda(cudaLaunchKernelEx(&config, sm90_gemm<Config>, map_a, map_b, map_b2, main, grid),
               "launch of the sm90 GEMM kernel");
    if (launch.split_k > 1) reduce_split_k(p, launch, true);
  }
}

template <typename Element, GemmLayout kLayout, int kTileM, int kTileN, int kStages, int kClusterM, Schedule kSchedule,
          bool kGated>
constexpr Kernel kernel(DType operand, double peak_fraction, double exposed_seconds) {
  using C = Config<Element, kLayout, kTileM, kTileN, kStages, kClusterM, kSchedule, kGated>;
  Kernel k{};
  k.arch = Arch::sm90;
  k.backend = Backend::cute;
  k.operand = operand;
  k.math = operand == DType::f32 ? Math::tf32 : Math::strict;
  k.layout = kLayout;
  k.gate = kGated ? Gate::separate : Gate::none;
  k.tile_m = kTileM;
  k.tile_n = C::kColumns;
  k.tile_k = C::kTileK;
  k.stages = kStages;
  k.cluster_m = kClusterM;
  k.cluster_n = 1;
  k.schedule = C::kPingPong ? "pingpong" : "cooperative";
  k.alignment = 16;
  k.threads = threads;
  k.blocks_by_registers = 1;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = k.maximum_compute_capability = 90;
  k.splits_k = kClusterM == 1 && !kGated;
  k.groups = C::kGroups;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = exposed_seconds;
  k.run = run<C>;
  k.prepare = prepare<C>;
  return k;
}

}  // namespace cutplan::gemm::sm90

/// Four entries of a table: one tile in all layouts. The last argument is whether it is gated.
#define CUTPLAN_SM90_GEMM(Element, operand, tile_m, tile_n, stages, cluster_m, schedule, peak_fraction, exposed, gated) \
  sm90::kernel<Element, GemmLayout::rcr, tile_m, tile_n, stages, cluster_m, sm90::Schedule::schedule, gated>(           \
      operand, peak_fraction, exposed),                                                                                 \
      sm90::kernel<Element, GemmLayout::rrr, tile_m, tile_n, stages, cluster_m, sm90::Schedule::schedule, gated>(       \
          operand, peak_fraction, exposed),                                                                             \
      sm90::kernel<Element, GemmLayout::crr, tile_m, tile_n, stages, cluster_m, sm90::Schedule::schedule, gated>(       \
          operand, peak_fraction, exposed),                                                                             \
      sm90::kernel<Element, GemmLayout::ccr, tile_m, tile_n, stages, cluster_m, sm90::Schedule::schedule, gated>(       \
          operand, peak_fraction, exposed)
