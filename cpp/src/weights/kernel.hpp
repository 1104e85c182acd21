// The contract between the host side of packed weights and its kernels: what a kernel is told, and what it says of itself. Plain
// C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel.hpp"
#include "core/weights_layout.hpp"

namespace cutplan::weights {

/// A matrix of any strides, in elements: of groups or rows, and of columns.
struct Strided {
  void* data;
  DType type;
  std::int64_t row, column;

  constexpr explicit operator bool() const { return data != nullptr; }
};

/// Both ways.
struct Problem {
  std::int64_t n, k;
  Layout layout;
  WeightFormat format;
  DType scale_type;
  bool has_zero;
  std::uint8_t* packed;

  // To pack.
  Header header;
  Strided w, scale, zero;
  Strided permutation;  // its rows
  PackedAlong packed_along;
  CodeOrder order;
  bool signed_codes, zero_packed;
  int zero_bias;

  // To unpack.
  Strided out;
};

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  int sm_count = 0;  // SMs to occupy (host: threads)
};

enum class Op : std::uint8_t { pack, unpack };

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  Op op;
  /// Enqueues; throws DeviceError when the launch is refused.
  void (*run)(const Problem&, const Launch&);
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

/// `operand`: the type of packed weights, or of what they become.
constexpr Kernel kernel(Op op, Arch arch, DType operand, void (*run)(const Problem&, const Launch&)) {
  Kernel k{};
  k.op = op;
  k.arch = arch;
  k.operand = operand;
  k.math = Math::strict;
  k.alignment = 1;
  k.blocks_by_registers = 1;
  k.run = run;
  if (arch != Arch::host) {
    k.threads = 256;
    k.blocks_by_registers = 4;
    k.minimum_compute_capability = 80;
    k.maximum_compute_capability = any_newer;
  }
  return k;
}

}  // namespace cutplan::weights
