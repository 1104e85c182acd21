// Products of few rows and packed 4-bit integer weights, for Ampere and everything after it: the time is that of reading codes.
//
// 16-bit A, row-major; B packed (core/weights_layout.hpp) as int4 or uint4; float32 accumulation; gemm.hpp has what is computed.
// Groups may share out rows.
//
// Data movement. mma.m16n8k16 takes 16 columns of B for its rows and 8 rows of A for its columns: D^T = B^T A^T. A piece of the
// packed layout is 16 columns by 64 of K as lanes want them, so that codes go from global memory to the registers that they are
// multiplied from, 16 bytes a lane and 512 a warp, kDepth bricks ahead, and never see shared memory. The warps of a block take
// turns at the bricks of its kPieces x 16 columns; their sums meet in shared memory, added in the order of warps, and leave by the
// epilogue's vectors of 8 columns. A's pairs come from L1 or L2, a brick ahead.
//
// Codes become 16-bit floats by their bits: a nibble below the mantissa of 1024 (float16) or 128 (bfloat16) is that number plus
// the code. What is subtracted is exact where zeros are integers. Sums of a group are made of these alone, and multiplied by the
// group's scale in float32.
//
// Why these tiles. 16 columns a block are 512 blocks at 8192 columns, which an H200's 132 SMs share out to within 3 %; A is read
// once for each block, which with 16 rows and more is more than its codes: then 64 columns share it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/launch.hpp"
#include "core/sm80/memory.cuh"
#include "core/sm80/mma.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm80 {

template <typename Element_, int kTokens_, int kPieces_, int kWarps_, int kDepth_>
struct PackedConfig {
  using Element = Element_;
  static constexpr int kTokens = kTokens_, kPieces = kPieces_, kWarps = kWarps_, kDepth = kDepth_;
  static constexpr int kThreads = 32 * kWarps, kColumns = 16 * kPieces, kTiles = kTokens / 8, kBrick = 64;
  static constexpr int kPitch = kColumns + 4;
  static constexpr bool kHalf = std::is_same_v<Element, cutlass::half_t>;
};

/// Two elements in a register.
template <bool kHalf>
struct Pair {
  static __device__ __forceinline__ std::uint32_t of(float x) {
    if constexpr (kHalf) {
      const __half2 both = __float2half2_rn(x);
      return reinterpret_cast<const std::uint32_t&>(both);
    } else {
      const __nv_bfloat162 both = __float2bfloat162_rn(x);
      return reinterpret_cast<const std::uint32_t&>(both);
    }
  }
  static __device__ __forceinline__ std::uint32_t subtract(std::uint32_t x, std::uint32_t y) {
    if constexpr (kHalf) {
      const __half2 d = __hsub2(reinterpret_cast<const __half2&>(x), reinterpret_cast<const __half2&>(y));
      return reinterpret_cast<const std::uint32_t&>(d);
    } else {
      const __nv_bfloat162 d =
          __hsub2(reinterpret_cast<const __nv_bfloat162&>(x), reinterpret_cast<const __nv_bfloat162&>(y));
      return reinterpret_cast<const std::uint32_t&>(d);
    }
  }
};

/// Register r of a word of codes, as floats less `base` (that of the bits, and with it what a code of 0 stands for).
template <bool kHalf>
__device__ __forceinline__ std::uint32_t codes_of(std::uint32_t word, int r, std::uint32_t base) {
  constexpr std::uint32_t kMagic = kHalf ? 0x64006400u : 0x43004300u;
  std::uint32_t bits;
  asm("lop3.b32 %0, %1, 0x000f000f, %2, 0xea;" : "=r"(bits) : "r"(word >> (4 * r)), "r"(kMagic));  // (a & b) | c
  return Pair<kHalf>::subtract(bits, base);
}

__device__ __forceinline__ uint4 load_codes(const std::uint32_t* from) {
  uint4 x;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from));
  return x;
}

__device__ __forceinline__ float scale_at(DType type, const unsigned char* part, std::int64_t i) {
  if (type == DType::f32) return __ldg(reinterpret_cast<const float*>(part) + i);
  return widen(type, __ldg(reinterpret_cast<const std::uint16_t*>(part) + i));
}

/// kZero: there are zero points.
template <typename C, bool kZero>
__global__ __launch_bounds__(C::kThreads) void sm80_packed_few(const __grid_constant__ Problem p,
                                                               const __grid_constant__ TileGrid grid) {
  constexpr int kPieces = C::kPieces, kTiles = C::kTiles, kDepth = C::kDepth, kColumns = C::kColumns;
  constexpr bool kHalf = C::kHalf;
  constexpr float kBase = kHalf ? 1024 : 128;
  __shared__ float shared[C::kWarps][C::kTokens][C::kPitch];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const weights::Layout& l = p.layout;
  const int bricks = static_cast<int>(l.k / C::kBrick);
  const float of_zero = *p.weights.format == WeightFormat::int4 ? 8 : 0;
  const std::uint32_t plain = Pair<kHalf>::of(kBase + of_zero);
  const bool small_groups = l.group_size == 32, permuted = l.permutation != 0;

  TileWalk<C::kTokens, kColumns> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    const auto* packed = static_cast<const unsigned char*>(p.b.data) + tile.batch * p.b.batch_stride;
    const int piece = static_cast<int>(tile.col % C::kBrick / 16);
    const std::uint32_t* codes = reinterpret_cast<const std::uint32_t*>(packed + l.codes) +
                                 ((tile.col / C::kBrick * bricks * 4 + piece) * 32 + lane) * 4;
    const auto* permutation = reinterpret_cast<const std::int32_t*>(packed + l.permutation);
    const auto* a = static_cast<const std::uint16_t*>(p.a.data) + tile.batch * p.a.batch_stride;
    const std::int64_t column = tile.col + g;

    uint4 words[kDepth][kPieces];
    std::uint32_t x[2][4][kTiles][2];
    const auto fetch_codes = [&](int slot, int brick) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        words[slot][i] = brick < bricks ? load_codes(codes + (std::int64_t{brick} * 4 + i) * 128) : make_uint4(0, 0, 0, 0);
    };
    const auto fetch_rows = [&](int slot, int brick) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const std::int64_t row = tile.row + 8 * j + g;
        const std::uint16_t* of_row = a + row * p.a.ld;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const std::int64_t k = std::int64_t{brick} * C::kBrick + 8 * i + 2 * t;
          std::uint32_t pair = 0;
          if (row < tile.row_end && k < p.k) {
            if (permuted) {
              pair = of_row[permutation[k]];
              if (k + 1 < p.k) pair |= std::uint32_t{of_row[permutation[k + 1]]} << 16;
            } else if (k + 1 < p.k) {
              pair = __ldg(reinterpret_cast<const std::uint32_t*>(of_row + k));
            } else {
              pair = of_row[k];
            }
          }
          x[slot][i / 2][j][i % 2] = pair;
        }
      }
    };
#pragma unroll
    for (int i = 0; i < kDepth; ++i) fetch_codes(i, warp + i * C::kWarps);
    if (warp < bricks) fetch_rows(0, warp);

    float sums[kPieces][kTiles][4] = {};
    int brick = warp;
    const auto multiply_brick = [&](int slot, int of_rows) {
      float of_group[kPieces][kTiles][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t group = (std::int64_t{brick} * C::kBrick + 32 * half) / l.group_size;
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
          const std::int64_t at = group * l.n + column + 16 * i;
          std::uint32_t base[2] = {plain, plain}, zero[2] = {};
          if constexpr (kZero) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              base[h] = Pair<kHalf>::of(kBase);
              zero[h] = Pair<kHalf>::of(of_zero + scale_at(p.weights.scale, packed + l.zeros, at + 8 * h));
            }
          }
#pragma unroll
          for (int k16 = 2 * half; k16 < 2 * half + 2; ++k16) {
            const std::uint32_t word = (&words[slot][i].x)[k16];
            std::uint32_t b[4];
#pragma unroll
            for (int r = 0; r < 4; ++r) {
              b[r] = codes_of<kHalf>(word, r, base[r % 2]);
              if constexpr (kZero) b[r] = Pair<kHalf>::subtract(b[r], zero[r % 2]);
            }
#pragma unroll
            for (int j = 0; j < kTiles; ++j)
              mma<typename C::Element>(of_group[i][j], b, x[of_rows][k16][j][0], x[of_rows][k16][j][1]);
          }
          if (half == 1 || small_groups) {
            const float scale[2] = {scale_at(p.weights.scale, packed + l.scales, at),
                                    scale_at(p.weights.scale, packed + l.scales, at + 8)};
#pragma unroll
            for (int j = 0; j < kTiles; ++j) {
#pragma unroll
              for (int e = 0; e < 4; ++e) {
                sums[i][j][e] = fmaf(of_group[i][j][e], scale[e / 2], sums[i][j][e]);
                of_group[i][j][e] = 0;
              }
            }
          }
        }
      }
    };
    static_assert(kDepth % 2 == 0);
    while (brick < bricks) {
#pragma unroll
      for (int slot = 0; slot < kDepth; ++slot) {
        if (brick < bricks) {
          if (brick + C::kWarps < bricks) fetch_rows((slot + 1) % 2, brick + C::kWarps);
          multiply_brick(slot, slot % 2);
          fetch_codes(slot, brick + kDepth * C::kWarps);
          brick += C::kWarps;
        }
      }
    }

    __syncthreads();  // the sums of the tile before have been read
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) shared[warp][8 * j + 2 * t + e % 2][16 * i + g + e / 2 * 8] = sums[i][j][e];
      }
    }
    __syncthreads();
    for (int vector = threadIdx.x; vector < C::kTokens * (kColumns / 8); vector += C::kThreads) {
      const int r = vector / (kColumns / 8), c = vector % (kColumns / 8) * 8;
      const std::int64_t row = tile.row + r, col = tile.col + c;
      if (row >= tile.row_end || col >= p.n) continue;
      Float8 total = {};
#pragma unroll 1
      for (int w = 0; w < C::kWarps; ++w) {
#pragma unroll
        for (int i = 0; i < 8; ++i) total.x[i] += shared[w][r][c + i];
      }
      finish<>(p, tile.batch, tile.batch, row, col, false, total);
    }
  }
}

template <typename C>
void run_packed(const Kernel&, const Problem& p, const Launch& launch) {
  const TileGrid grid = tile_grid(p, C::kTokens, C::kColumns, C::kBrick, 1);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  const auto kernel = p.layout.zeros != 0 ? sm80_packed_few<C, true> : sm80_packed_few<C, false>;
  for (int i = 0; i < launch.repeats; ++i) {
    launch_kernel("launch of the sm80 kernel of packed weights and few rows", launch.stream, {blocks, C::kThreads}, kernel,
                  p, grid);
  }
}

template <typename Element, int kTokens, int kPieces, int kWarps, int kDepth>
constexpr Kernel packed_kernel(double peak_fraction) {
  using C = PackedConfig<Element, kTokens, kPieces, kWarps, kDepth>;
  Kernel k{};
  k.arch = Arch::sm80;
  k.summation = {Multiplier::mma_sync, 16, C::kBrick, kWarps};
  k.operand = dtype_of<Element>();
  k.operand_b = DType::u8;
  k.math = Math::strict;
  k.layout = GemmLayout::rcr;
  k.tile_m = kTokens;
  k.tile_n = C::kColumns;
  k.tile_k = C::kBrick;
  k.stages = kDepth + 1;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = "few";
  k.alignment = 4;
  k.threads = C::kThreads;
  k.blocks_by_registers = 2;
  k.minimum_compute_capability = 80;
  k.maximum_compute_capability = any_newer;
  k.groups = true;
  k.formats = 1u << static_cast<int>(WeightFormat::int4) | 1u << static_cast<int>(WeightFormat::uint4);
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = 0.5e-6;
  k.run = run_packed<C>;
  return k;
}

}  // namespace cutplan::gemm::sm80
