// GEMM of packed weights for Ampere and everything after it: D^T = B^T A^T, so that codes are decoded in the registers that mma.sync
// takes its first factor from.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) in any format; float32 accumulation; gemm.hpp has what is computed. Groups
// may share out rows.
//
// Data movement. cp.async brings a K step of 64 of kTokens rows of A to a ring in shared memory, its 16-byte chunks permuted so that
// ldmatrix meets no bank twice. Of eight warps four share out the columns and two the rows: a lane loads its 16 bytes of codes for
// every 16 columns from global memory, a step ahead, and decodes them (packed_codes.cuh); the second warp of the same columns
// finds them in L1. Sums of a group are multiplied by its scale in float32. Results leave through shared memory, 32 rows at a time,
// in vectors of 8 columns. Gated: half of the columns are b's, half b2's.
//
// Why these tiles. A warp has 32 columns by 64 rows, twice: of a group and of all, 128 registers.
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

template <typename Element_, Codes kCodes_, int kTokens_, int kStages_, bool kGated_>
struct PackedConfig {
  using Element = Element_;
  static constexpr Codes kCodes = kCodes_;
  static constexpr bool kGated = kGated_;
  static constexpr int kTokens = kTokens_, kStages = kStages_, kFactors = kGated ? 2 : 1, kColumns = 128 / kFactors;  // of D
  static constexpr int kTileK = 64, kWarpsM = 2, kWarpsN = 4, kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kPieces = 128 / 16 / kWarpsN, kTiles = kTokens / 8 / kWarpsM;  // of a warp: 16 columns, 8 rows
  static constexpr int kRowBytes = kTileK * 2, kSlotBytes = kTokens * kRowBytes, kCopies = kSlotBytes / 16 / kThreads;
  static constexpr int kChunk = 32, kPitch = kColumns + 4;  // rows that leave at once
  static constexpr int kStagingBytes = kFactors * kChunk * kPitch * 4;
  static constexpr int kSharedMemory = std::max(kStages * kSlotBytes, kStagingBytes);
  static_assert(kTiles % 2 == 0 && kTokens / kWarpsM % kChunk == 0);
};

template <typename C, bool kZero>
__global__ __launch_bounds__(C::kThreads) void sm80_packed(const __grid_constant__ Problem p,
                                                           const __grid_constant__ TileGrid grid) {
  constexpr int kStages = C::kStages, kTiles = C::kTiles, kPieces = C::kPieces;
  using Codes = Decoder<typename C::Element, C::kCodes, kZero>;
  extern __shared__ __align__(128) char shared[];
  const std::uint32_t ring = shared_address(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_m = warp % C::kWarpsM, warp_n = warp / C::kWarpsM;
  const weights::Layout& l = p.layout;
  const Codes decoder(*p.weights.format);
  const StoreVector<C::kGated> store(p);
  const bool small_groups = l.group_size == 32;

  TileWalk<C::kTokens, C::kColumns> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    const auto* a = static_cast<const std::uint16_t*>(p.a.data) + tile.batch * p.a.batch_stride;
    const int steps = static_cast<int>((p.k + C::kTileK - 1) / C::kTileK);
    const auto start_copy = [&](int step) {
#pragma unroll
      for (int i = 0; i < C::kCopies; ++i) {
        const int copy = threadIdx.x + i * C::kThreads, token = copy / 8, chunk = copy % 8;
        const std::int64_t row = tile.row + token, k = std::int64_t{step} * C::kTileK + 8 * chunk;
        const int bytes = row < tile.row_end && k < p.k ? static_cast<int>(min(p.k - k, std::int64_t{8})) * 2 : 0;
        cp_async_zfill(ring + step % kStages * C::kSlotBytes + token * C::kRowBytes + (chunk ^ token % 8) * 16,
                       bytes > 0 ? a + row * p.a.ld + k : a, bytes);
      }
    };

    // Of the warp's pieces; beyond the packed columns the last ones, whose results are not stored.
    const Matrix& b = C::kGated && warp_n >= C::kWarpsN / 2 ? p.b2 : p.b;
    const auto* packed = static_cast<const unsigned char*>(b.data) + tile.batch * b.batch_stride;
    const int warp_columns = (C::kGated ? warp_n % (C::kWarpsN / 2) : warp_n) * 16 * kPieces;
    const std::uint32_t* codes[kPieces];
    std::int64_t columns[kPieces];
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const std::int64_t first = min(tile.col + warp_columns + 16 * i, l.n - 16);
      columns[i] = first + lane / 4;
      codes[i] = reinterpret_cast<const std::uint32_t*>(packed + l.codes) +
                 (first / 64 * (l.k / 64) * 4 + first % 64 / 16) * (32 * Codes::kWords) + lane * 4;
    }
    std::uint32_t words[kPieces][Codes::kWords], next_words[kPieces][Codes::kWords];
    const auto fetch_codes = [&](int step, std::uint32_t (&to)[kPieces][Codes::kWords]) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
#pragma unroll
        for (int w = 0; w < Codes::kWords; w += 4) {
          const uint4 four =
              __ldg(reinterpret_cast<const uint4*>(codes[i] + std::int64_t{step} * 4 * (32 * Codes::kWords) + w * 32));
          to[i][w] = four.x, to[i][w + 1] = four.y, to[i][w + 2] = four.z, to[i][w + 3] = four.w;
        }
      }
    };

    __syncthreads();  // the results of the tile before have been read
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) {
      if (step < steps) start_copy(step);
      cp_async_commit();
    }
    if (steps > 0) fetch_codes(0, next_words);

    std::uint32_t nan[kPieces] = {};
    float sums[kPieces][kTiles][4] = {}, of_group[kPieces][kTiles][4] = {};
    const auto promote = [&](int i, std::int64_t group) {
      float scale[2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
        scale[h] = factor_at(p.weights.scale, packed + l.scales, group * l.n + columns[i] + 8 * h) / Codes::unit(h);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          sums[i][j][e] = fmaf(of_group[i][j][e], scale[e / 2], sums[i][j][e]);
          of_group[i][j][e] = 0;
        }
      }
    };
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
      if (step + kStages - 1 < steps) start_copy(step + kStages - 1);
      cp_async_commit();
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
#pragma unroll
        for (int w = 0; w < Codes::kWords; ++w) words[i][w] = next_words[i][w];
      }
      if (step + 1 < steps) fetch_codes(step + 1, next_words);
      const std::uint32_t slot = ring + step % kStages * C::kSlotBytes;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t group = (std::int64_t{step} * C::kTileK + 32 * half) >> l.group_shift;
        if (group >= l.groups) continue;
        typename Codes::Offset offsets[kPieces][2];
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            offsets[i][h] = decoder.plain(h);
            if constexpr (kZero)
              offsets[i][h] =
                  decoder.of_zero(factor_at(p.weights.scale, packed + l.zeros, group * l.n + columns[i] + 8 * h), h);
          }
        }
#pragma unroll
        for (int k16 = 2 * half; k16 < 2 * half + 2; ++k16) {
          std::uint32_t of_b[kPieces][4];
#pragma unroll
          for (int i = 0; i < kPieces; ++i) decoder.decode(words[i], k16, offsets[i], of_b[i], nan[i]);
#pragma unroll
          for (int j = 0; j < kTiles; j += 2) {
            const int token = warp_m * 8 * kTiles + 8 * j + lane / 16 * 8 + lane % 8, chunk = 2 * k16 + lane / 8 % 2;
            std::uint32_t of_a[4];
            ldmatrix(slot + token * C::kRowBytes + (chunk ^ token % 8) * 16, of_a);
#pragma unroll
            for (int i = 0; i < kPieces; ++i) {
              mma<typename C::Element>(of_group[i][j], of_b[i], of_a[0], of_a[1]);
              mma<typename C::Element>(of_group[i][j + 1], of_b[i], of_a[2], of_a[3]);
            }
          }
        }
        const std::int64_t next_k = std::int64_t{step} * C::kTileK + 32 * (half + 1);
        if (small_groups || (half == 1 && (step + 1 == steps || (next_k & ((std::int64_t{1} << l.group_shift) - 1)) == 0))) {
#pragma unroll
          for (int i = 0; i < kPieces; ++i) promote(i, group);
        }
      }
    }
    cp_async_wait<0>();
    if constexpr (C::kCodes == gemm::Codes::e4m3) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        float factors[2] = {1, 1};
        Codes::spread_nan(nan[i], factors);
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[i][j][e] *= factors[e / 2];
        }
      }
    }

    auto& staging = reinterpret_cast<float (&)[C::kFactors][C::kChunk][C::kPitch]>(shared);
    const int factor = C::kGated && warp_n >= C::kWarpsN / 2 ? 1 : 0;
#pragma unroll
    for (int chunk = 0; chunk < C::kTokens / C::kChunk; ++chunk) {
      constexpr int kChunks = 8 * kTiles / C::kChunk;  // of a warp
      const std::int64_t first_row = tile.row + chunk * C::kChunk;
      if (first_row >= tile.row_end) break;
      __syncthreads();  // the ring, and the chunk before, have been read
      if (warp_m == chunk / kChunks) {
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
#pragma unroll
          for (int j = 0; j < C::kChunk / 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e)
              staging[factor][8 * j + lane % 4 * 2 + e % 2][warp_columns + 16 * i + lane / 4 + e / 2 * 8] =
                  sums[i][chunk % kChunks * (C::kChunk / 8) + j][e];
          }
        }
      }
      __syncthreads();
#pragma unroll 1
      for (int vector = threadIdx.x; vector < C::kChunk * (C::kColumns / 8); vector += C::kThreads) {
        const int r = vector / (C::kColumns / 8), c = vector % (C::kColumns / 8) * 8;
        if (first_row + r < tile.row_end)
          store(tile.batch, first_row + r, tile.col + c, &staging[0][r][c], &staging[C::kFactors - 1][r][c]);
      }
    }
  }
}

template <typename C>
void prepare_packed(const Kernel&) {
  allow_shared_memory(sm80_packed<C, false>, C::kSharedMemory);
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers)
    allow_shared_memory(sm80_packed<C, true>, C::kSharedMemory);
  load_kernel(gather_columns);
}

template <typename C, bool kGathers>
void run_packed(const Kernel&, const Problem& asked, const Launch& launch) {
  const Problem p = kGathers ? with_gathered_a(asked, launch.workspace) : asked;
  const TileGrid grid = tile_grid(p, C::kTokens, C::kColumns, C::kTileK, 1);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  auto kernel = sm80_packed<C, false>;
  if constexpr (Decoder<typename C::Element, C::kCodes, false>::kIntegers) {
    if (p.layout.zeros != 0) kernel = sm80_packed<C, true>;
  }
  for (int i = 0; i < launch.repeats; ++i) {
    if (kGathers) gather_a(asked, launch);
    launch_kernel("launch of the sm80 kernel of packed weights", launch.stream, {blocks, C::kThreads, C::kSharedMemory},
                  kernel, p, grid);
  }
}

template <typename C, bool kGathers>
constexpr Kernel packed_kernel(double peak_fraction) {
  Kernel k{};
  k.arch = Arch::sm80;
  k.summation = {Multiplier::mma_sync, 16, 128};  // or a group
  k.operand = dtype_of<typename C::Element>();
  k.operand_b = DType::u8;
  k.math = Math::strict;
  k.layout = GemmLayout::rcr;
  k.gate = C::kGated ? Gate::separate : Gate::none;
  k.tile_m = C::kTokens;
  k.tile_n = C::kColumns;
  k.tile_k = C::kTileK;
  k.stages = C::kStages;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = kGathers ? "gathered" : "multistage";
  k.alignment = kGathers ? 2 : 16;
  k.threads = C::kThreads;
  k.blocks_by_registers = 1;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = 80;
  k.maximum_compute_capability = any_newer;
  k.groups = true;
  k.formats = formats_of(C::kCodes);
  k.gathers = k.permutes = kGathers;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = 3e-6;
  k.run = run_packed<C, kGathers>;
  k.prepare = prepare_packed<C>;
  return k;
}

/// A table: one tile, for A as it lies and for a copy of it.
template <typename Element, Codes kCodes, int kTokens, int kStages, Gate kGate = Gate::none>
constexpr std::array<Kernel, 2> packed(double peak_fraction) {
  using C = PackedConfig<Element, kCodes, kTokens, kStages, kGate == Gate::separate>;
  return {packed_kernel<C, false>(peak_fraction), packed_kernel<C, true>(peak_fraction)};
}

}  // namespace cutplan::gemm::sm80
