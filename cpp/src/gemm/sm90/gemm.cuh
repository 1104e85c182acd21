// GEMM for Hopper: TMA loads, wgmma, one persistent block per SM.
//
// 16-bit A and B in any of the four layouts, or float32 ones as TF32 in rcr (wgmma reads no other), float32 accumulation;
// gemm.hpp has what is computed, epilogue.cuh what happens to sums, tiles.cuh which tiles there are. Groups may share out
// rows (A row-major) or K (A column-major, B row-major).
//
// Data movement. A block is three warpgroups. One thread of the first finds tiles, tells the others through shared memory,
// and issues TMA copies of A and B tiles, 128-byte swizzled, into a ring of kStages slots; a slot's `full` barrier counts the
// bytes that arrive, its `empty` barrier the consumers that are done with it. The other two warpgroups multiply with wgmma
// straight from shared memory, keep one wgmma group in flight, and free the slot of the one before. Results go from registers
// to boxes in shared memory, two to a warpgroup, and from there by TMA to D while the next box is filled and the next tile
// begins; TMA does not know where a group's rows end, and there warps copy the box. Terms of the epilogue that are not
// common, or reach beyond D, take the slower way of epilogue.cuh. Tiles that fill no whole wave may be shared out
// (stream_k.cuh). Cooperative: the two take half of a tile's rows each. Ping-pong: each takes every other
// tile, in turns, so that one's epilogue runs while the other multiplies.
// With kClusterM = 2 two blocks with neighbouring rows of D share their columns of B: each loads half of the B tile and
// multicasts it. Gated: half of the B tile's columns come from B, half from b2, and belong to the same columns of D. A TMA
// box reads beyond a group's K into the next one's: of such a step only the blocks of 16 that the group has are multiplied,
// and the last of them is cleared where it is not the group's.
//
// Why these tiles. A thread has room for 128 float32 accumulators: 128 x 256 for two warpgroups, 128 x 128 for one. The
// large tile takes 32 KiB from L2 (with multicast) for the 1024 cycles of a K step of 64, the small one 64 KiB, which costs
// clock rate, an H200 being short of power; but the large one's epilogue is exposed, 2700 of 74000 cycles at K = 4096.
// bfloat16, rcr, H200, one run, relative to cuBLAS: at 4096 cubed 0.962 and 0.963, at 8192 cubed 1.014 and 1.034, at 2048 x
// 28672 x 8192 0.98 and 1.00, at 8192 x 8192 x 512 0.87 and 1.04. With stores from registers, shuffled to 16 bytes, they lost
// up to 0.08 of it, with bulk copies of rows instead of boxes more. Multicast made the ping-pong kernel slower (0.90 at 4096
// cubed): two blocks in step lose what two warpgroups out of step gain.
//
// What a tile costs beside its products. Where consumers found their tiles themselves, with divisions and the sizes of
// groups, 32 groups of K = 64 of 4096 x 4096 took 517 us instead of 359. And a first wave waits for code wherever it jumps
// to. Without stores from registers, and with one jump over all that a plain product does not need, warps stalled for want
// of an instruction 3000 cycles instead of 4300 at 1024 cubed, which took 15.5 us instead of 17.7 with cold caches, and 4096 x
// 4096 x 512 took 35.4 instead of 37.9.
#pragma once

#include <cutlass/arch/reg_reconfig.h>

#include <algorithm>

#include "gemm/epilogue.cuh"
#include "gemm/sm90/ring.cuh"
#include "gemm/sm90/stream_k.cuh"

namespace cutplan::gemm::sm90 {

/// cooperative: both consumer warpgroups share a tile. pingpong: each has its own, and one's epilogue runs under the
/// other's main loop.
enum class Schedule { cooperative, pingpong };

constexpr int threads = 3 * 128;  // producer and two consumer warpgroups
constexpr int box_bytes = 64 * run_bytes;

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
  static_assert(kTileM == 128 || (kPingPong && kTileM == 64), "64 rows or twice 64 for a warpgroup");
  // Groups cut A's rows, or K where K is the outer dimension of both A and B. A cluster's rows would often be empty there.
  static constexpr bool kGroupsOfRows = kClusterM == 1 && a_is_k_major(kLayout),
                        kGroupsOfK = kClusterM == 1 && kPingPong && kLayout == GemmLayout::crr && !kGated,
                        kGroups = kGroupsOfRows || kGroupsOfK;
  static constexpr GMMA::Major kMajorA = a_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;
  static constexpr GMMA::Major kMajorB = b_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;

  using SmemA = decltype(slot_layout<Element, kMajorA, kTileM, kTileK, kStages>());
  using SmemB = decltype(slot_layout<Element, kMajorB, kTileN, kTileK, kStages>());
  using Mma = decltype(make_tiled_mma(
      GMMA::ss_op_selector<Element, Element, float, Shape<Int<64 * kConsumers>, Int<kTileN>, Int<kTileK>>, kMajorA,
                           kMajorB>(),
      Layout<Shape<Int<kConsumers>, _1, _1>>{}));

  static constexpr std::uint32_t kSlotBytes = (kTileM + kTileN) * run_bytes;

  // Results leave through shared memory, each warpgroup's in boxes of 64 rows of 128 bytes, of which it has two.
  static constexpr bool kBoxes = kTileM == 128;
  static constexpr int kStagingBytes = kBoxes ? 2 * box_bytes : 4 * staging_bytes;

  /// What the producer tells the consumers: which piece comes next, and where its first step lies.
  struct WorkTile : Piece {
    int steps;  // -1: there is no piece
    RingPosition<kStages> ring;
  };
  static constexpr int kWorkTiles = 4;  // that the producer may be ahead

  struct Storage {
    alignas(1024) Element a[cosize_v<SmemA>];
    alignas(1024) Element b[cosize_v<SmemB>];
    alignas(1024) char staging[2][kStagingBytes];  // of each consumer warpgroup
    alignas(16) WorkTile work_tiles[kWorkTiles];
    cutlass::arch::ClusterTransactionBarrier full[kStages];
    cutlass::arch::ClusterBarrier empty[kStages], work_full[kWorkTiles], work_empty[kWorkTiles];
  };
  static constexpr std::size_t kSharedMemory = sizeof(Storage);
  static_assert(kSharedMemory <= 227 * 1024);
};

template <typename Config>
__device__ __forceinline__ void produce(typename Config::Storage& storage, const CUtensorMap& map_a,
                                        const CUtensorMap& map_b, const CUtensorMap& map_b2, const Problem& p,
                                        const TileGrid& grid, const StreamK& stream) {
  using Element = typename Config::Element;
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileK = Config::kTileK, kShareN = Config::kShareN;
  const std::uint64_t hint_b = grid.tiles_m == 1 ? read_once : keep;  // read once, B must not drive out what is in L2
  const int rank = kClusterM == 1 ? 0 : static_cast<int>(block_rank_in_cluster());
  RingPosition<Config::kStages> ring;
  RingPosition<Config::kWorkTiles> next;
  Work<kTileM * kClusterM, Config::kColumns, kTileK> work(p, grid, stream, blockIdx.x / kClusterM, gridDim.x / kClusterM);
  const auto publish = [&](const Piece& tile, int steps) {
    storage.work_empty[next.slot].wait(next.phase ^ 1);
    storage.work_tiles[next.slot] = {tile, steps, ring};
    storage.work_full[next.slot].arrive();
    next.advance();
  };
  Piece tile;
  while (work.next(tile)) {
    const int steps = static_cast<int>((tile.k_end - tile.k + kTileK - 1) / kTileK);
    publish(tile, steps);
    const int m0 = static_cast<int>(tile.row) + rank * kTileM, n0 = static_cast<int>(tile.col);
    const int batch_a = p.batch_a == 0 ? 0 : static_cast<int>(tile.batch),
              batch_b = p.batch_b == 0 ? 0 : static_cast<int>(tile.batch);
    const int first = static_cast<int>(tile.k);
    for (int k0 = first; k0 < first + steps * kTileK; k0 += kTileK) {
      auto& full = storage.full[ring.slot];
      storage.empty[ring.slot].wait(ring.phase ^ 1);
      full.arrive_and_expect_tx(Config::kSlotBytes);
      Element* a = storage.a + ring.slot * (kTileM * kTileK);
      if constexpr (Config::kMajorA == GMMA::Major::K) {
        load_box<1>(map_a, full, keep, a, k0, m0, batch_a);
      } else {
#pragma unroll
        for (int i = 0; i < kTileM; i += 64) load_box<1>(map_a, full, keep, a + i * kTileK, m0 + i, k0, batch_a);
      }
      // The piece of B's tile that this block loads, for the whole cluster; of two pieces of a gated tile one block loads
      // both.
      const auto load_share = [&](int share, const CUtensorMap& map, int col) {
        Element* b = storage.b + ring.slot * (Config::kTileN * kTileK) + share * kShareN * kTileK;
        if constexpr (Config::kMajorB == GMMA::Major::K) {
          load_box<kClusterM>(map, full, hint_b, b, k0, col, batch_b);
        } else {
#pragma unroll
          for (int i = 0; i < kShareN; i += 64) load_box<kClusterM>(map, full, hint_b, b + i * kTileK, col + i, k0, batch_b);
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
  for (int i = 0; i < 2 / Config::kConsumers; ++i) publish({}, -1);
}

/// Two warpgroups that take turns at the main loop. A turn is also what keeps a warpgroup from waiting for a lap of the ring
/// that is more than one ahead, which a barrier's phase bit cannot tell from the present one.
__device__ __forceinline__ void await_turn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory"); }
__device__ __forceinline__ void pass_turn(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(1 + group) : "memory"); }

__device__ __forceinline__ void sync_warpgroup() {
  asm volatile("bar.sync %0, 128;" ::"r"(3 + static_cast<int>(threadIdx.x / 128)) : "memory");
}

/// Clears the rows of K from k_left to k_end in a slot of column-major A and row-major B, whose boxes have a row of 128 bytes
/// for each k: at most 16 rows.
template <typename Config>
__device__ __forceinline__ void clear_tail(typename Config::Storage& storage, int slot, int k_left, int k_end, int thread) {
  constexpr int kBoxesA = Config::kTileM / 64, kBoxesB = Config::kTileN / 64, kTileK = Config::kTileK;
  if (thread < (k_end - k_left) * (run_bytes / 16)) {  // 16 bytes in each box
    char* a = reinterpret_cast<char*>(storage.a + slot * (Config::kTileM * kTileK)) + k_left * run_bytes + thread * 16;
    char* b = reinterpret_cast<char*>(storage.b + slot * (Config::kTileN * kTileK)) + k_left * run_bytes + thread * 16;
    for (int i = 0; i < kBoxesA; ++i) *reinterpret_cast<uint4*>(a + i * box_bytes) = make_uint4(0, 0, 0, 0);
    for (int i = 0; i < kBoxesB; ++i) *reinterpret_cast<uint4*>(b + i * box_bytes) = make_uint4(0, 0, 0, 0);
  }
  cutlass::arch::fence_view_async_shared();  // wgmma reads through another proxy
  sync_warpgroup();
}

template <typename Config>
__device__ __forceinline__ void consume(typename Config::Storage& storage, const CUtensorMap& map_d, bool d_is_mapped,
                                        const Problem& p, const TileGrid& grid, const StreamK& stream) {
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileN = Config::kTileN, kTileK = Config::kTileK;
  const int thread = (threadIdx.x - 128) % (128 * Config::kConsumers);  // among those that share the tile
  const int warp = threadIdx.x % 128 / 32;
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
  const std::uint32_t worker = blockIdx.x / kClusterM;
  // Ping-pong: of two tiles each warpgroup takes one.
  RingPosition<Config::kWorkTiles> next{group};
  typename Config::WorkTile tile;
  const auto fetch = [&] {
    storage.work_full[next.slot].wait(next.phase);
    tile = storage.work_tiles[next.slot];
    __syncwarp();
    if (thread % 32 == 0) storage.work_empty[next.slot].arrive();
    next.advance(2 / Config::kConsumers);
    ring = tile.ring;
    return tile.steps >= 0;
  };
  int boxes = 0;
  // Sums of the tile's K in the first `blocks` blocks of rows.
  const auto multiply = [&](int steps, int k_last, auto blocks) {
    constexpr int kBlocksK = decltype(size<2>(a))::value, kBlockK = kTileK / kBlocksK;
    int previous = -1;
    const auto fence = [&] {
#pragma unroll
      for (int i = 0; i < decltype(blocks)::value; ++i) {
        Tensor block = acc(_, i, 0);
        warpgroup_fence_operand(block);
      }
    };
    const auto multiply_block = [&](int k) {
#pragma unroll
      for (int i = 0; i < decltype(blocks)::value; ++i)
        cute::gemm(mma, a(_, i, k, ring.slot), b(_, 0, k, ring.slot), acc(_, i, 0));
      mma.accumulate_ = GMMA::ScaleOut::One;
    };
    mma.accumulate_ = Config::kPingPong ? GMMA::ScaleOut::One : GMMA::ScaleOut::Zero;
    fence();
    const bool is_cut = Config::kGroupsOfK && k_last < kTileK;  // the last step
    const auto await_previous = [&] {                           // products, of whose slot nothing more is read then
      warpgroup_wait<1>();
      if (previous >= 0) release(previous);
      previous = ring.slot;
    };
    for (int step = 0; step < steps - is_cut; ++step) {
      storage.full[ring.slot].wait(ring.phase);
      warpgroup_arrive();
#pragma unroll
      for (int k = 0; k < kBlocksK; ++k) multiply_block(k);
      warpgroup_commit_batch();
      await_previous();
      ring.advance();
    }
    if (is_cut) {
      storage.full[ring.slot].wait(ring.phase);
      const int blocks_k = (k_last + kBlockK - 1) / kBlockK;
      if (k_last % kBlockK != 0) clear_tail<Config>(storage, ring.slot, k_last, blocks_k * kBlockK, thread);
#pragma unroll 1  // unrolled, ptxas would wait for each product
      for (int k = 0; k < blocks_k; ++k) {
        warpgroup_arrive();
        multiply_block(k);
        warpgroup_commit_batch();
        if (k == 0) await_previous();
      }
      ring.advance();
    }
    if constexpr (Config::kPingPong) pass_turn(group ^ 1);
    warpgroup_wait<0>();
    fence();
    if (previous >= 0) release(previous);
  };
  if (group == 1) pass_turn(0);
  while (fetch()) {
    const int steps = tile.steps;
    // Ping-pong clears the sums under the other's products; cooperative, the first products do not add to what they hold.
    if (Config::kPingPong || steps == 0) clear(acc);
    if constexpr (Config::kPingPong) await_turn(group);
    const int k_last = static_cast<int>(tile.k_end - tile.k) - (steps - 1) * kTileK;
    // A tile at the end of its rows may need only half of them.
    const std::int64_t first_row = tile.row + rank * kTileM;
    if (kBlocksM == 2 && tile.row_end - first_row <= 64) {
      multiply(steps, k_last, Int<1>{});
    } else {
      multiply(steps, k_last, Int<kBlocksM>{});
    }
    auto& all_sums = reinterpret_cast<float (&)[kBlocksM * kTileN / 2]>(acc(0, 0, 0));
    if (tile.is_beginning) {
      leave_sums<128 * Config::kConsumers>(stream, all_sums, blockIdx.x, thread, sync_warpgroup);
      continue;
    }
    for (std::uint32_t other = worker; other > tile.first_worker;) {
      --other;
      add_sums<128 * Config::kConsumers>(stream, all_sums, other * kClusterM + rank, thread, sync_warpgroup);
    }
    const std::int64_t d_batch = tile.slice * p.batch + tile.batch;
    Epilogue epilogue(p, tile.batch, d_batch, tile.row_end);
    constexpr int kCols = Config::kColumns / 32;
    char* staging = storage.staging[threadIdx.x / 128 - 1];
    const std::int64_t warp_row = first_row + thread / 128 * 64 + warp * 16;
    constexpr int kBlockRows = 64 * Config::kConsumers;
    const auto sums_of = [&](int i) -> float (&)[kTileN / 2] {
      return reinterpret_cast<float (&)[kTileN / 2]>(acc(0, i, 0));
    };
    if constexpr (Config::kGated) {
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) epilogue.template gate<kCols>(sums_of(i), warp_row + i * kBlockRows, tile.col);
    }
    const auto values_of = [&](int i) -> float (&)[kCols * 16] {
      return reinterpret_cast<float (&)[kCols * 16]>(sums_of(i));
    };
    if constexpr (!Config::kBoxes) {
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        epilogue.template store_warp_tile<1, kCols>(values_of(i), staging + warp * staging_bytes, warp_row + i * kBlockRows,
                                                    tile.col);
      }
    } else if (epilogue.template finishes_in_registers<kCols>(tile.col)) {
      if (epilogue.has_terms()) {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i)
          epilogue.template finish_interior<1, kCols>(values_of(i), warp_row + i * kBlockRows, tile.col);
      }
      // TMA cuts off what reaches beyond D, columns in pieces of 16 bytes, but not what reaches into the rows of the next group.
      const bool by_tma = d_is_mapped && (p.n % 8 == 0 || epilogue.template is_inside<kCols>(tile.col)) &&
                          (tile.row_end == p.m || tile.row_end - first_row >= kTileM);
      const int batch_d = p.batch_d == 0 ? 0 : static_cast<int>(d_batch);  // groups of rows share D
      const auto send = [&](int i, int col, auto stage) {
        char* box = staging + boxes++ % 2 * box_bytes;
        if (thread % 128 == 0) {
          by_tma ? tma_store_wait<1>() : tma_store_wait<0>();  // until all but the latest have been read
        }
        sync_warpgroup();
        stage(box);
        if (!by_tma) {
          epilogue.copy_box(box, warp * 16, warp_row + i * kBlockRows, tile.col + col);
          return;
        }
        cutlass::arch::fence_view_async_shared();
        sync_warpgroup();
        if (thread % 128 == 0) {
          SM90_TMA_STORE_3D::copy(&map_d, box, static_cast<int>(tile.col) + col, static_cast<int>(warp_row) + i * kBlockRows,
                                  batch_d);
          tma_store_arrive();
        }
      };
      if (p.d_type == DType::f32) {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
          for (int c = 0; c < kCols; ++c) {
            send(i, 32 * c, [&](char* box) {
              epilogue.stage_32_bits(reinterpret_cast<float (&)[16]>(values_of(i)[c * 16]), box, warp * 16);
            });
          }
        }
      } else {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
          for (int c = 0; c < kCols; c += 2) {
            send(i, 32 * c, [&](char* box) {
              epilogue.stage_16_bits(reinterpret_cast<float (&)[32]>(values_of(i)[c * 16]), box, warp * 16);
            });
          }
        }
      }
    } else {
      if (thread % 128 == 0) tma_store_wait<0>();
      sync_warpgroup();
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        epilogue.template store_staged<1, kCols>(values_of(i), staging + warp * staging_bytes, warp_row + i * kBlockRows,
                                                 tile.col);
      }
    }
  }
  if (Config::kBoxes && thread % 128 == 0) tma_store_wait<0>();
}

template <typename Config>
__global__ __launch_bounds__(threads, 1) void sm90_gemm(
    const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
    const __grid_constant__ CUtensorMap map_b2, const __grid_constant__ CUtensorMap map_d,
    const __grid_constant__ bool d_is_mapped, const __grid_constant__ Problem p, const __grid_constant__ TileGrid grid,
    const __grid_constant__ StreamK stream) {
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
    for (int i = 0; i < Config::kWorkTiles; ++i) {
      storage.work_full[i].init(1);
      storage.work_empty[i].init(4 * Config::kConsumers);  // warps
    }
    cutlass::arch::fence_barrier_init();
  }
  if constexpr (Config::kClusterM > 1) {
    __syncwarp();  // a cluster's barrier takes warps whose lanes arrive together
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }
  if (threadIdx.x < 128) {
    cutlass::arch::warpgroup_reg_dealloc<40>();
    if (threadIdx.x == 0) produce<Config>(storage, map_a, map_b, map_b2, p, grid, stream);
  } else {
    cutlass::arch::warpgroup_reg_alloc<232>();
    consume<Config>(storage, map_d, d_is_mapped, p, grid, stream);
  }
  if constexpr (Config::kClusterM > 1) {
    // A block must outlive the arrivals that its neighbours send it.
    __syncwarp();  // the producer's lane comes last
    cluster_arrive_relaxed();
    cluster_wait();
  }
#endif
}

template <typename Config>
void prepare(const Kernel&) {
  allow_shared_memory(sm90_gemm<Config>, Config::kSharedMemory);
  load_kernel(split_k_reduce);
  load_kernel(lower_flags);
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
  const bool d_is_mapped = Config::kBoxes && can_map(main.d_type, main.d, main.ldd, main.batch_d);
  const CUtensorMap map_d = d_is_mapped ? tensor_map(tma_type(main.d_type), main.d_type, main.d, p.n, p.m, main.ldd,
                                                     p.batch * std::max(launch.split_k, 1), main.batch_d, 64)
                                        : CUtensorMap{};
  const bool streams = launch.split_k == stream_k;
  const TileGrid grid =
      tile_grid(p, kClusterM * Config::kTileM, Config::kColumns, Config::kTileK, std::max(launch.split_k, 1));
  const auto clusters = static_cast<std::uint32_t>(std::max(1, launch.sm_count / kClusterM));
  const StreamK stream =
      streams ? share_out(grid, p.k, Config::kTileK, clusters, launch.sm_count, launch.workspace) : StreamK{};

  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (kClusterM > 1) {
    cudaLaunchAttribute& cluster = attributes[count++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = kClusterM;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
  }
  if (streams) {
    cudaLaunchAttribute& early = attributes[count++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((streams ? clusters : std::min(clusters, grid.tiles)) * kClusterM);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = Config::kSharedMemory;
  config.stream = static_cast<cudaStream_t>(launch.stream);
  config.attrs = attributes;
  config.numAttrs = count;
  for (int i = 0; i < launch.repeats; ++i) {
    if (streams) {
      lower_flags<<<1, 256, 0, config.stream>>>(stream.flags, 2 * launch.sm_count);
      check_cuda(cudaGetLastError(), "launch of the kernel that lowers stream-K's flags");
    }
    check_cuda(cudaLaunchKernelEx(&config, sm90_gemm<Config>, map_a, map_b, map_b2, map_d, d_is_mapped, main, grid, stream),
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
  k.streams_k = true;
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
