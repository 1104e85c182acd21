// A ring of slots in shared memory, between a thread that fills them and warpgroups that read them.
#pragma once

#include <cutlass/arch/barrier.h>

#include <cstdint>

namespace cutplan::sm90 {

/// Position in a ring; `phase` flips at each lap.
template <int kSlots>
struct RingPosition {
  int slot = 0;
  std::uint32_t phase = 0;
  __device__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      phase ^= 1;
    }
  }
  __device__ void advance(int steps) {
    const int total = slot + steps, laps = total / kSlots;
    slot = total - laps * kSlots;
    phase ^= laps & 1;
  }
};

/// The barriers of a ring, in shared memory: a slot is `full` when what the producer announced has arrived, and `empty` when
/// all consumers are done with it.
template <int kSlots, typename Full = cutlass::arch::ClusterTransactionBarrier>
struct Ring {
  Full full[kSlots];
  cutlass::arch::ClusterBarrier empty[kSlots];

  /// By one thread. `consumers` arrive for each slot when they are done, and `producers` when it is full.
  __device__ __forceinline__ void init(int consumers, int producers = 1) {
    for (int i = 0; i < kSlots; ++i) {
      full[i].init(producers);
      empty[i].init(consumers);
    }
  }
  __device__ __forceinline__ void await_full(const RingPosition<kSlots>& at) { full[at.slot].wait(at.phase); }
  /// Whether it is at this moment.
  __device__ __forceinline__ bool is_full(const RingPosition<kSlots>& at) { return full[at.slot].test_wait(at.phase); }
  __device__ __forceinline__ void await_empty(const RingPosition<kSlots>& at) { empty[at.slot].wait(at.phase ^ 1); }

  /// The barrier of an empty slot that `bytes` are to arrive in.
  __device__ __forceinline__ Full& fill(const RingPosition<kSlots>& at, std::uint32_t bytes) {
    Full& barrier = full[at.slot];
    await_empty(at);
    barrier.arrive_and_expect_tx(bytes);
    return barrier;
  }

  /// A warpgroup is done with a slot, says one of its 128 threads: to each block of the cluster where each writes into all.
  template <int kBlocks = 1>
  __device__ __forceinline__ void release(int slot, int thread) {
    if constexpr (kBlocks == 1) {
      if (thread == 0) empty[slot].arrive();
    } else {
      empty[slot].arrive(thread, thread < kBlocks);
    }
  }
};

}  // namespace cutplan::sm90
