// Blocks of a cluster, and grids that follow each other.
#pragma once

#include <cute/arch/cluster_sm90.hpp>

#include <cstdint>

namespace cutplan::sm90 {

/// This block's number in a cluster of kBlocks.
template <int kBlocks>
__device__ __forceinline__ int cluster_rank() {
  return kBlocks == 1 ? 0 : static_cast<int>(cute::block_rank_in_cluster());
}

/// A barrier of all threads of a cluster, which makes no writes visible. It takes warps whose lanes arrive together.
__device__ __forceinline__ void cluster_sync_relaxed() {
  __syncwarp();
  cute::cluster_arrive_relaxed();
  cute::cluster_wait();
}

/// 16 bytes of another block's shared memory (cute::set_block_rank makes their address).
__device__ __forceinline__ void load_shared_cluster(std::uint32_t from, float (&to)[4]) {
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
               : "r"(from)
               : "memory");
}

/// Until the grid in front of this one, under whose end it may have started, has ended and its writes are visible.
__device__ __forceinline__ void await_previous_grid() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Lets the next grid start once all blocks have come here.
__device__ __forceinline__ void launch_next_grid() { asm volatile("griddepcontrol.launch_dependents;"); }

}  // namespace cutplan::sm90
