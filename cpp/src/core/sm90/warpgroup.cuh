// Barriers of consumer warpgroups. Named barriers 1 and 2 are the turns of two warpgroups, 3 + w is warpgroup w's own.
#pragma once

#include "core/sm80/barrier.cuh"

namespace cutplan::sm90 {

__device__ __forceinline__ void sync_warpgroup() {
  cutplan::sm80::named_barrier_sync<128>(3 + static_cast<int>(threadIdx.x / 128));
}

/// Ping-pong: warpgroups 0 and 1 take turns at the main loop.
__device__ __forceinline__ void await_turn(int group) { cutplan::sm80::named_barrier_sync<256>(1 + group); }
__device__ __forceinline__ void pass_turn(int group) { cutplan::sm80::named_barrier_arrive<256>(1 + group); }

}  // namespace cutplan::sm90
