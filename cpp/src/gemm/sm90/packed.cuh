// GEMM of packed weights for Hopper: D^T = B^T A^T, so that codes go through registers, which wgmma takes its first factor from.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) in any format; float32 accumulation; gemm.hpp has what is computed. Groups
// may share out rows.
//
// Data movement. A block is three warpgroups. One thread of the first finds tiles and fills a ring of slots, a K step of 128 in
// each: by TMA two boxes of kTokens rows of A, 128-byte swizzled, and by bulk copies the codes of 2 x 64 columns, 4 or 8 KiB each,
// with the scales and zeros of the step's groups. Each of the other two has 64 columns: a lane loads its 16 bytes of codes for
// every 16 columns and 64 of K, decodes them to the registers of eight wgmmas (packed_codes.cuh) while those of the step before
// run, and adds a group's sums, times its scale, to the others in float32. Both share the step's rows of A. Results go through
// shared memory, 32 rows at a time, to vectors of 8 columns. Gated: one warpgroup has b's columns, the other b2's. Tiles that fill no
// whole wave are shared out by stream-K. Weights whose rows are permuted, and an A that is not
// aligned, take A from a copy (gathered.cuh).
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
#include "gemm/epilogue.cuh"
#include "gemm/gathered.cuh"
#include "gemm/packed_codes.cuh"
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

  struct Slot {
    alignas(128) unsigned char codes[2][2 * kBrickBytes];
    alignas(16) unsigned char scales[2][kGroupsOfStep][kFactorBytes], zeros[2][kGroupsOfStep][kFactorBytes];
  };
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

// ---- Producer ----

template <typename C>
__device__ __forceinline__ void produce(typename C::Storage& storage, const CUtensorMap& map_a, const Problem& p,
                                        const TileGrid& grid, const StreamK& stream) {
  const weights::Layout& l = p.layout;
  const std::uint32_t factor_bytes = 64 * l.scale_bytes;
  RingPosition<C::kStages> at;
  WorkQueue<typename C::WorkTile, C::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  Work<C::kTokens, C::kColumns, C::kTileK> work(p, grid, stream, blockIdx.x, gridDim.x);
  Piece tile;
  const auto copy = [](auto& full, const void* from, void* to, std::uint32_t bytes) {
    SM90_BULK_COPY_G2S::copy(from, reinterpret_cast<std::uint64_t*>(&full), to, static_cast<std::int32_t>(bytes));
  };
  while (work.next(tile)) {
    const int steps = static_cast<int>((tile.k_end - tile.k + C::kTileK - 1) / C::kTileK);
    queue.publish({tile, steps, at});
    const int batch_a = p.a.batch_stride == 0 ? 0 : static_cast<int>(tile.batch);
    // Beyond the packed columns there is nothing to copy, nor to store.
    const int sources = C::kGated || tile.col + 64 < l.n ? 2 : 1;
    for (int step = 0; step < steps; ++step) {
      const std::int64_t k = tile.k + std::int64_t{step} * C::kTileK;
      const int groups = groups_of_step(l, k), bytes = bricks_of_step(l, k) * C::kBrickBytes;
      const std::uint32_t factors = factor_bytes * groups * (l.zeros != 0 ? 2 : 1);
      auto& full = storage.ring.fill(at, 2 * C::kTokens * run_bytes + sources * (bytes + factors));
#pragma unroll
      for (int i = 0; i < 2; ++i)
        load_box(map_a, full, keep, storage.a + (2 * at.slot + i) * (C::kTokens * C::kBoxK),
                 static_cast<int>(k) + i * C::kBoxK, static_cast<int>(tile.row), batch_a);
      auto& slot = storage.slots[at.slot];
      for (int s = 0; s < sources; ++s) {
        const Source source = source_of<C>(p, tile, s);
        const auto* packed = static_cast<const unsigned char*>(source.b.data) + tile.batch * source.b.batch_stride;
        copy(full, packed + l.codes + (source.column / 64 * (l.k / 64) + k / 64) * C::kBrickBytes, slot.codes[s], bytes);
        const std::int64_t factor = ((k >> l.group_shift) * l.n + source.column) * l.scale_bytes;
        for (int g = 0; g < groups; ++g) {
          const std::int64_t of_group = factor + g * l.n * l.scale_bytes;
          copy(full, packed + l.scales + of_group, slot.scales[s][g], factor_bytes);
          if (l.zeros != 0) copy(full, packed + l.zeros + of_group, slot.zeros[s][g], factor_bytes);
        }
      }
      at.advance();
    }
  }
  queue.publish({{}, -1, at});
}

// ---- Consumers ----

template <typename C, bool kZero>
__device__ __forceinline__ void consume(typename C::Storage& storage, const Problem& p, const StreamK& stream) {
  constexpr int kTokens = C::kTokens, kBlocksK = C::kBlocksK, kSums = kTokens / 2;
  using Codes = Decoder<typename C::Element, C::kCodes, kZero>;
  const int thread = threadIdx.x - 128, group = thread / 128, warp = thread % 128 / 32, lane = thread % 32;
  const weights::Layout& l = p.layout;
  Codes decoder(*p.weights.format);
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
  const auto factor = [&](const unsigned char* of, int h) { return factor_at(p.weights.scale, of, in_group + 8 * h); };
  const auto decode = [&](const typename C::Slot& slot, std::int64_t k, Fragment& to) {
    const int groups = groups_of_step(l, k);
    typename Codes::Offset offsets[2] = {decoder.plain(), decoder.plain()};
#pragma unroll
    for (int brick = 0; brick < 2; ++brick) {
      std::uint32_t words[Codes::kWords];
#pragma unroll
      for (int w = 0; w < Codes::kWords; w += 4) {
        const uint4 four = reinterpret_cast<const uint4*>(
            slot.codes[group] + brick * C::kBrickBytes)[(warp * (Codes::kWords / 4) + w / 4) * 32 + lane];
        words[w] = four.x, words[w + 1] = four.y, words[w + 2] = four.z, words[w + 3] = four.w;
      }
      // Of a brick that there is not A is zero; whatever its codes are, they are no NaN.
      std::uint32_t of_brick = 0;
#pragma unroll
      for (int k16 = 4 * brick; k16 < 4 * brick + 4; ++k16) {
        if (kZero && (k16 == 0 || (k16 % 2 == 0 && l.group_shift < 7))) {
          const int of_group = min(16 * k16 >> min(l.group_shift, 7), groups - 1);
#pragma unroll
          for (int h = 0; h < 2; ++h) offsets[h] = decoder.of_zero(factor(slot.zeros[group][of_group], h));
        }
        decoder.decode(words, k16 % 4, offsets, reinterpret_cast<std::uint32_t (&)[4]>(to(make_coord(0, 0, 0), 0, k16)),
                       of_brick);
      }
      if (brick < bricks_of_step(l, k)) nan |= of_brick;
    }
  };
  const auto multiply = [&](const Fragment& weights, int slot, int first, int end) {
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
  /// The sums of a group join the others.
  const auto promote = [&](const unsigned char* scales) {
    const float scale[2] = {factor(scales, 0), factor(scales, 1)};
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = fmaf(group_sums[i], scale[i / 2 % 2], sums[i]);
    mma.accumulate_ = GMMA::ScaleOut::Zero;
  };

  WorkQueue<typename C::WorkTile, C::kWorkTiles> queue{storage.work_tiles, storage.work_ring, {}};
  typename C::WorkTile tile;
  while (queue.fetch(tile, 1, thread), tile.steps >= 0) {
#pragma unroll
    for (float& x : sums) x = 0;
    mma.accumulate_ = GMMA::ScaleOut::Zero;
    RingPosition<C::kStages> at = tile.first;
    const auto take_step = [&](int step, const Fragment& present, Fragment& next) {
      const typename C::Slot& slot = storage.slots[at.slot];
      const std::int64_t k = tile.k + std::int64_t{step} * C::kTileK;
      const int number = at.slot;
      const auto prepare_next = [&] {
        at.advance();
        if (step + 1 < tile.steps) {
          storage.ring.await_full(at);
          decode(storage.slots[at.slot], k + C::kTileK, next);
        }
      };
      // Each branch awaits what it starts, or ptxas would wait for each product.
      if (l.group_shift < 7) {
        const int groups = groups_of_step(l, k);
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) {
          multiply(present, number, 2 * quarter, 2 * quarter + 2);
          await_sums();
          const int of_group = 32 * quarter >> l.group_shift;
          if ((32 * (quarter + 1) & ((1 << l.group_shift) - 1)) == 0 && of_group < groups)
            promote(slot.scales[group][of_group]);
        }
        prepare_next();
      } else {
        multiply(present, number, 0, C::kBlocksK);
        prepare_next();
        await_sums();
        if (step + 1 == tile.steps || ((k + C::kTileK) & ((std::int64_t{1} << l.group_shift) - 1)) == 0)
          promote(slot.scales[group][0]);
      }
      __syncwarp();  // of codes and scales too: each warp says so for itself
      storage.ring.release(number, lane);
    };
    if (tile.steps > 0) {
      storage.ring.await_full(at);
      decode(storage.slots[at.slot], tile.k, fragments[0]);
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
        const std::int64_t row = first_row + r, col = first_col + c;
        if (row >= tile.row_end || col >= p.n) continue;
        Float8 x[2];
#pragma unroll
        for (int f = 0; f < (C::kGated ? 2 : 1); ++f) {
          const auto* from = reinterpret_cast<const float4*>(&storage.staging[C::kGated ? f : group][r][c]);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const float4 v = from[i];
            x[f].x[4 * i] = v.x, x[f].x[4 * i + 1] = v.y, x[f].x[4 * i + 2] = v.z, x[f].x[4 * i + 3] = v.w;
          }
        }
        if constexpr (C::kGated) {
          EightColumns<> of_first(x[0].x, tile.batch, row, col, p.n), of_second(x[1].x, tile.batch, row, col, p.n);
          gate(p.terms, of_first, of_second);
        }
        finish<>(p, tile.batch, tile.batch, row, col, C::kGated, x[0]);
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
    storage.ring.init(8);  // warps
    storage.work_ring.init(8);
    cutlass::arch::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    cutlass::arch::warpgroup_reg_dealloc<72>();
    if (threadIdx.x == 0) produce<C>(storage, map_a, p, grid, stream);
  } else {
    cutlass::arch::warpgroup_reg_alloc<216>();
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
