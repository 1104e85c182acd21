// What the registries of all families know of kernels and element types.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/text.hpp"
#include "cutplan/device.hpp"
#include "cutplan/plan.hpp"

namespace cutplan {

inline constexpr int any_newer = 999;  // compute capability

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// SMs that a plan occupies; on the host: threads.
inline int occupied_sms(const PlanPreference& preference, const DeviceProperties& device) {
  return preference.sm_count > 0 ? std::min(preference.sm_count, device.sm_count) : device.sm_count;
}

/// As kernel names spell it.
constexpr const char* short_name(DType t) noexcept {
  switch (t) {
    case DType::f64: return "f64";
    case DType::f32: return "f32";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    default: return name(t);
  }
}

/// Where a type comes that the support table should have kept out: to take it for another would give wrong numbers.
[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_unexpected_type(DType t) {
  throw std::logic_error(text("cutplan: internal error: no case for elements of type ", name(t)));
}

/// Blocks that share an SM. Each takes 1 KiB of shared memory beyond its own, and an SM has as much more than a block may
/// have.
template <typename Kernel>
int resident_blocks(const Kernel& k, const DeviceProperties& device) {
  const auto by_memory = static_cast<int>((device.shared_memory + 1024) / (k.shared_memory + 1024));
  return std::max(1, std::min(k.blocks_by_registers, by_memory));
}

/// Why a device cannot run a kernel; null: it can.
template <typename Kernel>
const char* device_obstacle(const Kernel& k, const DeviceProperties& device) {
  const int cc = device.compute_capability;
  if (k.arch == Arch::host) return cc == 0 ? nullptr : "host kernels compute on the host alone";
  if (cc == 0) return "CUDA kernels need a CUDA device";
  if (cc < k.minimum_compute_capability || cc > k.maximum_compute_capability)
    return "the device is of another compute capability";
  if (k.shared_memory > device.shared_memory) return "the device has too little shared memory";
  return nullptr;
}

/// Relative error of n roundings of unit u in a row (Higham 2002, section 3.1).
inline double error_of_roundings(double n, double u) {
  return n * u < 0.5 ? n * u / (1 - n * u) : std::numeric_limits<double>::infinity();
}

/// What rounding to an output type does: its unit roundoff, where it underflows, where it overflows.
inline void set_output_type(PrecisionGuarantee& p, DType t) {
  switch (t) {
    case DType::f16:
      p.rounding = std::ldexp(1.0, -11);
      p.smallest = std::ldexp(1.0, -25);
      p.largest = 65504;
      break;
    case DType::bf16:
      p.rounding = std::ldexp(1.0, -8);
      p.smallest = std::ldexp(1.0, -126);
      p.largest = 3.38e38;
      break;
    case DType::f64:
      p.rounding = std::ldexp(1.0, -53);
      p.smallest = std::ldexp(1.0, -1022);
      p.largest = 1.79e308;
      break;
    case DType::f32:
      p.rounding = std::ldexp(1.0, -24);
      p.smallest = std::ldexp(1.0, -126);
      p.largest = 3.4e38;
      break;
    default: refuse_unexpected_type(t);
  }
}

}  // namespace cutplan
