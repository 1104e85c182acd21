// The tiles of the sm89 kernels, by head dimension: Ampere's instructions with 99 KiB of shared memory a block and 100 KiB an
// SM. Chosen to fit, not measured on that card; on an H200 they run as their sm_90 build.
#pragma once

#include "fmha/sm80/tiles.cuh"

namespace cutplan::fmha::sm89 {

using namespace sm80;

/// As sm80::Tiles.
template <typename Element, int kDim>
struct Tiles;

template <typename Element>
struct Tiles<Element, 64> {
  static constexpr Kernel kernels[] = {
      forward_kernel<ForwardConfig<Arch::sm89, Element, 64, 128, 64, 4, 4, 2>>(),      // 48 KiB
      backward_kernel<BackwardConfig<Arch::sm89, Element, 64, 64, 128, 4, 1, 2, 1>>()  // 97 KiB
  };
};

template <typename Element>
struct Tiles<Element, 96> {
  static constexpr Kernel kernels[] = {
      forward_kernel<ForwardConfig<Arch::sm89, Element, 96, 64, 64, 4, 3, 2>>(),      // 48 KiB
      backward_kernel<BackwardConfig<Arch::sm89, Element, 96, 64, 64, 2, 2, 2, 1>>()  // 97 KiB
  };
};

template <typename Element>
struct Tiles<Element, 128> {
  static constexpr Kernel kernels[] = {
      forward_kernel<ForwardConfig<Arch::sm89, Element, 128, 64, 64, 4, 2, 2>>(),      // 48 KiB
      forward_kernel<ForwardConfig<Arch::sm89, Element, 128, 128, 64, 4, 3, 1>>(),     // 80 KiB
      backward_kernel<BackwardConfig<Arch::sm89, Element, 128, 64, 64, 2, 2, 1, 1>>()  // 89 KiB
  };
};

template <typename Element>
struct Tiles<Element, 192> {
  static constexpr Kernel kernels[] = {
      forward_kernel<ForwardConfig<Arch::sm89, Element, 192, 64, 64, 4, 3, 1>>(),      // 96 KiB
      backward_kernel<BackwardConfig<Arch::sm89, Element, 192, 64, 32, 1, 4, 1, 1>>()  // 85 KiB
  };
};

template <typename Element>
struct Tiles<Element, 256> {
  static constexpr Kernel kernels[] = {
      forward_kernel<ForwardConfig<Arch::sm89, Element, 256, 64, 64, 4, 2, 1>>(),      // 96 KiB
      backward_kernel<BackwardConfig<Arch::sm89, Element, 256, 32, 32, 2, 2, 1, 1>>()  // 71 KiB
  };
};

}  // namespace cutplan::fmha::sm89
