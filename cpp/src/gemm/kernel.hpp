// The contract between the host side of the GEMM family and its kernels: what a kernel is told, and what it says of itself.
// Plain C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"
#include "core/kernel.hpp"
#include "core/weights_layout.hpp"
#include "cutplan/grouped_gemm.hpp"

namespace cutplan::gemm {

/// A matrix in memory; strides count elements, and what is not there has no data. A and B: `ld` is from a run to the next,
/// `step` from an element of a run to the next, 1 but where an interleaved gate takes every other one. D and what the epilogue
/// reads and writes: element (row, column) of D is at row * ld + column * step, so that a vector has ld = 0 or step = 0.
struct Matrix {
  void* data;
  std::int64_t ld, step, batch_stride;  // batch_stride: 0 shares it
  DType type;
};

/// An output after the first: the columns of D from `begin` on, up to the next one's, are its. `d` counts them as D does: its
/// address is that of column 0, were it there. Begins are multiples of 8, so that 8 neighbours from one on have one output.
struct FurtherOutput {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();  // there is none
  Matrix d = {};
};

/// What the epilogue does (terms.hpp).
struct Terms {
  double alpha, beta;
  Matrix row_scale, column_scale, c, bias, bias2, residual, aux;  // aux: written or read, as `auxiliary` says
  Matrix column_scale2;                                           // of a gate's second product
  Activation activation;
  Auxiliary auxiliary;
  Gate gate;
  const float* out_scale;  // what D is divided by; null: 1
  float* amax;             // the greatest |D| before that; null: nobody asks
};

/// What terms cannot make good: scales that change along K, and zeros. Element (line, k) of A or B, lines being A's rows and B's
/// columns, is (code - zero at line zero.ld) times the scale at (line >> shift) scale.ld + (k / scale_group) scale.step.
struct Coding {
  Matrix scale, zero;  // batch_stride steps through a batch, or groups
  int shift;
};

/// Groups: `batch` of them. Over m: a, d and row_scale have the rows of all, and m counts those; b, bias and column_scale step
/// from group to group. Over k: a and b have the k of all, d steps.
struct Groups {
  const std::int32_t* offsets;  // [batch + 1]; null: not grouped
  GroupedOver over;
};

/// One checked problem, ready to run; D is row-major (a column-major one has been transposed: canonical()). Passed to device
/// kernels by value.
struct Problem {
  std::int64_t m, n, k, batch;
  Matrix a, b, b2, d;  // b2: a gate's second B, an interleaved one's too
  FurtherOutput further[most_outputs - 1];
  Coding of_a, of_b, of_b2;
  Matrix a_sums, b_sums;  // on devices, with zeros: int32 in the bits of floats (epilogue.cuh)
  WeightPacking weights;  // of b and b2, if it has a format; then their step is from a column to the next, in columns
  weights::Layout layout;
  Terms terms;
  Groups groups;
};

/// Which output has a column of D.
CUTPLAN_HOST_DEVICE int output_of(const Problem& p, std::int64_t column) {
  int output = 0;
  while (output < most_outputs - 1 && p.further[output].begin <= column) ++output;
  return output;
}
/// Its matrix: element (row, column of D) of any output is at row * ld + column.
CUTPLAN_HOST_DEVICE const Matrix& matrix_of(const Problem& p, int output) {
  return output == 0 ? p.d : p.further[output - 1].d;
}
CUTPLAN_HOST_DEVICE std::int64_t begin_of(const Problem& p, int output) {
  return output == 0 ? 0 : p.further[output - 1].begin;
}
/// The column of D at which it ends, if another output begins there.
CUTPLAN_HOST_DEVICE std::int64_t end_of(const Problem& p, int output) {
  return output == most_outputs - 1 ? std::numeric_limits<std::int64_t>::max() : p.further[output].begin;
}

/// In place of a number of slices: blocks share out tiles and K evenly (sm90/stream_k.cuh).
inline constexpr int stream_k = 0;

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int split_k = 1;          // > 1: partial sums in the workspace, then one reduction pass; or stream_k
  int sm_count = 0;         // SMs to occupy (host: threads)
  bool sm_limited = false;  // the caller asked for fewer SMs than there are
  int repeats = 1;          // launches of the same, ready arguments: measure_launch() counts what one costs
};

/// Whether the sums of codes are not yet those of what they stand for.
CUTPLAN_HOST_DEVICE bool has_zeros(const Problem& p) { return p.of_a.zero.data != nullptr || p.of_b.zero.data != nullptr; }

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  DType operand_b;    // `operand` is A's; u8: packed weights
  GemmLayout layout;  // with a row-major D
  Gate gate;
  int tile_k;
  int cluster_m, cluster_n;
  const char* schedule;
  bool splits_k;           // honours Launch::split_k
  bool streams_k;          // honours stream_k in its place
  bool slices_meet;        // of K: in a cluster, of up to 8 blocks, and not in a workspace
  bool groups;             // honours Problem::groups
  bool scales_along_k;     // honours Coding::scale
  bool zeros;              // honours Coding::zero
  std::uint32_t formats;   // of packed weights, one bit each
  bool permutes;           // honours an order of packed rows
  bool gathers;            // from a copy of A in the workspace (gathered.cuh)
  double peak_fraction;    // of the dense peak (989 TFLOP/s) that it reached on an H200 at 4096 cubed
  double exposed_seconds;  // of each tile that nothing hides: filling the ring, the epilogue (measured, H200)
  Summation summation;

  /// Enqueues. Throws DeviceError when the launch is refused.
  void (*run)(const Kernel&, const Problem&, const Launch&);
  /// Once per plan, on the plan's device: raises the shared memory limit. Null where there is nothing to do.
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

/// Of the workspace of a kernel that gathers: rows of A as long as those of packed weights are many.
constexpr std::size_t gathered_bytes(const weights::Layout& l, std::int64_t rows) {
  return static_cast<std::size_t>(weights::rounded_up(rows * l.k * 2, weights::part_alignment));
}

/// Of the workspace of a kernel that honours zeros: the sums of A's rows and B's columns.
constexpr std::size_t zero_sums_bytes(std::int64_t m, std::int64_t n, std::int64_t batch) {
  return (static_cast<std::size_t>((m + n) * batch) * sizeof(std::int32_t) + 255) / 256 * 256;
}

/// K range of one slice when K is split: multiples of the kernel's K tile, the last one shorter.
constexpr std::int64_t split_extent(std::int64_t k, int split_k, int tile_k) {
  const std::int64_t tiles = (k + tile_k - 1) / tile_k;
  return (tiles + split_k - 1) / split_k * tile_k;
}

}  // namespace cutplan::gemm
