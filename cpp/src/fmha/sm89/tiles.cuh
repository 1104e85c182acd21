// The tiles of the sm89 kernels, by head dimension: Ampere's instructions with 99 KiB of shared memory a block and 100 KiB
// an SM. Chosen to fit, not measured on that card; on an H200 they run as their sm_90 build.
#pragma once

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha::sm89 {

/// TFLOP/s, dimension, rows, keys, warps, slots, blocks of an SM.
template <typename Element, int kTeraflops, int... kTile>
inline constexpr Kernel forward = sm80::forward_kernel<sm80::ForwardConfig<Arch::sm89, Element, kTile...>>(kTeraflops);

/// TFLOP/s, dimension, queries, keys, warps along the keys, warps along the columns, stages, blocks of an SM.
template <typename Element, int kTeraflops, int... kTile>
inline constexpr Kernel backward = sm80::backward_kernel<sm80::BackwardConfig<Arch::sm89, Element, kTile...>>(kTeraflops);

/// kernels: the table of one element type and size class.
template <typename Element, int kDim>
struct Tiles;

template <typename Element>
struct Tiles<Element, 32> {
  static constexpr Kernel kernels[] = {forward<Element, 221, 32, 128, 64, 4, 4, 2>,
                                       backward<Element, 180, 32, 64, 128, 4, 1, 2, 2>};
};

template <typename Element>
struct Tiles<Element, 64> {
  static constexpr Kernel kernels[] = {
      forward<Element, 331, 64, 128, 64, 4, 4, 2>,     // 48 KiB
      backward<Element, 290, 64, 64, 128, 4, 1, 2, 1>  // 97 KiB
  };
};

template <typename Element>
struct Tiles<Element, 96> {
  static constexpr Kernel kernels[] = {
      forward<Element, 300, 96, 64, 64, 4, 3, 2>,     // 48 KiB
      backward<Element, 260, 96, 64, 64, 2, 2, 2, 1>  // 97 KiB
  };
};

template <typename Element>
struct Tiles<Element, 128> {
  static constexpr Kernel kernels[] = {
      forward<Element, 300, 128, 64, 64, 4, 2, 2>,     // 48 KiB
      forward<Element, 280, 128, 128, 64, 4, 3, 1>,    // 80 KiB
      backward<Element, 264, 128, 64, 64, 2, 2, 1, 1>  // 89 KiB
  };
};

template <typename Element>
struct Tiles<Element, 192> {
  static constexpr Kernel kernels[] = {
      forward<Element, 260, 192, 64, 64, 4, 3, 1>,     // 96 KiB
      backward<Element, 150, 192, 64, 32, 1, 4, 1, 1>  // 85 KiB
  };
};

template <typename Element>
struct Tiles<Element, 256> {
  static constexpr Kernel kernels[] = {
      forward<Element, 250, 256, 64, 64, 4, 2, 1>,     // 96 KiB
      backward<Element, 120, 256, 32, 32, 2, 2, 1, 1>  // 71 KiB
  };
};

}  // namespace cutplan::fmha::sm89
