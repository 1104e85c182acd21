// GEMM of packed weights for Hopper: D^T = B^T A^T, so that codes go through registers, which wgmma takes its first factor from.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) in any format; float32 accumulation; gemm.hpp has what is computed. Groups
// may share out rows.
//
// Data movement. A block is three warpgroups. Three threads of the first fill a ring of slots, a K step of 128 in each: one finds
// tiles and brings two boxes of kTokens rows of A by TMA, 128-byte swizzled; two bring, by bulk copies, the codes of 64 columns
// each, 4 or 8 KiB, with the scales and zeros of the step's groups. Each of the other two warpgroups has 64 columns: a lane loads
// its 16 bytes of codes for every 16 columns and 64 of K, decodes them to the registers of eight wgmmas (packed_codes.cuh) while
// those of the step before run, and adds a group's sums, times its scale, to the others in float32. Both share the step's rows of
// A. Results go through shared memory, 32 rows at a time, to vectors of 8 columns. Gated: one warpgroup has b's columns, the other
// b2's. Tiles that fill no whole wave are shared out by stream-K. Weights whose rows are permuted, and an A that is not aligned,
// take A from a copy (gathered.cuh).
//
// Why these tiles. Sums of a group and sums of all take 2 x kTokens / 2 registers of a thread: 128 rows at most. A wgmma of 64 x
// 128 reads 64 bytes of shared memory a cycle, half of what there is.
#pragma once

#include <cutlass/arch/reg_reconfig.h>

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/barrier.cuh"
#include "core/sm90/cluster.cuh"
#include "core/sm90/ring.cuh"
#include "core/sm90/tma.cuh"
#include "core/sm90/warpgroup.cuh"
#include "core/sm90/work_queue.cuh"
#include "gemm/gathered.cuh"
#include "gemm/packed_codes.cuh"
#include "gemm/packed_store.cuh"
#include "gemm/sm90/operand_map.hpp"
#include "gemm/sm90/stream_k.cuh"
#include "gemm/table.cuh"

namespace cutplan::gemm::sm90::packed {

using namespace cute;
using namespace cutplan::sm90;

constexpr int threads = 3 * 128;  // producer and two consumer warpgroups

template <typename Element_, Codes kCodes_, int kTokens_, int kStages_, bool kGated_>
struct Config {
  using Element = Element_;
  static constexpr Codes kCodes = kCodes_;
  static constexpr bool kGated = kGated_;
  static constexpr int kTokens = kTokens_, kStages = kStages_, kColumns = kGated ? 64 : 128;  // rows and columns of D
  static constexpr int kTileK = 128, kBlocksK = kTileK / 16, kBoxK = 64;
  static_assert(sizeof(Element) * kBoxK == run_bytes && kBoxK == weights::brick_extent);

  using SmemA = decltype(slot_layout<Element, GMMA::Major::K, kTokens, kTileK, kStages>());
  using Mma = decltype(make_tiled_mma(GMMA::rs_op_selector<Element, Element, float, Shape<_64, Int<kTokens>, Int<kTileK>>,
                                                           GMMA::Major::K, GMMA::Major::K>()));
  using Weights = Decoder<Element, kCodes, false>;

  static constexpr int kBrickBytes = 64 * 64 * (Weights::kNibbles ? 4 : 8) / 8;
  static constexpr int kGroupsOfStep = 4;             // at most, of 32
  static constexpr int kFactorBytes = 64 * 4;         // scales or zeros of a warpgroup's columns, at most
  static constexpr int kChunk = 32, kPitch = 64 + 4;  // rows that leave at once; what a warp writes at once meets in no bank

  struct alignas(128) Slot {
    struct OfWarpgroup {
      unsigned char codes[2 * kBrickBytes], scales[kGroupsOfStep][kFactorBytes], zeros[kGroupsOfStep][kFactorBytes];
    } of[2];
  };
  static constexpr int kScalesAt = offsetof(typename Slot::OfWarpgroup, scales),
                       kZerosAt = offsetof(typename Slot::OfWarpgroup, zeros);
  struct WorkTile : Piece {
    int steps;  // -1: there is no piece
    RingPosition<kStages> first;
  };
  static constexpr int kWorkTiles = 4;  // that the producer may be ahead

  struct Storage {
    alignas(1024) Element a[cosize_v<SmemA>];
    Slot slots[kStages];
    alignas(16) float staging[2][kChunk][kPitch];  // of each consumer warpgroup
    alignas(16) WorkTile work_tiles[kWorkTiles];
    Ring<kStages> ring;
    QueueRing<kWorkTiles> work_ring;
  };
  static constexpr std::size_t kSharedMemory = sizeof(Storage);
  static_assert(kSharedMemory <= 227 * 1024);
};

/// What a warpgroup reads of packed weights.
struct Source {
  const Matrix& b;
  std::int64_t column;  // the first of its 64
};
template <typename C>
__device__ __forceinline__ Source source_of(const Problem& p, const Tile& tile, int group) {
  if constexpr (C::kGated) return {group == 0 ? p.b : p.b2, tile.col};
  return {p.b, tile.col + 64 * group};
}

/// Groups that a K step of 128 has scales of, and bricks that it has codes of.
__device__ __forceinline__ int groups_of_step(const weights::Layout& l, std::int64_t k) {
  return l.group_shift >= 7 ? 1 : static_cast<int>(min(std::int64_t{128} >> l.group_shift, l.groups - (k >> l.group_shift)));
}
__device__ __forceinline__ int bricks_of_step(const weights::Layout& l, std::int64_t k) { return l.k - k > 64 ? 2 : 1; }

// ---- Producers ----

/// Three threads, of warps of their own: one that finds the addresses of all copies takes longer than a step's products. `part` 0
/// finds work and copies A, 1 and 2 copy the weights of a consumer warpgroup.
template <typename C>
__device__ __forceinline__ void produce(typename C::Storage& storage, const CUtensorMap& map_a, const Problem& p,
                                        const TileGrid& grid, const StreamK& stream, int part) {
  const weights::Layout& l = p.layout;
  RingPosition<C::kStages> at;
  WorkQueue<typename C::WorkTile, C::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  Work<C::kTokens, C::kColumns, C::kTileK> work(p, grid, stream, blockIdx.x, gridDim.x);
  const auto copy = [](auto& full, const void* from, void* to, std::uint32_t bytes) {
    SM90_BULK_COPY_G2S::copy(from, reinterpret_cast<std::uint64_t*>(&full), to, static_cast<std::int32_t>(bytes));
  };
  Piece tile;
  while (work.next(tile)) {
    const int steps = static_cast<int>((tile.k_end - tile.k + C::kTileK - 1) / C::kTileK);
    if (part == 0) {
      queue.publish({tile, steps, at});
      const int batch_a = p.a.batch_stride == 0 ? 0 : static_cast<int>(tile.batch);
      int k = static_cast<int>(tile.k);
#pragma unroll 1
      for (int step = 0; step < steps; ++step, k += C::kTileK) {
        auto& full = storage.ring.fill(at, 2 * C::kTokens * run_bytes);
#pragma unroll
        for (int i = 0; i < 2; ++i)
          load_box(map_a, full, keep, storage.a + (2 * at.slot + i) * (C::kTokens * C::kBoxK), k + i * C::kBoxK,
                   static_cast<int>(tile.row), batch_a);
        at.advance();
      }
      continue;
    }
    const int s = part - 1;
    const Source source = source_of<C>(p, tile, s);
    const auto* packed = static_cast<const unsigned char*>(source.b.data) + tile.batch * source.b.batch_stride;
    const unsigned char* codes = packed + l.codes + ((source.column >> 6) * (l.k >> 6) + (tile.k >> 6)) * C::kBrickBytes;
    const unsigned char* factors = packed + source.column * l.scale_bytes;
    const std::int64_t group_bytes = l.n * l.scale_bytes;
    const std::uint32_t factor_bytes = 64 * l.scale_bytes;
    const bool there = source.column < l.n;  // beyond the packed columns there is nothing to copy, nor to store
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const std::int64_t k = tile.k + std::int64_t{step} * C::kTileK;
      const int groups = groups_of_step(l, k);
      const std::uint32_t bytes = bricks_of_step(l, k) * C::kBrickBytes;
      auto& full = storage.ring.fill(at, there ? bytes + factor_bytes * groups * (l.zeros != 0 ? 2 : 1) : 0);
      auto& slot = storage.slots[at.slot].of[s];
      at.advance();
      if (!there) continue;
      copy(full, codes, slot.codes, bytes);
      codes += 2 * C::kBrickBytes;
      const unsigned char* of_group = factors + (k >> l.group_shift) * group_bytes;
#pragma unroll 1
      for (int g = 0; g < groups; ++g, of_group += group_bytes) {
        copy(full, of_group + l.scales, slot.scales[g], factor_bytes);
        if (l.zeros != 0) copy(full, of_group + l.zeros, slot.zeros[g], factor_bytes);
      }
    }
  }
  if (part == 0) queue.publish({{}, -1, at});
}

// ---- Consumers ----

template <typename C, bool kZero>
__device__ __forceinline__ void consume(typename C::Storage& storage, const Problem& p, const StreamK& stream) {
  constexpr int kTokens = C::kTokens, kBlocksK = C::kBlocksK, kSums = kTokens / 2;
  using Codes = Decoder<typename C::Element, C::kCodes, kZero>;
  int thread = threadIdx.x - 128;
  asm volatile("" : "+r"(thread));
  const int group = thread / 128, warp = thread % 128 / 32, lane = thread % 32;
  const weights::Layout& l = p.layout;
  const Codes decoder(*p.weights.format);
  const StoreVector<C::kGated> store(p);
  typename C::Mma mma;
  const auto slice = mma.get_slice(thread % 128);
  const Tensor a = slice.make_fragment_B(slice.partition_B(make_tensor(make_smem_ptr(storage.a), typename C::SmemA{})));
  using Fragment = decltype(make_tensor<typename C::Element>(Layout<Shape<Shape<_2, _2, _2>, _1, Int<kBlocksK>>>{}));
  Fragment fragments[2];
  Tensor acc = partition_fragment_C(mma, Shape<_64, Int<kTokens>>{});  // ((2, 2, kTokens / 8), 1, 1)
  Tensor group_acc = make_fragment_like(acc);
  auto& sums = reinterpret_cast<float (&)[kSums]>(acc(0, 0, 0));
  auto& group_sums = reinterpret_cast<float (&)[kSums]>(group_acc(0, 0, 0));
  const int in_group = 16 * warp + lane / 4;  // the first of the lane's two columns, of the warpgroup's

  std::uint32_t nan = 0;
  // Known to the compiler by value alone, or it would make them anew wherever they are used.
  std::uint32_t ring_at = cutplan::sm80::shared_address(&storage.ring),
                slots = cutplan::sm80::shared_address(&storage.slots[0].of[group]);
  asm volatile("" : "+r"(ring_at), "+r"(slots));
  auto& ring = *static_cast<Ring<C::kStages>*>(__cvta_shared_to_generic(ring_at));
  const std::uint32_t codes_at = slots + (warp * (Codes::kWords / 4) * 32 + lane) * 16;
  const auto slot_at = [&](int slot) { return slots + slot * static_cast<std::uint32_t>(sizeof(typename C::Slot)); };
  const auto decode = [&](int slot, std::int64_t k, Fragment& to) {
    const std::uint32_t from = codes_at + slot * sizeof(typename C::Slot);
    typename Codes::Offset offsets[2] = {decoder.plain(0), decoder.plain(1)};
    const bool whole = bricks_of_step(l, k) == 2;
#pragma unroll
    for (int brick = 0; brick < 2; ++brick) {
      std::uint32_t words[Codes::kWords];
#pragma unroll
      for (int w = 0; w < Codes::kWords; w += 4)
        cutplan::sm80::load_shared(from + brick * C::kBrickBytes + w / 4 * 512,
                                   reinterpret_cast<std::uint32_t (&)[4]>(words[w]));
      // Of a brick that there is not A is zero; whatever its codes are, they are no NaN.
      std::uint32_t of_brick = 0;
#pragma unroll
      for (int k16 = 4 * brick; k16 < 4 * brick + 4; ++k16) {
        if (kZero && (k16 == 0 || (k16 % 2 == 0 && l.group_shift < 7))) {
          const int of_group = min(16 * k16 >> min(l.group_shift, 7), groups_of_step(l, k) - 1);
          float zeros[2];
          load_factors(p.weights.scale, slot_at(slot) + C::kZerosAt + of_group * C::kFactorBytes, in_group, zeros);
#pragma unroll
          for (int h = 0; h < 2; ++h) offsets[h] = decoder.of_zero(zeros[h], h);
        }
        decoder.decode(words, k16 % 4, offsets, reinterpret_cast<std::uint32_t (&)[4]>(to(make_coord(0, 0, 0), 0, k16)),
                       of_brick);
      }
      if (brick == 0 || whole) nan |= of_brick;
    }
  };
  /// Of k16 from one on: sums of their own.
  const auto multiply = [&](const Fragment& weights, int slot, int first, int end) {
    mma.accumulate_ = GMMA::ScaleOut::Zero;
    warpgroup_fence_operand(group_acc);
    warpgroup_arrive();
#pragma unroll
    for (int k16 = 0; k16 < kBlocksK; ++k16) {
      if (k16 < first || k16 >= end) continue;
      cute::gemm(mma, weights(_, 0, k16), a(_, 0, k16, slot), group_acc(_, 0, 0));
      mma.accumulate_ = GMMA::ScaleOut::One;
    }
    warpgroup_commit_batch();
  };
  const auto await_sums = [&] {
    warpgroup_wait<0>();
    warpgroup_fence_operand(group_acc);
  };
  /// They join the others, times their scales.
  const auto promote = [&](float (&scale)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) scale[h] /= Codes::unit(h);
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = fmaf(group_sums[i], scale[i / 2 % 2], sums[i]);
  };

  WorkQueue<typename C::WorkTile, C::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  typename C::WorkTile tile;
  while (queue.fetch(tile, 1, thread), tile.steps >= 0) {
#pragma unroll
    for (float& x : sums) x = 0;
    RingPosition<C::kStages> at = tile.first;
    const auto take_step = [&](int step, const Fragment& present, Fragment& next) {
      const std::int64_t k = tile.k + std::int64_t{step} * C::kTileK;
      const int number = at.slot;
      const std::uint32_t scales = slot_at(number) + C::kScalesAt;
      float scale[2];
      const auto release = [&] {
        __syncwarp();  // of codes and scales too: each warp says so for itself
        ring.release(number, lane);
      };
      const auto prepare_next = [&] {
        at.advance();
        if (step + 1 < tile.steps) {
          ring.await_full(at);
          decode(at.slot, k + C::kTileK, next);
        }
      };
      // Each branch awaits what it starts, or ptxas would wait for each product.
      if (l.group_shift >= 7) {
        multiply(present, number, 0, kBlocksK);
        load_factors(p.weights.scale, scales, in_group, scale);
        prepare_next();
        await_sums();
        release();
        promote(scale);
      } else {
        // By 32 of K, groups of 64 too.
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) {
          const int of_group = 32 * quarter >> l.group_shift;
          multiply(present, number, 2 * quarter, 2 * quarter + 2);
          load_factors(p.weights.scale, scales + of_group * C::kFactorBytes, in_group, scale);
          const bool there = of_group < groups_of_step(l, k);  // or else A is zero, and the scale whatever was there before
          scale[0] = there ? scale[0] : 0;
          scale[1] = there ? scale[1] : 0;
          await_sums();
          promote(scale);
        }
        release();
        prepare_next();
      }
    };
    if (tile.steps > 0) {
      ring.await_full(at);
      decode(at.slot, tile.k, fragments[0]);
    }
    for (int step = 0; step < tile.steps; step += 2) {
      take_step(step, fragments[0], fragments[1]);
      if (step + 1 < tile.steps) take_step(step + 1, fragments[1], fragments[0]);
    }
    if constexpr (C::kCodes == gemm::Codes::e4m3) {
      float factors[2] = {1, 1};
      Codes::spread_nan(nan, factors);
      nan = 0;
#pragma unroll
      for (int i = 0; i < kSums; ++i) sums[i] *= factors[i / 2 % 2];
    }
    if (tile.is_beginning) {
      store_partial_sums<256>(stream, sums, blockIdx.x, thread);
      continue;
    }
    for (std::uint32_t other = blockIdx.x; other > tile.first_worker;)
      add_partial_sums<256, false>(stream, sums, --other, thread);

    const auto sync = [] {
      if constexpr (C::kGated) {
        cutplan::sm80::named_barrier_sync<256>(1);
      } else {
        sync_warpgroup();
      }
    };
    const int of = C::kGated ? thread : thread % 128;
    const std::int64_t first_col = C::kGated ? tile.col : tile.col + 64 * group;
#pragma unroll
    for (int chunk = 0; chunk < kTokens / C::kChunk; ++chunk) {
      const std::int64_t first_row = tile.row + chunk * C::kChunk;
      if (first_row >= tile.row_end) break;
      sync();  // the chunk before has been read
#pragma unroll
      for (int i = 0; i < C::kChunk / 2; ++i)
        storage.staging[group][i / 4 * 8 + lane % 4 * 2 + i % 2][in_group + i / 2 % 2 * 8] =
            sums[chunk * (C::kChunk / 2) + i];
      sync();
#pragma unroll 1
      for (int vector = of; vector < C::kChunk * 8; vector += C::kGated ? 256 : 128) {
        const int r = vector / 8, c = vector % 8 * 8;
        if (first_row + r < tile.row_end)
          store(tile.batch, first_row + r, first_col + c, &storage.staging[C::kGated ? 0 : group][r][c],
                &storage.staging[1][r][c]);
      }
    }
  }
}

template <typename C, bool kZero>
__global__ __launch_bounds__(threads, 1) void sm90_gemm_packed(const __grid_constant__ CUtensorMap map_a,
                                                               const __grid_constant__ Problem p,
                                                               const __grid_constant__ TileGrid grid,
                                                               const __grid_constant__ StreamK stream) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) char shared[];  // the swizzle counts from multiples of 1024 bytes
  auto& storage = *reinterpret_cast<typename C::Storage*>(shared);
  if (threadIdx.x == 0) {
    if (p.k > 0) prefetch_map(map_a);
    for (int i = 0; i < C::kStages; ++i) {
      storage.ring.full[i].init(3);   // threads that fill it
      storage.ring.empty[i].init(8);  // warps that read it
    }
    storage.work_ring.init(8);
    cutlass::arch::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    cutlass::arch::warpgroup_reg_dealloc<56>();
    const int part = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x % 32 == 0 && part < 3) produce<C>(storage, map_a, p, grid, stream, part);
  } else {
    cutlass::arch::warpgroup_reg_alloc<224>();
    consume<C, kZero>(storage, p, stream);
  }
#endif
}

template <typename C>
void prepare(const Kernel&) {
  allow_shared_memory(sm90_gemm_packed<C, false>, C::kSharedMemory);
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers)
    allow_shared_memory(sm90_gemm_packed<C, true>, C::kSharedMemory);
  load_kernel(gather_columns);
  load_kernel(lower_flags);
}

template <typename C, bool kGathers>
void run(const Kernel&, const Problem& asked, const Launch& launch) {
  const Problem p = kGathers ? with_gathered_a(asked, launch.workspace) : asked;
  auto* const workspace =
      static_cast<char*>(launch.workspace) + (kGathers ? gathered_bytes(p.layout, p.m * gathered_batch(p)) : std::size_t{0});
  const bool streams = launch.split_k == stream_k;
  const CUtensorMap map_a = operand_map(p.a, p.k, p.m, kGathers ? gathered_batch(p) : p.batch, C::kTokens);
  const TileGrid grid = tile_grid(p, C::kTokens, C::kColumns, C::kTileK, 1);
  const auto blocks = static_cast<std::uint32_t>(launch.sm_count);
  const StreamK stream = streams ? share_out(grid, p.k, C::kTileK, blocks, launch.sm_count, workspace) : StreamK{};
  const LaunchShape shape{std::int64_t{streams ? blocks : std::min(blocks, grid.tiles)}, threads, C::kSharedMemory, 1,
                          streams};
  auto kernel = sm90_gemm_packed<C, false>;
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers) {
    if (p.layout.zeros != 0) kernel = sm90_gemm_packed<C, true>;
  }
  for (int i = 0; i < launch.repeats; ++i) {
    if (kGathers) gather_a(asked, launch);
    if (streams)
      launch_kernel("launch of the kernel that lowers stream-K's flags", launch.stream, {1, 256}, lower_flags, stream.flags,
                    2 * launch.sm_count);
    launch_kernel("launch of the sm90 GEMM kernel of packed weights", launch.stream, shape, kernel, map_a, p, grid, stream);
  }
}

template <typename C, bool kGathers>
constexpr Kernel kernel(double peak_fraction, double exposed_seconds) {
  Kernel k{};
  k.arch = Arch::sm90;
  k.operand = dtype_of<typename C::Element>();
  k.operand_b = DType::u8;
  k.summation = {Multiplier::wgmma, 16, 128};  // or a group
  k.math = Math::strict;
  k.layout = GemmLayout::rcr;
  k.gate = C::kGated ? Gate::separate : Gate::none;
  k.tile_m = C::kTokens;
  k.tile_n = C::kColumns;
  k.tile_k = C::kTileK;
  k.stages = C::kStages;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = kGathers ? "gathered" : "cooperative";
  k.alignment = kGathers ? 2 : 16;
  k.threads = threads;
  k.blocks_by_registers = 1;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = k.maximum_compute_capability = 90;
  k.streams_k = true;
  k.groups = true;
  k.formats = formats_of(C::kCodes);
  k.permutes = k.gathers = kGathers;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = exposed_seconds;
  k.run = run<C, kGathers>;
  k.prepare = prepare<C>;
  return k;
}

/// A table: one tile, for A as it lies and for a copy of it.
template <typename Element, Codes kCodes, int kTokens, int kStages, Gate kGate = Gate::none>
constexpr std::array<Kernel, 2> kernels(double peak_fraction, double exposed_seconds) {
  using C = Config<Element, kCodes, kTokens, kStages, kGate == Gate::separate>;
  return {kernel<C, false>(peak_fraction, exposed_seconds), kernel<C, true>(peak_fraction, exposed_seconds)};
}

}  // namespace cutplan::gemm::sm90::packed
