// The contract between the host side of quantisation and its kernels: what a kernel is told, and what it says of itself. Plain
// C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/kernel.hpp"
#include "cutplan/quantize.hpp"

namespace cutplan::quantize {

/// Elements: the last dimension is contiguous, strides are in elements (of packed ones in bytes).
struct Matrix {
  void* data;
  std::int64_t batch, row;
};

/// One value for each scale. Null: there are none.
template <typename T>
struct PerScale {
  T* data;
  std::int64_t batch, row, column;  // strides; row and column count groups

  constexpr explicit operator bool() const { return data != nullptr; }
};

/// Both ways: `x` is what is quantised, or what is written.
struct Problem {
  std::int64_t batch, rows, columns;
  std::int64_t group_rows, group_columns;   // that share a scale
  std::int64_t scales_down, scales_across;  // of a matrix; that of element (i, j) is (i / group_rows, j / group_columns)
  Matrix x, data;
  DType type;  // of data
  bool symmetric;
  bool given;       // the scale is an input
  bool whole;       // one scale for all of the batch
  bool by_columns;  // columns have scales of their own
  bool shared;      // many blocks of threads have elements of one scale: that of all, or of a whole column
  bool wide;        // both matrices in pieces of 16 bytes of x, and so are groups
  PerScale<float> scale, amax;
  PerScale<std::int32_t> zero;
};

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int sm_count = 0;  // SMs to occupy (host: threads)
};

enum class Op : std::uint8_t { quantize, dequantize };

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  Op op;
  /// Enqueues; throws DeviceError when the launch is refused.
  void (*run)(const Problem&, const Launch&);
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

/// `operand`: the type of x.
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

}  // namespace cutplan::quantize
