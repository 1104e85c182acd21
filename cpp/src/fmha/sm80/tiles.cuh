// The tiles of the sm80 kernels, by head dimension, and why. Figures: H200 (sm_90 build), bf16, 8192 tokens, TFLOP/s full /
// causal; FlashAttention-2 in the same run: 64: 300 / 282, 96: 338 / 309, 128: 348 / 310, 192: 317 / 283, 256: 325 / 286
// forward and 272 / 244, 281 / 241, 296 / 272, 247 / 240, 250 / 235 backward. An A100 has 163 KiB of shared memory a block,
// smaller Ampere 99.
#pragma once

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha::sm80 {

/// TFLOP/s, dimension, rows, keys, warps, slots, blocks of an SM.
template <typename Element, int kTeraflops, int... kTile>
inline constexpr Kernel forward = forward_kernel<ForwardConfig<Arch::sm80, Element, kTile...>>(kTeraflops);

/// TFLOP/s, dimension, queries, keys, warps along the keys, warps along the columns, stages, blocks of an SM.
template <typename Element, int kTeraflops, int... kTile>
inline constexpr Kernel backward = backward_kernel<BackwardConfig<Arch::sm80, Element, kTile...>>(kTeraflops);

/// kernels: the table of one element type and size class.
template <typename Element, int kDim>
struct Tiles;

template <typename Element>
struct Tiles<Element, 32> {
  static constexpr Kernel kernels[] = {forward<Element, 221, 32, 128, 64, 4, 4, 2>,  // 221 full, and 163 with the tile of 64
                                       backward<Element, 180, 32, 64, 128, 4, 1, 2, 2>};
};

template <typename Element>
struct Tiles<Element, 64> {
  static constexpr Kernel kernels[] = {
      forward<Element, 331, 64, 128, 64, 4, 4, 2>,     // 331 / 316; 3 blocks of 168 registers: 306
      backward<Element, 312, 64, 64, 128, 4, 1, 2, 2>  // 312 / 303; 32 queries: 277 / 272
  };
};

template <typename Element>
struct Tiles<Element, 96> {
  static constexpr Kernel kernels[] = {
      forward<Element, 340, 96, 128, 64, 4, 4, 2>,    // 340 / 320
      backward<Element, 282, 96, 64, 64, 2, 2, 2, 2>  // 282 / 270
  };
};

template <typename Element>
struct Tiles<Element, 128> {
  static constexpr Kernel kernels[] = {
      forward<Element, 380, 128, 128, 64, 4, 4, 2>,      // 380 / 373; 32 keys: 341 / 336
      forward<Element, 355, 128, 128, 64, 4, 3, 2>,      // two blocks fit an A100's SM
      forward<Element, 320, 128, 64, 64, 4, 4, 2>,       // 309 / 297, and less waste with few rows
      backward<Element, 290, 128, 64, 128, 4, 2, 2, 1>,  // 290 / 287; 64 keys, 2 blocks: 279 / 268
      backward<Element, 258, 128, 64, 128, 4, 2, 1, 1>,  // fits an A100
      backward<Element, 264, 128, 64, 64, 2, 2, 1, 1>    // fits 99 KiB
  };
};

template <typename Element>
struct Tiles<Element, 192> {
  static constexpr Kernel kernels[] = {
      forward<Element, 327, 192, 64, 64, 4, 3, 2>,      // 327 / 323; 128 rows, 8 warps: 310 / 308
      backward<Element, 226, 192, 64, 64, 2, 4, 2, 1>,  // 226 / 226
      backward<Element, 200, 192, 64, 64, 2, 4, 1, 1>,  // fits an A100
      backward<Element, 150, 192, 64, 32, 1, 4, 1, 1>   // fits 99 KiB
  };
};

template <typename Element>
struct Tiles<Element, 256> {
  static constexpr Kernel kernels[] = {
      forward<Element, 323, 256, 64, 64, 4, 2, 2>,      // 323 / 315
      forward<Element, 338, 256, 128, 64, 8, 4, 1>,     // 338 / 337; none of Q in registers: 322 / 323
      forward<Element, 312, 256, 128, 64, 8, 2, 1>,     // fits an A100
      backward<Element, 237, 256, 64, 64, 2, 4, 2, 1>,  // 237 / 238
      backward<Element, 219, 256, 64, 64, 2, 4, 1, 1>,  // fits an A100
      backward<Element, 187, 256, 32, 32, 2, 2, 1, 1>   // fits 99 KiB
  };
};

}  // namespace cutplan::fmha::sm80
