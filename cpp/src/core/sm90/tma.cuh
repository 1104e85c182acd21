// Tiles of operands as TMA brings them and wgmma reads them: in boxes of 128 contiguous bytes, the widest swizzle.
#pragma once

#include <cutlass/arch/barrier.h>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/atom/mma_atom.hpp>
#include <cute/tensor.hpp>

#include <cstdint>

namespace cutplan::sm90 {

constexpr int run_bytes = 128;             // of a box: one row of the swizzle
constexpr int box_bytes = 64 * run_bytes;  // of 64 rows

/// An operand's tile, kExtent (M or N) by kTileK, in each of kStages slots: an MN-major tile is a row of boxes, each kTileK
/// deep.
template <typename Element, cute::GMMA::Major kMajor, int kExtent, int kTileK, int kStages>
constexpr auto slot_layout() {
  using Shape = cute::Shape<cute::Int<kExtent>, cute::Int<kTileK>, cute::Int<kStages>>;
  if constexpr (kMajor == cute::GMMA::Major::K) {
    return cute::tile_to_shape(cute::GMMA::Layout_K_SW128_Atom<Element>{}, Shape{},
                               cute::Step<cute::_1, cute::_2, cute::_3>{});
  } else {
    return cute::tile_to_shape(cute::GMMA::Layout_MN_SW128_Atom<Element>{}, Shape{},
                               cute::Step<cute::_2, cute::_1, cute::_3>{});
  }
}

/// What L2 does with a box once it is read.
constexpr auto keep = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_NORMAL),
               read_once = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_FIRST);

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  cute::prefetch_tma_descriptor(reinterpret_cast<const cute::TmaDescriptor*>(&map));
}

/// Starts the copy of a box to shared memory: of all `kBlocks` blocks of a cluster where there are more than one.
template <int kBlocks = 1>
__device__ __forceinline__ void load_box(const CUtensorMap& map, cutlass::arch::ClusterTransactionBarrier& full,
                                         std::uint64_t hint, void* to, int inner, int outer, int batch) {
  if constexpr (kBlocks > 1) {
    cute::SM90_TMA_LOAD_MULTICAST_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), (1 << kBlocks) - 1, hint, to,
                                           inner, outer, batch);
  } else {
    cute::SM90_TMA_LOAD_3D::copy(&map, reinterpret_cast<std::uint64_t*>(&full), hint, to, inner, outer, batch);
  }
}

/// Starts the copy of a box to global memory, as a group of its own.
__device__ __forceinline__ void store_box(const CUtensorMap& map, const void* box, int inner, int outer, int batch) {
  cute::SM90_TMA_STORE_3D::copy(&map, box, inner, outer, batch);
  cute::tma_store_arrive();
}

}  // namespace cutplan::sm90
