// GEMM for Hopper: TMA loads, wgmma, one persistent block per SM.
//
// 16-bit A and B in any of the four layouts, or float32 ones as TF32 and 8-bit ones in rcr (wgmma reads no other), float32
// accumulation, int32 of int8; gemm.hpp has what is computed, epilogue.cuh what happens to sums, tiles.cuh which tiles there are.
// Groups may share out rows (A row-major) or K (A column-major, B row-major).
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
// large tile takes half of what the small one takes from L2, which costs clock rate, but its epilogue is exposed; the small
// one's runs under the other warpgroup's products. Multicast makes ping-pong slower: two blocks in step lose what two
// warpgroups out of step gain. A first wave waits for code wherever it jumps to: what a plain product does not need lies
// behind one jump.
//
// float8 sums that leave the tensor core at each step (multiply_and_promote) take a second set of 64 registers: 256 x 128, each
// warpgroup 64 rows at a time, in turns. Three warps beside the producer bring scales along K to shared memory. The epilogue
// reads its scales there, too: cp.async brings them while the tile is multiplied. Loads where they are needed, one latency after
// the other, cost 1 to 3 microseconds a tile.
#pragma once

#include <cutlass/arch/reg_reconfig.h>

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm90/cluster.cuh"
#include "core/sm90/ring.cuh"
#include "core/sm90/tma.cuh"
#include "core/sm90/warpgroup.cuh"
#include "core/sm90/work_queue.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/sm90/boxes.cuh"
#include "gemm/sm90/operand_map.hpp"
#include "gemm/sm90/stream_k.cuh"
#include "gemm/table.cuh"

namespace cutplan::gemm::sm90 {

using namespace cute;
using namespace cutplan::sm90;

/// cooperative: both consumer warpgroups share a tile. pingpong: each has its own, and one's epilogue runs under the
/// other's main loop.
enum class Schedule { cooperative, pingpong };

constexpr int threads = 3 * 128;  // producer and two consumer warpgroups

template <typename Element_, GemmLayout kLayout_, int kTileM_, int kTileN_, int kStages_, int kClusterM_,
          Schedule kSchedule_, bool kGated_, bool kPromotes_ = false>
struct Config {
  static constexpr bool kGated = kGated_;
  static constexpr bool kPingPong = kSchedule_ == Schedule::pingpong;
  static constexpr int kConsumers = kPingPong ? 1 : 2;  // warpgroups that share a tile

  using Element = typename ElementsOf<Element_>::A;
  using ElementB = typename ElementsOf<Element_>::B;
  using Sum = SumOf<Element>;
  static constexpr bool kQuantized = sizeof(Element) == 1, kIntegers = std::is_same_v<Sum, std::int32_t>,
                        kPromotes = kPromotes_;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kStages = kStages_, kClusterM = kClusterM_;
  static constexpr int kTileK = run_bytes / sizeof(Element), kColumns = kGated ? kTileN / 2 : kTileN;  // kColumns: of D
  static constexpr int kShareN = kTileN / (kGated ? 2 : kClusterM);  // columns of B that come in one piece
  static_assert(kClusterM <= 2 && sizeof(Element) * kTileK == run_bytes);
  static_assert(kTileM == 128 || (kPingPong ? kTileM == 64 : kTileM == 256), "64 rows or twice 64 for a warpgroup");
  // Groups cut A's rows, or K where K is the outer dimension of both A and B. A cluster's rows would often be empty there.
  static constexpr bool kGroupsOfRows = kClusterM == 1 && a_is_k_major(kLayout),
                        kGroupsOfK = kClusterM == 1 && kPingPong && kLayout == GemmLayout::crr && !kGated,
                        kGroups = kGroupsOfRows || kGroupsOfK;
  static constexpr GMMA::Major kMajorA = a_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;
  static constexpr GMMA::Major kMajorB = b_is_k_major(kLayout) ? GMMA::Major::K : GMMA::Major::MN;

  using SmemA = decltype(slot_layout<Element, kMajorA, kTileM, kTileK, kStages>());
  using SmemB = decltype(slot_layout<ElementB, kMajorB, kTileN, kTileK, kStages>());
  using Mma = decltype(make_tiled_mma(
      GMMA::ss_op_selector<Element, ElementB, Sum, Shape<Int<64 * kConsumers>, Int<kTileN>, Int<kTileK>>, kMajorA,
                           kMajorB>(),
      Layout<Shape<Int<kConsumers>, _1, _1>>{}));

  static constexpr std::uint32_t kSlotBytes = (kTileM + kTileN) * run_bytes;

  // Results leave through shared memory, each warpgroup's in boxes of 64 rows of 128 bytes, of which it has two.
  static constexpr bool kBoxes = kTileM != 64;
  static constexpr int kBlockRows = 64 * kConsumers, kBlocksM = kTileM / kBlockRows;  // blocks of 64 rows of a warpgroup
  static constexpr int kStagingBytes = kBoxes ? 2 * box_bytes : 4 * staging_bytes;

  /// What the producer tells the consumers: which piece comes next, and where its first step lies.
  struct WorkTile : Piece {
    int steps;  // -1: there is no piece
    RingPosition<kStages> first;
  };
  static constexpr int kWorkTiles = 4;  // that the producer may be ahead

  /// Scales of one K step, which three warps bring: of the tile's rows and columns, and what makes whole warps of them.
  static constexpr int kScaleWarps = 3, kScaleLanes = 32 * kScaleWarps;
  struct StepScales {
    static constexpr int kRows = ceil_div(kTileM, kScaleLanes), kColumns = ceil_div(kTileN, kScaleLanes);  // of a lane
    alignas(16) float rows[kPromotes ? kRows * kScaleLanes : 1], columns[kPromotes ? kColumns * kScaleLanes : 1];
  };

  /// The epilogue's scales: of a warpgroup's rows and of the tile's columns of B.
  struct Factors {
    alignas(16) float rows[kQuantized ? 64 * kBlocksM : 1], columns[kQuantized ? kTileN : 1];
  };

  struct Storage {
    alignas(1024) Element a[cosize_v<SmemA>];
    alignas(1024) ElementB b[cosize_v<SmemB>];
    alignas(1024) char staging[2][kStagingBytes];  // of each consumer warpgroup
    alignas(16) WorkTile work_tiles[kWorkTiles];
    StepScales scales[2][kPromotes ? kStages : 1];  // of a slot's steps in even and odd laps
    Factors factors[2];                             // of each consumer warpgroup
    Ring<kStages> ring;
    QueueRing<kWorkTiles> work_ring;
  };
  static constexpr std::size_t kSharedMemory = sizeof(Storage);
  static_assert(kSharedMemory <= 227 * 1024);
};

// ---- Producer ----

/// One K step of A and B to a slot: of B's tile the piece that this block loads for the whole cluster.
template <typename Config>
__device__ void load_step(typename Config::Storage& storage, const RingPosition<Config::kStages>& at,
                          const CUtensorMap& map_a, const CUtensorMap& map_b, const CUtensorMap& map_b2,
                          std::uint64_t hint_b, int rank, int k0, int m0, int n0, int batch_a, int batch_b) {
  using Element = typename Config::Element;
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileK = Config::kTileK, kShareN = Config::kShareN;
  auto& full = storage.ring.fill(at, Config::kSlotBytes);
  Element* a = storage.a + at.slot * (kTileM * kTileK);
  if constexpr (Config::kMajorA == GMMA::Major::K) {
    load_box(map_a, full, keep, a, k0, m0, batch_a);
  } else {
#pragma unroll
    for (int i = 0; i < kTileM; i += 64) load_box(map_a, full, keep, a + i * kTileK, m0 + i, k0, batch_a);
  }
  const auto load_share = [&](int share, const CUtensorMap& map, int col) {
    auto* b = storage.b + at.slot * (Config::kTileN * kTileK) + share * kShareN * kTileK;
    if constexpr (Config::kMajorB == GMMA::Major::K) {
      load_box<kClusterM>(map, full, hint_b, b, k0, col, batch_b);
    } else {
#pragma unroll
      for (int i = 0; i < kShareN; i += 64) load_box<kClusterM>(map, full, hint_b, b + i * kTileK, col + i, k0, batch_b);
    }
  };
  if constexpr (!Config::kGated) {
    load_share(rank, map_b, n0 + rank * kShareN);
  } else {  // of the two pieces of a gated tile one block loads both
    if (kClusterM == 1 || rank == 0) load_share(0, map_b, n0);
    if (kClusterM == 1 || rank == 1) load_share(1, map_b2, n0);
  }
}

/// One thread: finds tiles, tells the consumers, and keeps the ring full.
template <typename Config>
__device__ __forceinline__ void produce(typename Config::Storage& storage, const CUtensorMap& map_a,
                                        const CUtensorMap& map_b, const CUtensorMap& map_b2, const Problem& p,
                                        const TileGrid& grid, const StreamK& stream) {
  constexpr int kClusterM = Config::kClusterM, kTileM = Config::kTileM, kTileK = Config::kTileK;
  const std::uint64_t hint_b = grid.tiles_m == 1 ? read_once : keep;  // read once, B must not drive out what is in L2
  const int rank = cluster_rank<kClusterM>();
  RingPosition<Config::kStages> at;
  WorkQueue<typename Config::WorkTile, Config::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  Work<kTileM * kClusterM, Config::kColumns, kTileK> work(p, grid, stream, blockIdx.x / kClusterM, gridDim.x / kClusterM);
  Piece tile;
  while (work.next(tile)) {
    const int steps = static_cast<int>((tile.k_end - tile.k + kTileK - 1) / kTileK);
    queue.publish({tile, steps, at});
    const int m0 = static_cast<int>(tile.row) + rank * kTileM, n0 = static_cast<int>(tile.col);
    const int batch_a = p.a.batch_stride == 0 ? 0 : static_cast<int>(tile.batch),
              batch_b = p.b.batch_stride == 0 ? 0 : static_cast<int>(tile.batch);
    const int first = static_cast<int>(tile.k);
    for (int k0 = first; k0 < first + steps * kTileK; k0 += kTileK) {
      load_step<Config>(storage, at, map_a, map_b, map_b2, hint_b, rank, k0, m0, n0, batch_a, batch_b);
      at.advance();
    }
  }
  for (int i = 0; i < 2 / Config::kConsumers; ++i) queue.publish({{}, -1, at});
}

// ---- Scales along K ----

__device__ __forceinline__ bool has_scales_along_k(const Problem& p) {
  return p.of_a.scale.data != nullptr || p.of_b.scale.data != nullptr;
}

/// Whether B's columns have scales of their own; else one is all columns' of a tile.
__device__ __forceinline__ bool has_scales_by_column(const Problem& p) {
  return p.of_b.scale.data != nullptr && p.of_b.shift == 0;
}

/// What stands for a scale that there is not.
static __device__ const float no_scale = 1;

/// The warps beside the producer's: fetch the scales of each step, one step ahead, and leave them beside the slot's operands.
/// Rows get the products with the one scale of all columns, if that is what there is.
template <typename Config>
__device__ __forceinline__ void load_scales(typename Config::Storage& storage, const Problem& p) {
  constexpr int kLanes = Config::kScaleLanes, kRows = Config::StepScales::kRows, kColumns = Config::StepScales::kColumns;
  const int lane = static_cast<int>(threadIdx.x) - 32, rank = cluster_rank<Config::kClusterM>();
  const bool by_column = has_scales_by_column(p);
  const auto first_of = [&](const Coding& of, const typename Config::WorkTile& tile, std::int64_t line) {
    return of.scale.data == nullptr ? &no_scale
                                    : static_cast<const float*>(of.scale.data) + tile.batch * of.scale.batch_stride +
                                          (line >> of.shift) * of.scale.ld + tile.k / scale_group * of.scale.step;
  };
  WorkQueue<typename Config::WorkTile, Config::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  while (true) {
    const float *of_rows[kRows], *of_columns[kColumns];
    float rows[kRows], columns[kColumns];
    RingPosition<Config::kStages> at;
    int steps;
    {
      typename Config::WorkTile tile;
      queue.fetch(tile, 1, lane);
      if (tile.steps < 0) return;
      steps = tile.steps;
      at = tile.first;
      // Of rows and columns beyond D whichever: what comes of them is not stored.
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        of_rows[i] = first_of(p.of_a, tile, min(tile.row + rank * Config::kTileM + lane + i * kLanes, p.m - 1));
#pragma unroll
      for (int i = 0; i < kColumns; ++i) of_columns[i] = first_of(p.of_b, tile, min(tile.col + lane + i * kLanes, p.n - 1));
    }
    const auto fetch = [&] {
#pragma unroll
      for (int i = 0; i < kRows; ++i) rows[i] = __ldg(of_rows[i]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        if (i == 0 || by_column) columns[i] = __ldg(of_columns[i]);
      }
    };
    if (steps > 0) fetch();
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      storage.ring.await_empty(at);
      auto& scales = storage.scales[at.phase][at.slot];
      const float factor = by_column ? 1.0f : columns[0];
#pragma unroll
      for (int i = 0; i < kRows; ++i) scales.rows[lane + i * kLanes] = rows[i] * factor;
      if (by_column) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) scales.columns[lane + i * kLanes] = columns[i];
      }
      __syncwarp();
      if (lane % 32 == 0) storage.ring.full[at.slot].arrive();
      at.advance();
      if (step + 1 == steps) break;
      const std::int64_t step_a = p.of_a.scale.data == nullptr ? 0 : p.of_a.scale.step,
                         step_b = p.of_b.scale.data == nullptr ? 0 : p.of_b.scale.step;
#pragma unroll
      for (int i = 0; i < kRows; ++i) of_rows[i] += step_a;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) of_columns[i] += step_b;
      fetch();
    }
  }
}

// ---- Consumers ----
//
// The larger steps are plain functions: forced inline, they are optimised on their own first, which costs the main loop address
// arithmetic. The compiler inlines them all the same.

/// What all lanes of a warp have, in a way that the compiler knows it.
template <typename T>
__device__ __forceinline__ T uniform(T x) {
  return __reduce_max_sync(0xffffffffu, x);
}

/// A thread of a consumer warpgroup, and what it works with.
template <typename Config>
struct Consumer {
  static constexpr int kThreads = 128 * Config::kConsumers;  // that share a tile
  static constexpr int kCols = Config::kColumns / 32;        // pieces of 32 columns of D

  typename Config::Storage& storage;
  const Problem& p;
  const StreamK& stream;
  const OutputMaps& maps_d;
  int thread, warp;  // among those that share the tile, and in the warpgroup
  int warpgroup;     // of the two
  int group;         // ping-pong: the same, else 0
  int rank;          // of the block in its cluster

  __device__ __forceinline__ char* staging() const { return storage.staging[threadIdx.x / 128 - 1]; }
  __device__ __forceinline__ void release(int slot) const {
    storage.ring.template release<Config::kClusterM>(slot, thread % 128);
  }
};

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

/// Sums of `steps` K steps, of the last of which k_last exist, in the first kBlocks blocks of 64 rows. Keeps one wgmma group
/// in flight, and frees the slot of the one before.
template <typename Config, int kBlocks, typename Mma, typename A, typename B, typename Sums>
__device__ void multiply(const Consumer<Config>& me, const RingPosition<Config::kStages>& first, int steps, int k_last,
                         Mma& mma, const A& a, const B& b, Sums& acc) {
  constexpr int kBlocksK = decltype(size<2>(a))::value, kBlockK = Config::kTileK / kBlocksK;
  auto& ring = me.storage.ring;
  RingPosition<Config::kStages> at = first;
  int previous = -1;
  const auto fence = [&] {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      Tensor block = acc(_, i, 0);
      warpgroup_fence_operand(block);
    }
  };
  const auto multiply_block = [&](int k) {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) cute::gemm(mma, a(_, i, k, at.slot), b(_, 0, k, at.slot), acc(_, i, 0));
    mma.accumulate_ = GMMA::ScaleOut::One;
  };
  mma.accumulate_ = Config::kPingPong ? GMMA::ScaleOut::One : GMMA::ScaleOut::Zero;
  fence();
  const bool is_cut = Config::kGroupsOfK && k_last < Config::kTileK;  // the last step
  const auto await_previous = [&] {                                   // products, of whose slot nothing more is read then
    warpgroup_wait<1>();
    if (previous >= 0) me.release(previous);
    previous = at.slot;
  };
  for (int step = 0; step < steps - is_cut; ++step) {
    ring.await_full(at);
    warpgroup_arrive();
#pragma unroll
    for (int k = 0; k < kBlocksK; ++k) multiply_block(k);
    warpgroup_commit_batch();
    await_previous();
    at.advance();
  }
  if (is_cut) {
    ring.await_full(at);
    const int blocks_k = (k_last + kBlockK - 1) / kBlockK;
    if (k_last % kBlockK != 0) clear_tail<Config>(me.storage, at.slot, k_last, blocks_k * kBlockK, me.thread);
#pragma unroll 1  // unrolled, ptxas would wait for each product
    for (int k = 0; k < blocks_k; ++k) {
      warpgroup_arrive();
      multiply_block(k);
      warpgroup_commit_batch();
      if (k == 0) await_previous();
    }
    at.advance();
  }
  if constexpr (Config::kPingPong) pass_turn(me.group ^ 1);
  warpgroup_wait<0>();
  fence();
  if (previous >= 0) me.release(previous);
}

/// Scales along K: there are none, or those of rows, or those of rows and columns.
enum class ScalesAlongK { none, of_rows, of_both };

/// The same for fp8, of whose sums the tensor core keeps 14 bits or so: those of each K step are summed apart, 64 rows at a time, and
/// added in float32, times the scales of the step where there are any. The warpgroups take turns at the tensor core: in step
/// they would both wait for it, then both add.
template <typename Config, ScalesAlongK kScales, typename Mma, typename A, typename B, typename Sums>
__device__ __forceinline__ void multiply_and_promote(const Consumer<Config>& me, const typename Config::WorkTile& tile,
                                                     Mma& mma, const A& a, const B& b, Sums& acc) {
  constexpr int kBlocksK = decltype(size<2>(a))::value, kBlocksM = Config::kBlocksM, kTileN = Config::kTileN;
  static_assert(!Config::kGated && Config::kTileK == scale_group && kTileN == 128);
  auto& ring = me.storage.ring;
  clear(acc);
  const int lane = me.thread % 32, first_row = me.warpgroup * 64 + me.warp * 16 + lane / 4;  // of the thread's, in the tile
  RingPosition<Config::kStages> at = tile.first;
  auto step_sums = make_tensor<float>(partition_shape_C(mma, Shape<Int<64 * Config::kConsumers>, Int<kTileN>>{}));
  const auto& of_step = reinterpret_cast<const float (&)[kTileN / 2]>(step_sums(0, 0, 0));
  bool is_full = ring.is_full(at);
#pragma unroll 1
  for (int step = 0; step < tile.steps; ++step) {
    if (!is_full) ring.await_full(at);
    const int slot = at.slot;
    const auto& scales = me.storage.scales[at.phase][slot];
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) {
      await_turn(me.warpgroup);
      warpgroup_fence_operand(step_sums);
      warpgroup_arrive();
      mma.accumulate_ = GMMA::ScaleOut::Zero;
#pragma unroll
      for (int k = 0; k < kBlocksK; ++k) {
        cute::gemm(mma, a(_, i, k, slot), b(_, 0, k, slot), step_sums(_, 0, 0));
        mma.accumulate_ = GMMA::ScaleOut::One;
        if (k == kBlocksK / 2 - 1) pass_turn(me.warpgroup ^ 1);  // early, since passing it takes as long as a product
      }
      warpgroup_commit_batch();
      float rows[2] = {1, 1};
      if constexpr (kScales != ScalesAlongK::none) {
        // A slot is free when one thread has its sums, which others of its warpgroup may not yet have read the scales of:
        // they stay in place for another lap.
        const std::uint32_t of_row = shared_address(scales.rows + first_row + i * Config::kBlockRows);
        load_shared(of_row, rows[0]);
        load_shared(of_row + 8 * sizeof(float), rows[1]);
      }
      if (i == kBlocksM - 1) at.advance();
      warpgroup_wait<0>();
      warpgroup_fence_operand(step_sums);
      if (i == kBlocksM - 1) {
        me.release(slot);
        is_full = ring.is_full(at);  // asked now, needed when the sums are added
      }
      auto& sums = reinterpret_cast<float (&)[kTileN / 2]>(acc(0, i, 0));
      if constexpr (kScales == ScalesAlongK::of_both) {
#pragma unroll
        for (int j = 0; j < kTileN / 8; ++j) {
          const float2 pair = *reinterpret_cast<const float2*>(scales.columns + 8 * j + lane % 4 * 2);
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            sums[4 * j + 2 * h] = fmaf(of_step[4 * j + 2 * h], rows[h] * pair.x, sums[4 * j + 2 * h]);
            sums[4 * j + 2 * h + 1] = fmaf(of_step[4 * j + 2 * h + 1], rows[h] * pair.y, sums[4 * j + 2 * h + 1]);
          }
        }
      } else {
#pragma unroll
        for (int x = 0; x < kTileN / 2; ++x) sums[x] = fmaf(of_step[x], rows[x / 2 % 2], sums[x]);
      }
    }
  }
}

/// Quantised operands: starts to fetch the scales of a tile's rows and columns, which will be there when its sums are.
template <typename Config>
__device__ __forceinline__ void fetch_factors(const Consumer<Config>& me, const typename Config::WorkTile& tile,
                                              std::int64_t first_row) {
  constexpr int kRows = 64 * Config::kBlocksM, kColumns = Config::kColumns;
  const Terms& t = me.p.terms;
  auto& factors = me.storage.factors[me.warpgroup];
  const int thread = me.thread % 128;
  const auto fetch = [&](float& to, const Matrix& m, std::int64_t at) {
    if (m.data == nullptr) {
      to = 1;
    } else {
      cp_async<4>(shared_address(&to), static_cast<const float*>(m.data) + tile.batch * m.batch_stride + at);
    }
  };
  cp_async_wait<0>();
  sync_warpgroup();  // those of the tile before have been read
  // Of rows and columns beyond D whichever: what comes of them is not stored.
#pragma unroll
  for (int i = thread; i < kRows; i += 128) {
    const std::int64_t row = first_row + i / 64 * Config::kBlockRows + me.thread / 128 * 64 + i % 64;
    fetch(factors.rows[i], t.row_scale, min(row, me.p.m - 1) * t.row_scale.ld);
  }
#pragma unroll
  for (int i = thread; i < Config::kTileN; i += 128) {
    const Matrix& scale = i < kColumns ? t.column_scale : t.column_scale2;
    fetch(factors.columns[i], scale, min(tile.col + i % kColumns, me.p.n - 1) * scale.step);
  }
  cp_async_commit();
}

/// Sums times alpha and the scales that fetch_factors() brought; sums of integers become floats first.
template <typename Config, typename Sums>
__device__ __forceinline__ void scale_sums(const Consumer<Config>& me, Sums& acc) {
  const auto& factors = me.storage.factors[me.warpgroup];
  const auto alpha = static_cast<float>(me.p.terms.alpha);
  const int lane = threadIdx.x % 32;
  cp_async_wait<0>();
  sync_warpgroup();
#pragma unroll
  for (int i = 0; i < Config::kBlocksM; ++i) {
    const float* const rows = factors.rows + 64 * i + me.warp * 16 + lane / 4;
    const float of_row[2] = {alpha * rows[0], alpha * rows[8]};
    auto& sums = reinterpret_cast<float (&)[Config::kTileN / 2]>(acc(0, i, 0));
#pragma unroll
    for (int j = 0; j < Config::kTileN / 8; ++j) {
      const float2 of_columns = *reinterpret_cast<const float2*>(factors.columns + 8 * j + lane % 4 * 2);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        float& sum = sums[4 * j + x];
        if constexpr (Config::kIntegers) sum = __int2float_rn(__float_as_int(sum));
        sum = sum * of_row[x / 2] * (x % 2 == 0 ? of_columns.x : of_columns.y);  // the factors' product may be no float
      }
    }
  }
}

/// Stream-K: leaves the partial sums of a tile's beginning to the worker that has its end, which adds those of the workers
/// before it. Whether this one has the end.
template <typename Config, int kValues>
__device__ bool fix_up(const Consumer<Config>& me, const typename Config::WorkTile& tile, std::uint32_t worker,
                       float (&sums)[kValues]) {
  constexpr int kThreads = Consumer<Config>::kThreads;
  if (tile.is_beginning) {
    store_partial_sums<kThreads>(me.stream, sums, blockIdx.x, me.thread);
    return false;
  }
  for (std::uint32_t other = worker; other > tile.first_worker;) {
    --other;
    add_partial_sums<kThreads, Config::kIntegers>(me.stream, sums, other * Config::kClusterM + me.rank, me.thread);
  }
  return true;
}

/// A consumer warpgroup: tile by tile, multiplies, makes the sums complete, and finishes.
template <typename Config>
__device__ __forceinline__ void consume(typename Config::Storage& storage, const OutputMaps& maps_d, bool d_is_mapped,
                                        const Problem& p, const StreamK& stream) {
  constexpr int kTileM = Config::kTileM, kTileN = Config::kTileN, kTileK = Config::kTileK, kBlocksM = Config::kBlocksM;
  const int warpgroup = uniform(static_cast<int>(threadIdx.x / 128)) - 1;
  const Consumer<Config> me{storage,
                            p,
                            stream,
                            maps_d,
                            static_cast<int>((threadIdx.x - 128) % Consumer<Config>::kThreads),
                            static_cast<int>(threadIdx.x % 128 / 32),
                            warpgroup,
                            Config::kPingPong ? warpgroup : 0,
                            cluster_rank<Config::kClusterM>()};
  typename Config::Mma mma;
  // The descriptors of all of a warpgroup's threads are the same.
  const auto slice = mma.get_slice(Config::kPromotes ? me.warpgroup * 128 : me.thread);
  const Tensor a = slice.make_fragment_A(slice.partition_A(make_tensor(make_smem_ptr(storage.a), typename Config::SmemA{})));
  const Tensor b = slice.make_fragment_B(slice.partition_B(make_tensor(make_smem_ptr(storage.b), typename Config::SmemB{})));
  // Of integers the sums are int32, in the bits of floats: ((2, 2, kTileN / 8), kBlocksM, 1)
  Tensor acc = make_tensor<float>(partition_shape_C(mma, Shape<Int<kTileM>, Int<kTileN>>{}));
  const std::uint32_t worker = blockIdx.x / Config::kClusterM;
  // Ping-pong: of two tiles each warpgroup takes one.
  WorkQueue<typename Config::WorkTile, Config::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {me.group}};
  typename Config::WorkTile tile;
  const auto fetch = [&] {
    queue.fetch(tile, 2 / Config::kConsumers, me.thread);
    if constexpr (Config::kPromotes) {
      tile.steps = uniform(tile.steps);
      tile.first = {uniform(tile.first.slot), uniform(tile.first.phase)};
    }
    return tile.steps >= 0;
  };
  int boxes = 0;  // that the warpgroup has filled
  // A turn is also what keeps a warpgroup from waiting for a lap of the ring that is more than one ahead, which a barrier's phase
  // bit cannot tell from the present one.
  if ((Config::kPromotes || Config::kPingPong) && me.warpgroup == 1) pass_turn(0);
  while (fetch()) {
    const int steps = tile.steps;
    const std::int64_t first_row = tile.row + me.rank * kTileM;
    if constexpr (Config::kQuantized) fetch_factors<Config>(me, tile, first_row);
    // Ping-pong clears the sums under the other's products; cooperative, the first products do not add to what they hold.
    if (Config::kPingPong || steps == 0) clear(acc);
    if constexpr (Config::kPingPong) await_turn(me.group);
    const int k_last = static_cast<int>(tile.k_end - tile.k) - (steps - 1) * kTileK;
    if constexpr (Config::kPromotes) {
      const auto promote = [&](auto scales) { multiply_and_promote<Config, scales>(me, tile, mma, a, b, acc); };
      if (!has_scales_along_k(p)) {
        promote(std::integral_constant<ScalesAlongK, ScalesAlongK::none>{});
      } else if (!has_scales_by_column(p)) {
        promote(std::integral_constant<ScalesAlongK, ScalesAlongK::of_rows>{});
      } else {
        promote(std::integral_constant<ScalesAlongK, ScalesAlongK::of_both>{});
      }
    } else if (kBlocksM == 2 && tile.row_end - first_row <= 64) {  // the end of its rows may need only half of a tile
      multiply<Config, 1>(me, tile.first, steps, k_last, mma, a, b, acc);
    } else {
      multiply<Config, kBlocksM>(me, tile.first, steps, k_last, mma, a, b, acc);
    }
    auto& all_sums = reinterpret_cast<float (&)[kBlocksM * kTileN / 2]>(acc(0, 0, 0));
    if (!fix_up<Config>(me, tile, worker, all_sums)) continue;
    const bool scales = Config::kQuantized && p.d.type != DType::i32 && !has_zeros(p);  // with zeros finish() does it
    if (scales) scale_sums<Config>(me, acc);
    constexpr int kCols = Consumer<Config>::kCols, kBlockRows = Config::kBlockRows;
    const std::int64_t d_batch = tile.slice * p.batch + tile.batch;
    Epilogue<Config::kQuantized> epilogue(p, tile.batch, d_batch, tile.row_end, scales ? Stage::scaled : Stage::sums);
    const std::int64_t row = first_row + me.thread / 128 * 64 + me.warp * 16;  // of the warp
    char* const staging = me.staging() + me.warp * staging_bytes;
    const int output = output_of(p, tile.col);
    const DirectStore<Config::kQuantized> to = epilogue.store_to(output);
    const std::int64_t end = me.maps_d.cut_at_boxes ? p.n + kTileN : end_of(p, output);  // all that a tile has
    const auto sums_of = [&](int i) -> float (&)[Config::kTileN / 2] {
      return reinterpret_cast<float (&)[Config::kTileN / 2]>(acc(0, i, 0));
    };
    const auto values_of = [&](int i) -> float (&)[kCols * 16] {
      return reinterpret_cast<float (&)[kCols * 16]>(sums_of(i));
    };
    if constexpr (Config::kGated) {
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) epilogue.template gate<kCols>(sums_of(i), row + i * kBlockRows, tile.col);
    }
    if constexpr (!Config::kBoxes) {
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i)
        epilogue.template store_warp_tile<1, kCols>(values_of(i), staging, row + i * kBlockRows, tile.col);
    } else if (Config::kQuantized && is_8bit(p.d.type) &&
               epilogue.template finishes_in_registers<kCols>(to, end, tile.col) &&
               epilogue.template is_inside<kCols>(tile.col)) {
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        auto x = epilogue.template fragments<1, kCols>(values_of(i), row + i * kBlockRows, tile.col);
        if (epilogue.has_terms()) apply(p.terms, x, epilogue.stage());
        if (x.first_row < tile.row_end) to.store(x);
      }
    } else if (epilogue.template finishes_in_registers<kCols>(to, end, tile.col) &&
               !(Config::kQuantized && is_8bit(p.d.type))) {
      // TMA cuts off what reaches beyond D, columns in pieces of 16 bytes, but not what reaches into the rows of the next group.
      const bool by_tma = d_is_mapped && (p.n % 8 == 0 || epilogue.template is_inside<kCols>(tile.col)) &&
                          (tile.row_end == p.m || tile.row_end - first_row >= Config::kTileM);
      const int batch_d = p.d.batch_stride == 0 ? 0 : static_cast<int>(d_batch);  // groups of rows share D
      const BoxStore store{me.maps_d, p, tile.row_end, me.staging(), boxes, batch_d};
      const auto fragments_of = [&](int i) {
        return epilogue.template fragments<1, kCols>(values_of(i), row + i * kBlockRows, tile.col);
      };
      if (epilogue.has_terms()) {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i) {
          auto x = fragments_of(i);
          apply(p.terms, x, Config::kQuantized ? epilogue.stage() : Stage::sums);
        }
      }
      // What is left is code without branches for each type, since each costs a fetch of instructions.
      const auto store_as = [&](auto type, auto is_by_tma) {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i) store.template store<type, is_by_tma>(fragments_of(i));
      };
      with_type(matrix_of(p, output).type,
                [&](auto type) { by_tma ? store_as(type, std::true_type{}) : store_as(type, std::false_type{}); });
    } else {
      if (me.thread % 128 == 0) tma_store_wait<0>();
      sync_warpgroup();
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i)
        epilogue.template store_staged<1, kCols>(values_of(i), staging, row + i * kBlockRows, tile.col);
    }
  }
  if (Config::kBoxes && me.thread % 128 == 0) tma_store_wait<0>();
}

template <typename Config>
__global__ __launch_bounds__(threads, 1) void sm90_gemm(
    const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
    const __grid_constant__ CUtensorMap map_b2, const __grid_constant__ OutputMaps maps_d,
    const __grid_constant__ bool d_is_mapped, const __grid_constant__ Problem p, const __grid_constant__ TileGrid grid,
    const __grid_constant__ StreamK stream) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) char shared[];  // the swizzle counts from multiples of 1024 bytes
  auto& storage = *reinterpret_cast<typename Config::Storage*>(shared);
  if (grid.slices > 1) launch_next_grid();
  if (threadIdx.x == 0) {
    if (p.k > 0) {  // without K there are no operands, nor maps of them
      prefetch_map(map_a);
      prefetch_map(map_b);
      if constexpr (Config::kGated) prefetch_map(map_b2);
    }
    const bool scaled = Config::kPromotes && has_scales_along_k(p);
    storage.ring.init(Config::kConsumers * Config::kClusterM, scaled ? 1 + Config::kScaleWarps : 1);
    storage.work_ring.init(4 * Config::kConsumers + (scaled ? Config::kScaleWarps : 0));  // warps
    cutlass::arch::fence_barrier_init();
  }
  if constexpr (Config::kClusterM > 1) {
    cluster_sync_relaxed();
  } else {
    __syncthreads();
  }
  if (threadIdx.x < 128) {
    cutlass::arch::warpgroup_reg_dealloc<40>();
    if (threadIdx.x == 0) produce<Config>(storage, map_a, map_b, map_b2, p, grid, stream);
    if constexpr (Config::kPromotes) {
      if (threadIdx.x >= 32 && has_scales_along_k(p)) load_scales<Config>(storage, p);
    }
  } else {
    cutlass::arch::warpgroup_reg_alloc<232>();
    consume<Config>(storage, maps_d, d_is_mapped, p, stream);
  }
  // A block must outlive the arrivals that its neighbours send it. Of the first warp the producer's lane comes last.
  if constexpr (Config::kClusterM > 1) cluster_sync_relaxed();
#endif
}

template <typename Config>
void prepare(const Kernel&) {
  allow_shared_memory(sm90_gemm<Config>, Config::kSharedMemory);
  load_kernel(split_k_reduce);
  load_kernel(lower_flags);
  if constexpr (Config::kIntegers) load_kernel(sum_codes);
}

template <typename Config>
void run(const Kernel&, const Problem& asked, const Launch& launch) {
  constexpr int kClusterM = Config::kClusterM;
  const bool zeros = Config::kIntegers && has_zeros(asked);
  const Problem p = zeros ? with_zero_sums(asked, launch.workspace) : asked;
  char* const workspace =
      static_cast<char*>(launch.workspace) + (zeros ? zero_sums_bytes(p.m, p.n, p.batch) : std::size_t{0});
  constexpr bool a_k = Config::kMajorA == GMMA::Major::K, b_k = Config::kMajorB == GMMA::Major::K;
  const CUtensorMap map_a =
      operand_map(p.a, a_k ? p.k : p.m, a_k ? p.m : p.k, p.batch, a_k ? Config::kTileM : Config::kTileK);
  const auto columns = [&](const Matrix& b) {
    return operand_map(b, b_k ? p.k : p.n, b_k ? p.n : p.k, p.batch, b_k ? Config::kShareN : Config::kTileK);
  };
  const CUtensorMap map_b = columns(p.b), map_b2 = Config::kGated ? columns(p.b2) : CUtensorMap{};
  const Problem main = launch.split_k > 1 ? partial_sums(p, launch.workspace) : p;
  OutputMaps maps_d{};
  bool d_is_mapped = Config::kBoxes && bits(main.d.type) > 8;
  maps_d.cut_at_boxes = d_is_mapped;
  for (int i = 0; i < most_outputs; ++i)
    maps_d.begin[i] = static_cast<int>(std::min<std::int64_t>(begin_of(main, i), std::numeric_limits<int>::max()));
  for (int i = 0; d_is_mapped && i <= output_of(main, p.n - 1); ++i) {
    const std::int64_t begin = begin_of(main, i);
    Matrix d = matrix_of(main, i);
    const int bytes = bits(d.type) / 8;
    d.data = static_cast<char*>(d.data) + begin * bytes;
    d_is_mapped = can_map(d.type, d.data, {d.ld, d.batch_stride});
    maps_d.cut_at_boxes = maps_d.cut_at_boxes && d_is_mapped && begin * bytes % run_bytes == 0 && d.type == main.d.type;
    if (d_is_mapped) {
      maps_d.of[i] = matrix_map(tma_type(d.type), d, std::min(p.n, end_of(main, i)) - begin, p.m,
                                p.batch * std::max(launch.split_k, 1), 64);
    }
  }
  const bool streams = launch.split_k == stream_k;
  const TileGrid grid =
      tile_grid(p, kClusterM * Config::kTileM, Config::kColumns, Config::kTileK, std::max(launch.split_k, 1));
  const auto clusters = static_cast<std::uint32_t>(std::max(1, launch.sm_count / kClusterM));
  const StreamK stream = streams ? share_out(grid, p.k, Config::kTileK, clusters, launch.sm_count, workspace) : StreamK{};

  const LaunchShape shape{std::int64_t{streams ? clusters : std::min(clusters, grid.tiles)} * kClusterM, threads,
                          Config::kSharedMemory, kClusterM, streams};
  for (int i = 0; i < launch.repeats; ++i) {
    if (zeros) sum_codes_for_zeros(p, launch);
    if (streams)
      launch_kernel("launch of the kernel that lowers stream-K's flags", launch.stream, {1, 256}, lower_flags, stream.flags,
                    2 * launch.sm_count);
    launch_kernel("launch of the sm90 GEMM kernel", launch.stream, shape, sm90_gemm<Config>, map_a, map_b, map_b2, maps_d,
                  d_is_mapped, main, grid, stream);
    if (launch.split_k > 1) reduce_split_k(p, launch, true);
  }
}

template <typename Element, GemmLayout kLayout, int kTileM, int kTileN, int kStages, int kClusterM, Schedule kSchedule,
          Gate kGate, bool kPromotes>
constexpr Kernel kernel(double peak_fraction, double exposed_seconds) {
  using C = Config<Element, kLayout, kTileM, kTileN, kStages, kClusterM, kSchedule, kGate == Gate::separate, kPromotes>;
  Kernel k{};
  k.arch = Arch::sm90;
  k.operand = dtype_of<typename ElementsOf<Element>::A>();
  k.operand_b = dtype_of<typename ElementsOf<Element>::B>();
  k.summation = {Multiplier::wgmma, 32 * 8 / bits(k.operand), kPromotes ? C::kTileK : 0};
  k.math = k.operand == DType::f32 ? Math::tf32 : is_float8(k.operand) && !kPromotes ? Math::fast : Math::strict;
  k.layout = kLayout;
  k.gate = kGate;
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
  k.splits_k = kClusterM == 1 && kGate == Gate::none && !C::kQuantized;
  k.streams_k = true;
  k.groups = C::kGroups;
  k.scales_along_k = kPromotes;
  k.zeros = C::kIntegers && kGate == Gate::none;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = exposed_seconds;
  k.run = run<C>;
  k.prepare = prepare<C>;
  return k;
}

/// A table: one tile, in each of the layouts.
template <typename Element, int kTileM, int kTileN, int kStages, int kClusterM, Schedule kSchedule, Gate kGate = Gate::none,
          bool kPromotes = false, GemmLayout... kLayouts>
constexpr std::array<Kernel, sizeof...(kLayouts)> kernels(Layouts<kLayouts...>, double peak_fraction,
                                                          double exposed_seconds) {
  return {kernel<Element, kLayouts, kTileM, kTileN, kStages, kClusterM, kSchedule, kGate, kPromotes>(peak_fraction,
                                                                                                     exposed_seconds)...};
}

}  // namespace cutplan::gemm::sm90
