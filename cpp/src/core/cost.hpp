// One model of a device, which every family's prediction of a kernel's time is made of.
#pragma once

#include "core/kernel.hpp"

namespace cutplan {

/// Seconds, bytes and operations. Only the order of predicted times matters, so what is the same for all kernels may be rough.
struct DeviceCosts {
  double clock;                // Hz that SMs run at under load
  double memory_bandwidth;     // bytes a second that kernels reach
  double l2_bandwidth_per_sm;  // bytes a second that one SM takes in
  double load_latency;         // from memory to shared memory
  double launch;               // of a kernel behind another
  double tensor_flop;          // dense 16-bit operations of an SM in a clock
  double mma_sync_share;       // of these that mma.sync reaches
  double simt_flop;            // float32 operations of an SM in a clock
  double f64_flop;             // float64 operations of an SM in a clock that is not by tensor cores
  std::size_t l2_share;        // bytes of operands that may be read again from L2 while others stream through
};

DeviceCosts costs_of(const DeviceProperties& device);

}  // namespace cutplan
