// Products of few rows and packed weights, for Ampere and everything after it: the time is that of reading codes.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) in any format; float32 accumulation; gemm.hpp has what is computed. Groups
// may share out rows.
//
// Data movement. mma.m16n8k16 takes 16 columns of B for its rows and 8 rows of A for its columns: D^T = B^T A^T. The warps of a
// block take turns at the steps, 128 of K, of its kPieces x 16 columns. Each has a ring of its own in shared memory, of kDepth
// steps, that cp.async fills: codes as lanes want them, A's rows permuted for ldmatrix, scales and zeros. No warp waits for
// another until their sums meet in shared memory, added in the order of warps; they leave by the epilogue's vectors of 8 columns.
// Gated: the same columns of b and b2.
//
// Codes become 16-bit floats by their bits (packed_codes.cuh), exactly where zeros are integers and entries of tables are such
// floats. Sums of a group are made of these alone, and multiplied by the group's scale in float32.
//
// What bounds it. 8 codes of 4 bits cost 9 instructions, of which 5 run in the integer pipe at half rate. Everything else is kept
// out of the loop: addresses advance, scales and rows of A are looked at in one place a step, groups of 128 and more have code
// without branches.
//
// Why these tiles. 64 columns in 16 warps: A is read once for each of 128 blocks at 8192 columns, one on an SM of an H200. 32
// columns in 8 warps, two blocks on each: where columns are many, one's end is under another's loop. Weights of more bytes a
// step (float32 scales and zeros of small groups) leave room for the rings of fewer warps.
#pragma once

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/memory.cuh"
#include "core/sm80/mma.cuh"
#include "gemm/gathered.cuh"
#include "gemm/packed_codes.cuh"
#include "gemm/packed_store.cuh"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm80 {

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

template <typename Element_, Codes kCodes_, int kTokens_, int kPieces_, int kWarps_, int kDepth_, bool kGated_>
struct FewConfig {
  using Element = Element_;
  static constexpr Codes kCodes = kCodes_;
  static constexpr bool kGated = kGated_;
  static constexpr int kTokens = kTokens_, kPieces = kPieces_, kWarps = kWarps_, kDepth = kDepth_, kFactors = kGated ? 2 : 1;
  static constexpr int kThreads = 32 * kWarps, kColumns = 16 * kPieces, kTiles = kTokens / 8;
  static constexpr int kStep = 128, kBlocksK = kStep / 16, kChunks = kStep / 8;  // of K
  static constexpr int kWords = Decoder<Element, kCodes, false>::kWords, kPieceBytes = 32 * kWords * 4;

  // A slot: a step of A's rows; codes [factor][brick of the step][piece]; of each factor rows of scales, and as many of zeros.
  static constexpr int kCodesAt = kTokens * kStep * 2, kCodesBytes = 2 * kPieces * kPieceBytes,
                       kScalesAt = kCodesAt + kFactors * kCodesBytes;
  static constexpr int kPitch = kColumns + 4;
  using Sums = float[kFactors][kWarps][kTokens][kPitch];

  static constexpr int slot_bytes(int scale_bytes, int groups, bool zeros) {
    return kScalesAt + kFactors * groups * (zeros ? 2 : 1) * kColumns * scale_bytes;
  }
  static constexpr int kSharedMemory =
      std::max<int>(std::min(kWarps * kDepth * slot_bytes(2, 4, true), 227 * 1024), sizeof(Sums));
  /// As many as have their rings there: all of them but for weights of more bytes a step.
  static constexpr int warps(int slot) { return std::min(kWarps, kSharedMemory / (slot * kDepth)); }
  static_assert(warps(slot_bytes(2, 1, true)) == kWarps && warps(slot_bytes(4, 4, true)) > kWarps / 2);
};

/// Groups that a step has scales of, at most.
CUTPLAN_HOST_DEVICE constexpr int groups_of_few(const weights::Layout& l) {
  return l.group_shift >= 7 ? 1 : 128 >> l.group_shift;
}

/// kZero: there are zero points.
template <typename C, bool kZero>
__global__ __launch_bounds__(C::kThreads) void sm80_packed_few(const __grid_constant__ Problem p,
                                                               const __grid_constant__ TileGrid grid) {
  constexpr int kPieces = C::kPieces, kFactors = C::kFactors, kTiles = C::kTiles, kDepth = C::kDepth, kColumns = C::kColumns,
                kBlocksK = C::kBlocksK;
  using Codes = Decoder<typename C::Element, C::kCodes, kZero>;
  extern __shared__ __align__(128) char shared[];
  int lane = threadIdx.x % 32;
  asm volatile("" : "+r"(lane));  // in a register, not made anew wherever it is used
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, g = lane / 4, t = lane % 4;
  const weights::Layout& l = p.layout;
  const int bricks = static_cast<int>(l.k >> 6), steps = (bricks + 1) / 2, whole_steps = static_cast<int>(p.k / C::kStep);
  const Codes decoder(*p.weights.format);
  const int groups = groups_of_few(l), row_bytes = kColumns * l.scale_bytes;
  const std::uint32_t zeros_at = groups * row_bytes, factor_bytes = zeros_at * (kZero ? 2 : 1),
                      slot_bytes = C::kScalesAt + kFactors * factor_bytes;
  const std::uint32_t ring = shared_address(shared) + warp * kDepth * slot_bytes;
  const StoreVector<C::kGated> store(p);
  /// The first group of a step.
  const int step_shift = min(l.group_shift - 7, 31);
  const auto of_step = [&](int step) { return step_shift >= 0 ? step >> step_shift : step << -step_shift; };

  TileWalk<C::kTokens, kColumns> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    // What a lane copies of every step: a chunk of 8 elements of some rows of A, of every piece's codes, and of the scales or zeros
    // of a group. Rows that there are not stay whatever they are: each has sums of its own, and nobody stores these.
    const int rows = static_cast<int>(min(tile.row_end - tile.row, std::int64_t{C::kTokens})), token = lane / C::kChunks,
              chunk = lane % C::kChunks;
    constexpr int kTokensAtOnce = 32 / C::kChunks;
    const auto* of_a = reinterpret_cast<const unsigned char*>(static_cast<const std::uint16_t*>(p.a.data) +
                                                              tile.batch * p.a.batch_stride + (tile.row + token) * p.a.ld) +
                       16 * chunk + warp * (C::kStep * 2);
    const std::int64_t rows_at_once = kTokensAtOnce * 2 * p.a.ld;
    // Scales, zeros, nothing.
    const int kind = l.scale_bytes == 2 ? lane / (kColumns / 8) : lane / (kColumns / 4),
              factor_chunk = l.scale_bytes == 2 ? lane % (kColumns / 8) : lane % (kColumns / 4);
    const unsigned char *codes[kFactors], *of_factors[kFactors];
#pragma unroll
    for (int f = 0; f < kFactors; ++f) {
      const Matrix& b = f == 0 ? p.b : p.b2;
      const auto* packed = static_cast<const unsigned char*>(b.data) + tile.batch * b.batch_stride;
      codes[f] =
          packed + l.codes + ((tile.col >> 6) * bricks * 4 + (tile.col >> 4 & 3) + warp * 8) * C::kPieceBytes + lane * 16;
      of_factors[f] = packed + (kZero && kind == 1 ? l.zeros : l.scales) + tile.col * l.scale_bytes + factor_chunk * 16;
    }
    const auto group_bytes = static_cast<std::uint32_t>(l.n * l.scale_bytes);
    const std::uint32_t factor_to = C::kScalesAt + kind * zeros_at + factor_chunk * 16;
    std::uint32_t a_to[C::kTokens / kTokensAtOnce];
#pragma unroll
    for (int i = 0; i < C::kTokens / kTokensAtOnce; ++i) {
      const int row = i * kTokensAtOnce + token;
      a_to[i] = row * (C::kStep * 2) + (chunk ^ row % 8) * 16;
    }
    /// The warp's steps, one after the other.
    const auto start_copy = [&](std::uint32_t slot, int step) {
      const unsigned char* from = of_a;
      if (step < whole_steps) {
#pragma unroll
        for (int i = 0; i < C::kTokens / kTokensAtOnce; ++i, from += rows_at_once) {
          if (i * kTokensAtOnce + token < rows) cp_async(slot + a_to[i], from);
        }
      } else {
        const int left = static_cast<int>(p.k - std::int64_t{step} * C::kStep) * 2 - 16 * chunk;  // bytes from the lane's on
#pragma unroll
        for (int i = 0; i < C::kTokens / kTokensAtOnce; ++i, from += rows_at_once) {
          if (i * kTokensAtOnce + token < rows) cp_async_zfill(slot + a_to[i], from, max(min(left, 16), 0));
        }
      }
      of_a += warps * (C::kStep * 2);
      const bool whole = 2 * step + 1 < bricks;
#pragma unroll
      for (int f = 0; f < kFactors; ++f) {
#pragma unroll
        for (int brick = 0; brick < 2; ++brick) {
#pragma unroll
          for (int i = 0; i < kPieces * C::kWords / 4; ++i) {
            if (brick == 0 || whole)
              cp_async(slot + C::kCodesAt + f * C::kCodesBytes + brick * kPieces * C::kPieceBytes + i * 512 + lane * 16,
                       codes[f] + brick * 4 * C::kPieceBytes + i * 512);
          }
        }
        codes[f] += warps * (8 * C::kPieceBytes);
        const auto copy_factors = [&](int row, int group) {
          if (kind < (kZero ? 2 : 1))
            cp_async(slot + factor_to + f * factor_bytes + row * row_bytes,
                     of_factors[f] + std::uint64_t{static_cast<std::uint32_t>(group)} * group_bytes);
        };
        const int group = of_step(step);
        if (groups == 1) {
          copy_factors(0, group);
        } else {
          for (int i = 0; i < groups && group + i < l.groups; ++i) copy_factors(i, group + i);
        }
      }
    };

    float sums[kFactors][kPieces][kTiles][4] = {};
    std::uint32_t slot = ring, slot_to_fill = ring + (kDepth - 1) * slot_bytes;
    const auto advance = [&](std::uint32_t& at) { at = at == ring + (kDepth - 1) * slot_bytes ? ring : at + slot_bytes; };
#pragma unroll
    for (int i = 0; i < kDepth - 1; ++i) {
      if (warp + i * warps < steps) start_copy(ring + i * slot_bytes, warp + i * warps);
      cp_async_commit();
    }
    // Where a lane finds its rows of matrices of A.
    std::uint32_t a_from[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = kTiles == 1 ? lane % 8 : lane / 16 * 8 + lane % 8,
                of_k = kTiles == 1 ? lane / 8 + 4 * i : lane / 8 % 2 + 4 * i;
      a_from[i] = row * 256 + (of_k ^ row % 8) * 16;
    }
#pragma unroll 1
    for (int step = warp; step < steps; step += warps) {
      cp_async_wait<kDepth - 2>();
      __syncwarp();  // and the slot that is filled next has been read
      const int next = step + (kDepth - 1) * warps;
      if (next < steps) start_copy(slot_to_fill, next);
      cp_async_commit();
      advance(slot_to_fill);

      std::uint32_t a[kBlocksK][kTiles][2];
      if constexpr (kTiles == 1) {
#pragma unroll
        for (int i = 0; i < kBlocksK / 2; ++i) {
          std::uint32_t x[4];
          ldmatrix(slot + a_from[i % 2] + i / 2 * 128, x);
#pragma unroll
          for (int j = 0; j < 4; ++j) a[2 * i + j / 2][0][j % 2] = x[j];
        }
      } else {
#pragma unroll
        for (int k16 = 0; k16 < kBlocksK; ++k16) {
          std::uint32_t x[4];
          ldmatrix(slot + (a_from[k16 / 2 % 2] ^ (k16 % 2 * 32)) + k16 / 4 * 128, x);
#pragma unroll
          for (int j = 0; j < 4; ++j) a[k16][j / 2][j % 2] = x[j];
        }
      }
      const bool whole = 2 * step + 1 < bricks;
      /// Of `kBlocks` k16 from one on, that have one scale, in row `row`.
      const auto multiply = [&](auto first, auto blocks, int row) {
        constexpr int kFirst = decltype(first)::value, kBlocks = decltype(blocks)::value;
        float scales[kFactors][kPieces * 2];
        [[maybe_unused]] float zeros[kFactors][kPieces * 2];
#pragma unroll
        for (int f = 0; f < kFactors; ++f) {
          const std::uint32_t of_factor = slot + C::kScalesAt + f * factor_bytes + row * row_bytes;
          load_factors(p.weights.scale, of_factor, g, scales[f]);
          if constexpr (kZero) load_factors(p.weights.scale, of_factor + zeros_at, g, zeros[f]);
        }
#pragma unroll
        for (int f = 0; f < kFactors; ++f) {
#pragma unroll
          for (int i = 0; i < kPieces; ++i) {
            float of_group[kTiles][4] = {};
            std::uint32_t nan = 0;
            typename Codes::Offset offsets[2] = {decoder.plain(0), decoder.plain(1)};
            if constexpr (kZero) {
#pragma unroll
              for (int h = 0; h < 2; ++h) offsets[h] = decoder.of_zero(zeros[f][2 * i + h], h);
            }
#pragma unroll
            for (int brick = kFirst / 4; brick < (kFirst + kBlocks + 3) / 4; ++brick) {
              std::uint32_t words[C::kWords], of_brick = 0;
#pragma unroll
              for (int w = 0; w < C::kWords; w += 4) {
                std::uint32_t four[4];
                load_shared(slot + C::kCodesAt + f * C::kCodesBytes + (brick * kPieces + i) * C::kPieceBytes + w / 4 * 512 +
                                lane * 16,
                            four);
#pragma unroll
                for (int j = 0; j < 4; ++j) words[w + j] = four[j];
              }
#pragma unroll
              for (int k16 = 0; k16 < 4; ++k16) {
                const int block = 4 * brick + k16;
                if (block < kFirst || block >= kFirst + kBlocks) continue;
                std::uint32_t b[4];
                decoder.decode(words, k16, offsets, b, of_brick);
#pragma unroll
                for (int j = 0; j < kTiles; ++j) mma<typename C::Element>(of_group[j], b, a[block][j][0], a[block][j][1]);
              }
              // Of a brick that there is not A is zero; whatever its codes are, they are no NaN.
              if (brick == 0 || whole) nan |= of_brick;
            }
            float scale[2] = {scales[f][2 * i] / Codes::unit(0), scales[f][2 * i + 1] / Codes::unit(1)};
            Codes::spread_nan(nan, scale);
#pragma unroll
            for (int j = 0; j < kTiles; ++j) {
#pragma unroll
              for (int e = 0; e < 4; ++e) sums[f][i][j][e] = fmaf(of_group[j][e], scale[e / 2], sums[f][i][j][e]);
            }
          }
        }
      };
      if (groups == 1) {
        multiply(Constant<0>{}, Constant<kBlocksK>{}, 0);
      } else {
        const int group = of_step(step);
        const auto multiply_quarter = [&](auto quarter) {
          const int row = 32 * quarter >> l.group_shift;
          if (group + row < l.groups) multiply(Constant<2 * quarter>{}, Constant<2>{}, row);
        };
        multiply_quarter(Constant<0>{});
        multiply_quarter(Constant<1>{});
        multiply_quarter(Constant<2>{});
        multiply_quarter(Constant<3>{});
      }
      advance(slot);
    }

    auto& all = reinterpret_cast<typename C::Sums&>(shared);
    cp_async_wait<0>();
    __syncthreads();  // all rings have been read
#pragma unroll
    for (int f = 0; f < kFactors; ++f) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) all[f][warp][8 * j + 2 * t + e % 2][16 * i + g + e / 2 * 8] = sums[f][i][j][e];
        }
      }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < kFactors * rows * kColumns; at += blockDim.x) {
      const int c = at % kColumns, line = at / kColumns, f = kFactors == 1 ? 0 : line % 2, r = line / kFactors;
      float total = 0;
#pragma unroll 4
      for (int w = 0; w < warps; ++w) total += all[f][w][r][c];
      all[f][0][r][c] = total;
    }
    __syncthreads();
    for (int vector = threadIdx.x; vector < rows * (kColumns / 8); vector += blockDim.x) {
      const int r = vector / (kColumns / 8), c = vector % (kColumns / 8) * 8;
      store(tile.batch, tile.row + r, tile.col + c, &all[0][0][r][c], &all[kFactors - 1][0][r][c]);
    }
    __syncthreads();  // the sums have been read
  }
}

template <typename C>
void prepare_packed_few(const Kernel&) {
  allow_shared_memory(sm80_packed_few<C, false>, C::kSharedMemory);
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers)
    allow_shared_memory(sm80_packed_few<C, true>, C::kSharedMemory);
  load_kernel(gather_columns);
}

template <typename C, bool kGathers>
void run_packed_few(const Kernel&, const Problem& asked, const Launch& launch) {
  const Problem p = kGathers ? with_gathered_a(asked, launch.workspace) : asked;
  const TileGrid grid = tile_grid(p, C::kTokens, C::kColumns, C::kStep, 1);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  const int slot = C::slot_bytes(p.layout.scale_bytes, groups_of_few(p.layout), p.layout.zeros != 0);
  auto kernel = sm80_packed_few<C, false>;
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers) {
    if (p.layout.zeros != 0) kernel = sm80_packed_few<C, true>;
  }
  for (int i = 0; i < launch.repeats; ++i) {
    if (kGathers) gather_a(asked, launch);
    launch_kernel("launch of the sm80 kernel of packed weights and few rows", launch.stream,
                  {blocks, 32 * C::warps(slot), C::kSharedMemory}, kernel, p, grid);
  }
}

template <typename C, bool kGathers>
constexpr Kernel few_kernel(double peak_fraction) {
  Kernel k{};
  k.arch = Arch::sm80;
  k.summation = {Multiplier::mma_sync, 16, C::kStep, C::kWarps};
  k.operand = dtype_of<typename C::Element>();
  k.operand_b = DType::u8;
  k.math = Math::strict;
  k.layout = GemmLayout::rcr;
  k.gate = C::kGated ? Gate::separate : Gate::none;
  k.tile_m = C::kTokens;
  k.tile_n = C::kColumns;
  k.tile_k = C::kStep * C::kWarps;  // in flight at once: each warp has a step of its own
  k.stages = C::kDepth;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = kGathers ? "few_gathered" : "few";
  k.alignment = kGathers ? 2 : 16;
  k.threads = C::kThreads;
  k.blocks_by_registers = 512 / C::kThreads;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = 80;
  k.maximum_compute_capability = any_newer;
  k.groups = true;
  k.formats = formats_of(C::kCodes);
  k.permutes = k.gathers = kGathers;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = 0.5e-6;
  k.run = run_packed_few<C, kGathers>;
  k.prepare = prepare_packed_few<C>;
  return k;
}

/// A table: one tile, for A as it lies and for a copy of it.
template <typename Element, Codes kCodes, int kTokens, int kPieces, int kWarps, int kDepth, Gate kGate = Gate::none>
constexpr std::array<Kernel, 2> packed_few(double peak_fraction) {
  using C = FewConfig<Element, kCodes, kTokens, kPieces, kWarps, kDepth, kGate == Gate::separate>;
  return {few_kernel<C, false>(peak_fraction), few_kernel<C, true>(peak_fraction)};
}

}  // namespace cutplan::gemm::sm80
