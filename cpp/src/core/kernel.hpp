// What every family's kernels say of themselves, as data, and what follows from that alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "core/text.hpp"
#include "cutplan/device.hpp"
#include "cutplan/plan.hpp"

namespace cutplan {

inline constexpr int any_newer = 999;  // compute capability

/// The instruction that multiplies.
enum class Multiplier : std::uint8_t { host, simt, mma_sync, wgmma };

/// In which order the products of one element are summed. Two kernels of one order give the same bits for the same row and
/// column, in float32 before the epilogue, whatever their tiles.
struct Summation {
  Multiplier multiplier = Multiplier::host;
  int k = 0;       // of one instruction
  int step_k = 0;  // products that are summed apart before they join the rest; 0: all join one sum
  int shares = 1;  // of a step, summed side by side

  constexpr bool operator==(const Summation& o) const {
    return multiplier == o.multiplier && k == o.k && step_k == o.step_k && shares == o.shares;
  }
};

/// What the machinery of core/family.hpp knows of a kernel; a family's Kernel adds what only it knows.
struct KernelTraits {
  Arch arch;
  DType operand;
  Math math;  // of float32 operands; others: strict
  int tile_m, tile_n, stages;
  int alignment;              // bytes that addresses and strides of what it loads must be multiples of
  int threads;                // per block
  int blocks_by_registers;    // that the registers of an SM allow
  std::size_t shared_memory;  // dynamic, bytes per block, at most
  int minimum_compute_capability, maximum_compute_capability;
};

/// A unit's table: static data.
template <typename Kernel>
struct TableOf {
  const Kernel* data;
  std::size_t size;
  const Kernel* begin() const { return data; }
  const Kernel* end() const { return data + size; }
};

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
    case DType::fp8_e4m3: return "e4m3";
    case DType::fp8_e5m2: return "e5m2";
    case DType::i8: return "i8";
    default: return name(t);
  }
}

/// Where a type comes that the support table should have kept out: to take it for another would give wrong numbers.
[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_unexpected_type(DType t) {
  throw std::logic_error(text("cutplan: internal error: no case for elements of type ", name(t)));
}

/// Blocks that share an SM. Each takes 1 KiB of shared memory beyond its own, and an SM has as much more than a block may
/// have.
inline int resident_blocks(const KernelTraits& k, const DeviceProperties& device) {
  const auto by_memory = static_cast<int>((device.shared_memory + 1024) / (k.shared_memory + 1024));
  return std::max(1, std::min(k.blocks_by_registers, by_memory));
}

/// Relative error of n roundings of unit u in a row (Higham 2002, section 3.1).
inline double error_of_roundings(double n, double u) {
  return n * u < 0.5 ? n * u / (1 - n * u) : std::numeric_limits<double>::infinity();
}

/// (1 + x) (1 + y) - 1: of two relative errors, one after the other.
inline double both_errors(double x, double y) { return x + y + x * y; }

/// What rounding to an output type does: its unit roundoff, where it underflows, where it overflows.
inline void set_output_type(PrecisionGuarantee& p, DType t) {
  const auto set = [&p](int roundoff, int smallest, double largest) {
    p.rounding = std::ldexp(1.0, roundoff);
    p.smallest = std::ldexp(1.0, smallest);
    p.largest = largest;
  };
  switch (t) {
    case DType::f16: return set(-11, -25, 65504);
    case DType::bf16: return set(-8, -126, 3.38e38);
    case DType::f64: return set(-53, -1022, 1.79e308);
    case DType::f32: return set(-24, -126, 3.4e38);
    case DType::fp8_e4m3: return set(-4, -10, 448);
    case DType::fp8_e5m2: return set(-3, -17, 57344);
    case DType::i8: p.rounding = 0, p.smallest = 0.5, p.largest = 127; return;
    case DType::i32: p.rounding = 0, p.smallest = 0, p.largest = 2147483647; return;
    default: refuse_unexpected_type(t);
  }
}

/// One bound for several outputs.
inline void add_output_type(PrecisionGuarantee& p, DType t) {
  PrecisionGuarantee other;
  set_output_type(other, t);
  p.rounding = std::max(p.rounding, other.rounding);
  p.smallest = std::max(p.smallest, other.smallest);
  p.largest = std::min(p.largest, other.largest);
}

}  // namespace cutplan
