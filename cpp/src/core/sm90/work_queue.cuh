// How a producer tells consumers what to work on: a ring of items in shared memory. What finds work, divisions and the
// sizes of groups, then runs once and ahead.
#pragma once

#include "core/sm90/ring.cuh"

namespace cutplan::sm90 {

template <int kDepth>
using QueueRing = Ring<kDepth, cutlass::arch::ClusterBarrier>;

/// One thread's end of a queue. Of its ring's consumers each is a warp.
template <typename Item, int kDepth>
struct WorkQueue {
  Item* items;  // in shared memory, like the ring
  QueueRing<kDepth>& ring;
  RingPosition<kDepth> at;

  __device__ __forceinline__ void publish(const Item& item) {
    ring.await_empty(at);
    items[at.slot] = item;
    ring.full[at.slot].arrive();
    at.advance();
  }

  /// The next item of this warp, which takes every `step`'th. `thread` tells its lanes apart.
  __device__ __forceinline__ void fetch(Item& item, int step, int thread) {
    ring.await_full(at);
    item = items[at.slot];
    __syncwarp();
    if (thread % 32 == 0) ring.empty[at.slot].arrive();
    at.advance(step);
  }
};

}  // namespace cutplan::sm90
