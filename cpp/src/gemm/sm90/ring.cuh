// What Hopper's GEMM kernels share: the ring of slots in shared memory that TMA fills and wgmma reads.
#pragma once

#include <cutlass/arch/barrier.h>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/atom/mma_atom.hpp>
#include <cute/tensor.hpp>

#include "gemm/sm90/tensor_map.hpp"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm90 {

using namespace cute;

constexpr bool a_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::rrr; }
constexpr bool b_is_k_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::ccr; }

constexpr int run_bytes = 128;  // of a K step, or of a box: one row of the widest swizzle

/// An operand's tile, kExtent (M or N) by kTileK, in each of kStages slots, in the order in which TMA boxes of 128 contiguous
/// bytes lie in shared memory: an MN-major tile is a row of boxes, each kTileK deep.
template <typename Element, GMMA::Major kMajor, int kExtent, int kTileK, int kStages>
constexpr auto slot_layout() {
  using Shape_ = Shape<Int<kExtent>, Int<kTileK>, Int<kStages>>;
  if constexpr (kMajor == GMMA::Major::K) {
    return tile_to_shape(GMMA::Layout_K_SW128_Atom<Element>{}, Shape_{}, Step<_1, _2, _3>{});
  } else {
    return tile_to_shape(GMMA::Layout_MN_SW128_Atom<Element>{}, Shape_{}, Step<_2, _1, _3>{});
  }
}

/// Position in the ring of slots; `phase` flips at each lap.
template <int kStages>
struct RingPosition {
  int slot = 0;
  std::uint32_t phase = 0;
  __device__ void advance() {
    if (++slot == kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
  __device__ void advance(int steps) {
    const int total = slot + steps, laps = total / kStages;
    slot = total - laps * kStages;
    phase ^= laps & 1;
  }
};

/// One box of an operand, to the `kBlocks` blocks of a cluster where there are more than one.
template <int kBlocks>
__device__ __forceinline__ void load_box(const CUtensorMap& map, cutlass::arch::ClusterTransactionBarrier& full,
                                         std::uint64_t hint, void* to, int inner, int outer, int batch) {
  if constexpr (kBlocks > 1) {
    SM90_TMA_LOAD_MULTICAST_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), (1 << kBlocks) - 1, hint, to, inner,
                                     outer, batch);
  } else {
    SM90_TMA_LOAD_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), hint, to, inner, outer, batch);
  }
}

/// What L2 does with a box once it is read.
constexpr auto keep = static_cast<std::uint64_t>(TMA::CacheHintSm90::EVICT_NORMAL),
               read_once = static_cast<std::uint64_t>(TMA::CacheHintSm90::EVICT_FIRST);

}  // namespace cutplan::gemm::sm90
