// Products of few rows and packed weights, for Ampere and everything after it: the time is that of reading codes.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) in any format; float32 accumulation; gemm.hpp has what is computed. Groups
// may share out rows.
//
// Data movement. mma.m16n8k16 takes 16 columns of B for its rows and 8 rows of A for its columns: D^T = B^T A^T. The warps of a
// block take turns at the bricks, 64 of K, of its kPieces x 16 columns. Each has a ring of its own in shared memory, of kDepth
// bricks, that cp.async fills: codes as lanes want them, A's rows permuted for ldmatrix, scales and zeros. No warp waits for
// another until their sums meet in shared memory, added in the order of warps; they leave by the epilogue's vectors of 8 columns.
// Gated: the same columns of b and b2.
//
// Codes become 16-bit floats by their bits (packed_codes.cuh), exactly where zeros are integers and entries of tables are such
// floats. Sums of a group are made of these alone, and multiplied by the group's scale in float32.
//
// Why these tiles. 32 columns a block are 256 blocks at 8192 columns, which fit the 132 SMs of an H200 two by two; A is read once
// for each block, which with 16 rows is as much as its codes: then 64 columns share it.
#pragma once

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/memory.cuh"
#include "core/sm80/mma.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/gathered.cuh"
#include "gemm/packed_codes.cuh"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm80 {

template <typename Element_, Codes kCodes_, int kTokens_, int kPieces_, int kWarps_, int kDepth_, bool kGated_>
struct FewConfig {
  using Element = Element_;
  static constexpr Codes kCodes = kCodes_;
  static constexpr bool kGated = kGated_;
  static constexpr int kTokens = kTokens_, kPieces = kPieces_, kWarps = kWarps_, kDepth = kDepth_, kFactors = kGated ? 2 : 1;
  static constexpr int kThreads = 32 * kWarps, kColumns = 16 * kPieces, kTiles = kTokens / 8, kBrick = 64;
  static constexpr int kWords = Decoder<Element, kCodes, false>::kWords, kPieceBytes = 32 * kWords * 4;
  static constexpr int kGroups = 2;                  // of a brick, at most, of 32
  static constexpr int kFactorBytes = kColumns * 4;  // a group's scales or zeros, at most

  struct Slot {
    alignas(128) unsigned char a[kTokens * 128];
    unsigned char codes[kFactors][kPieces][kPieceBytes];
    struct Factors {
      unsigned char scales[kGroups][kFactorBytes], zeros[kGroups][kFactorBytes];
    } factors[kFactors];
  };
  static constexpr int kCodesAt = kTokens * 128, kScalesAt = kCodesAt + kFactors * kPieces * kPieceBytes,
                       kFactorsOfOne = sizeof(typename Slot::Factors);
  static constexpr int kPitch = kColumns + 4;
  using Sums = float[kFactors][kWarps][kTokens][kPitch];
  static constexpr int kSharedMemory = std::max(sizeof(Slot) * kWarps * kDepth, sizeof(Sums));
};

/// kZero: there are zero points.
template <typename C, bool kZero>
__global__ __launch_bounds__(C::kThreads) void sm80_packed_few(const __grid_constant__ Problem p,
                                                               const __grid_constant__ TileGrid grid) {
  constexpr int kPieces = C::kPieces, kFactors = C::kFactors, kTiles = C::kTiles, kDepth = C::kDepth, kColumns = C::kColumns;
  using Codes = Decoder<typename C::Element, C::kCodes, kZero>;
  extern __shared__ __align__(128) char shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const weights::Layout& l = p.layout;
  const int bricks = static_cast<int>(l.k / C::kBrick);
  const Codes decoder(*p.weights.format);
  const bool small_groups = l.group_size == 32;
  auto* const slots = reinterpret_cast<typename C::Slot*>(shared) + warp * kDepth;

  TileWalk<C::kTokens, kColumns> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    const unsigned char *packed[kFactors], *codes[kFactors];
#pragma unroll
    for (int f = 0; f < kFactors; ++f) {
      const Matrix& b = f == 0 ? p.b : p.b2;
      packed[f] = static_cast<const unsigned char*>(b.data) + tile.batch * b.batch_stride;
      codes[f] =
          packed[f] + l.codes + (tile.col / C::kBrick * bricks * 4 + tile.col % C::kBrick / 16) * C::kPieceBytes + lane * 16;
    }
    // What a lane copies of every brick is known but for the brick: a chunk of each of some rows of A, of every piece's codes, and
    // of the scales and zeros of one or two groups.
    const int rows = static_cast<int>(min(tile.row_end - tile.row, std::int64_t{C::kTokens})), chunk = lane % 8;
    const std::uint16_t* of_rows[C::kTokens / 4];
    int row_bytes[C::kTokens / 4];
#pragma unroll
    for (int i = 0; i < C::kTokens / 4; ++i) {
      const int token = 4 * i + lane / 8;
      row_bytes[i] = token < rows ? 16 : 0;
      of_rows[i] = static_cast<const std::uint16_t*>(p.a.data) + tile.batch * p.a.batch_stride +
                   (tile.row + min(token, rows - 1)) * p.a.ld + 8 * chunk;
    }
    const int chunks = kColumns * l.scale_bytes / 16, factors = (kZero ? 4 : 2) * chunks;
    constexpr int kRounds = ((kZero ? 4 : 2) * C::kFactorBytes / 16 + 31) / 32;
    std::int64_t factor_from[kRounds];  // from the scales of a group on
    std::uint32_t factor_to[kRounds];   // in a slot; the last bit: nowhere, the one before: of the second group
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int at = 32 * i + lane, which = at / chunks, half = which % 2;
      const bool wanted = at < factors && (half == 0 || small_groups);
      factor_from[i] = (which >= 2 ? l.zeros - l.scales : 0) + tile.col * l.scale_bytes + at % chunks * 16;
      factor_to[i] = static_cast<std::uint32_t>(which * C::kFactorBytes + at % chunks * 16) | (half == 1 ? 1u << 30 : 0) |
                     (wanted ? 0 : 1u << 31);
    }
    const std::uint32_t group_bytes = static_cast<std::uint32_t>(l.n * l.scale_bytes);
    const auto start_copy = [&](int slot_index, int brick) {
      auto& slot = slots[slot_index];
      const std::uint32_t of_slot = shared_address(&slot);
      const std::int64_t k = std::int64_t{brick} * C::kBrick;
      const int left = static_cast<int>(min(p.k - k - 8 * chunk, std::int64_t{8})) * 2;  // bytes that a chunk has
#pragma unroll
      for (int i = 0; i < C::kTokens / 4; ++i) {
        const int token = 4 * i + lane / 8;
        cp_async_zfill(of_slot + token * 128 + (chunk ^ token % 8) * 16, left > 0 ? of_rows[i] + k : of_rows[i] - 8 * chunk,
                       max(min(row_bytes[i], left), 0));
      }
#pragma unroll
      for (int f = 0; f < kFactors; ++f) {
#pragma unroll
        for (int i = 0; i < kPieces * C::kWords / 4; ++i)
          cp_async(of_slot + C::kCodesAt + f * kPieces * C::kPieceBytes + i * 512 + lane * 16,
                   codes[f] + std::int64_t{brick} * 4 * C::kPieceBytes + i * 512);
#pragma unroll
        for (int i = 0; i < kRounds; ++i) {
          const std::int64_t group = (k >> l.group_shift) + (factor_to[i] >> 30 & 1);
          if (factor_to[i] >> 31 == 0 && group < l.groups)
            cp_async(of_slot + C::kScalesAt + f * C::kFactorsOfOne + (factor_to[i] & 0xffff),
                     packed[f] + l.scales + group * group_bytes + factor_from[i]);
        }
      }
    };

    float sums[kFactors][kPieces][kTiles][4] = {};
#pragma unroll
    for (int i = 0; i < kDepth - 1; ++i) {
      if (warp + i * C::kWarps < bricks) start_copy(i, warp + i * C::kWarps);
      cp_async_commit();
    }
    int index_of_slot = 0;
#pragma unroll 1
    for (int brick = warp; brick < bricks; brick += C::kWarps) {
      cp_async_wait<kDepth - 2>();
      __syncwarp();  // and the slot that is filled next has been read
      const int next = brick + (kDepth - 1) * C::kWarps;
      if (next < bricks) start_copy(index_of_slot == 0 ? kDepth - 1 : index_of_slot - 1, next);
      cp_async_commit();
      const auto& slot = slots[index_of_slot];
      index_of_slot = index_of_slot + 1 == kDepth ? 0 : index_of_slot + 1;

      std::uint32_t of_a[4][kTiles][2];
      if constexpr (kTiles == 1) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          std::uint32_t x[4];
          ldmatrix(shared_address(slot.a + lane % 8 * 128 + ((4 * i + lane / 8) ^ lane % 8) * 16), x);
#pragma unroll
          for (int j = 0; j < 4; ++j) of_a[2 * i + j / 2][0][j % 2] = x[j];
        }
      } else {
#pragma unroll
        for (int k16 = 0; k16 < 4; ++k16) {
          std::uint32_t x[4];
          const int token = lane / 16 * 8 + lane % 8;
          ldmatrix(shared_address(slot.a + token * 128 + ((2 * k16 + lane / 8 % 2) ^ token % 8) * 16), x);
#pragma unroll
          for (int j = 0; j < 4; ++j) of_a[k16][j / 2][j % 2] = x[j];
        }
      }
#pragma unroll
      for (int f = 0; f < kFactors; ++f) {
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
          std::uint32_t words[C::kWords];
#pragma unroll
          for (int w = 0; w < C::kWords; w += 4) {
            const uint4 four = *reinterpret_cast<const uint4*>(slot.codes[f][i] + w / 4 * 512 + lane * 16);
            words[w] = four.x, words[w + 1] = four.y, words[w + 2] = four.z, words[w + 3] = four.w;
          }
          float of_group[kTiles][4] = {};
          std::uint32_t nan = 0;
          const auto factor = [&](const unsigned char* of, int h) {
            return factor_at(p.weights.scale, of, 16 * i + g + 8 * h);
          };
          const auto promote = [&](int half) {
            float scale[2] = {factor(slot.factors[f].scales[half], 0), factor(slot.factors[f].scales[half], 1)};
            Codes::spread_nan(nan, scale);
#pragma unroll
            for (int j = 0; j < kTiles; ++j) {
#pragma unroll
              for (int e = 0; e < 4; ++e) sums[f][i][j][e] = fmaf(of_group[j][e], scale[e / 2], sums[f][i][j][e]);
            }
          };
          typename Codes::Offset offsets[2] = {decoder.plain(), decoder.plain()};
#pragma unroll
          for (int k16 = 0; k16 < 4; ++k16) {
            if (k16 == 2 && small_groups) {
              promote(0);
              if (std::int64_t{brick} * C::kBrick + 32 >= p.k) break;
#pragma unroll
              for (int j = 0; j < kTiles; ++j) {
#pragma unroll
                for (int e = 0; e < 4; ++e) of_group[j][e] = 0;
              }
              nan = 0;
            }
            if (kZero && (k16 == 0 || (k16 == 2 && small_groups))) {
#pragma unroll
              for (int h = 0; h < 2; ++h) offsets[h] = decoder.of_zero(factor(slot.factors[f].zeros[k16 / 2], h));
            }
            std::uint32_t b[4];
            decoder.decode(words, k16, offsets, b, nan);
#pragma unroll
            for (int j = 0; j < kTiles; ++j) mma<typename C::Element>(of_group[j], b, of_a[k16][j][0], of_a[k16][j][1]);
            if (k16 == 3) promote(small_groups ? 1 : 0);
          }
        }
      }
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
    for (int vector = threadIdx.x; vector < rows * (kColumns / 8); vector += C::kThreads) {
      const int r = vector / (kColumns / 8), c = vector % (kColumns / 8) * 8;
      const std::int64_t row = tile.row + r, col = tile.col + c;
      if (col >= p.n) continue;
      Float8 total[kFactors] = {};
#pragma unroll
      for (int f = 0; f < kFactors; ++f) {
#pragma unroll 4
        for (int w = 0; w < C::kWarps; ++w) {
#pragma unroll
          for (int i = 0; i < 8; ++i) total[f].x[i] += all[f][w][r][c + i];
        }
      }
      if constexpr (C::kGated) {
        EightColumns<> of_first(total[0].x, tile.batch, row, col, p.n), of_second(total[1].x, tile.batch, row, col, p.n);
        gate(p.terms, of_first, of_second);
      }
      finish<>(p, tile.batch, tile.batch, row, col, C::kGated, total[0]);
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
  const TileGrid grid = tile_grid(p, C::kTokens, C::kColumns, C::kBrick, 1);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  auto kernel = sm80_packed_few<C, false>;
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers) {
    if (p.layout.zeros != 0) kernel = sm80_packed_few<C, true>;
  }
  for (int i = 0; i < launch.repeats; ++i) {
    if (kGathers) gather_a(asked, launch);
    launch_kernel("launch of the sm80 kernel of packed weights and few rows", launch.stream,
                  {blocks, C::kThreads, C::kSharedMemory}, kernel, p, grid);
  }
}

template <typename C, bool kGathers>
constexpr Kernel few_kernel(double peak_fraction) {
  Kernel k{};
  k.arch = Arch::sm80;
  k.summation = {Multiplier::mma_sync, 16, C::kBrick, C::kWarps};
  k.operand = dtype_of<typename C::Element>();
  k.operand_b = DType::u8;
  k.math = Math::strict;
  k.layout = GemmLayout::rcr;
  k.gate = C::kGated ? Gate::separate : Gate::none;
  k.tile_m = C::kTokens;
  k.tile_n = C::kColumns;
  k.tile_k = C::kBrick * C::kWarps;  // in flight at once: each warp has a brick of its own
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
