#include "core/cost.hpp"

namespace cutplan {
namespace {

/// Measured on an H200, of which other cards have their share: of their own clock and bandwidth, as the driver tells them.
constexpr double h200_clock = 1.98e9, h200_memory_bandwidth = 4.916736e12;
constexpr DeviceCosts h200 = {1.7e9, 3.9e12, 84e9, 1.3e-6, 2.5e-6, 4096, 0.61, 160, 80, std::size_t{16} << 20};

}  // namespace

DeviceCosts costs_of(const DeviceProperties& device) {
  DeviceCosts c = h200;
  const int cc = device.compute_capability;
  if (cc < 90) {
    c.tensor_flop = cc == 80 ? 2048 : 1024;
    c.mma_sync_share = 0.78;
  }
  if (cc != 80 && cc != 90) c.f64_flop = 3;
  if (device.clock_hz > 0) {
    c.clock *= device.clock_hz / h200_clock;
    c.l2_bandwidth_per_sm *= device.clock_hz / h200_clock;
  }
  if (device.memory_bandwidth > 0) c.memory_bandwidth *= device.memory_bandwidth / h200_memory_bandwidth;
  if (device.l2_bytes > 0) c.l2_share = device.l2_bytes / 15 * 4;  // 16 MB of the 60 of an H200
  return c;
}

}  // namespace cutplan
