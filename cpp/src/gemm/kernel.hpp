// The contract between the host side of the GEMM family and its kernels: what a kernel is told, and what it says of itself.
// Plain C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel.hpp"
#include "cutplan/grouped_gemm.hpp"

namespace cutplan::gemm {

/// One checked problem, ready to run; D is row-major (a column-major one has been transposed: canonical()). Passed to device
/// kernels by value. Leading dimensions and batch strides count elements; a batch stride of 0 shares the matrix. What is not
/// there is null.
struct Problem {
  std::int64_t m, n, k, batch;
  const void *a, *b, *b2;
  const void *c, *bias, *bias2, *residual;
  void *d, *aux;  // aux: written or read, as `auxiliary` says
  const float *row_scale, *column_scale;
  std::int64_t lda, ldb, ldb2, ldc, ldd, ld_residual, ld_aux;
  std::int64_t batch_a, batch_b, batch_b2, batch_c, batch_d, batch_residual, batch_aux;
  double alpha, beta;
  DType operand, d_type, c_type, bias_type, residual_type, aux_type;
  Activation activation;
  Auxiliary auxiliary;
  Gate gate;
  bool bias_over_m;
  // Groups: `batch` of them. Over m: a, d and row_scale have the rows of all, and m counts those; b, bias and column_scale
  // step from group to group. Over k: a and b have the k of all, d steps.
  const std::int32_t* offsets;  // [batch + 1]; null: not grouped
  GroupedOver grouped_over;
  std::int64_t batch_bias, batch_column_scale;  // 0 without groups
  // An interleaved gate is two views: of every other column of B, and of every other bias.
  std::int64_t b_step, bias_step;  // elements from a column of a row-major B, from a bias to the next: 1, or 2
  // Elements from a column to the next of what may be broadcast to D: 1, or any number where rows are all alike or it is 0.
  std::int64_t c_step, residual_step, aux_step;
};

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

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  GemmLayout layout;  // with a row-major D
  Gate gate;
  int tile_k;
  int cluster_m, cluster_n;
  const char* schedule;
  bool splits_k;           // honours Launch::split_k
  bool streams_k;          // honours stream_k in its place
  bool slices_meet;        // of K: in a cluster, of up to 8 blocks, and not in a workspace
  bool groups;             // honours Problem::offsets
  double peak_fraction;    // of the dense peak (989 TFLOP/s) that it reached on an H200 at 4096 cubed
  double exposed_seconds;  // of each tile that nothing hides: filling the ring, the epilogue (measured, H200)
  Summation summation;

  /// Enqueues. Throws DeviceError when the launch is refused.
  void (*run)(const Kernel&, const Problem&, const Launch&);
  /// Once per plan, on the plan's device: raises the shared memory limit. Null where there is nothing to do.
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

/// K range of one slice when K is split: multiples of the kernel's K tile, the last one shorter.
constexpr std::int64_t split_extent(std::int64_t k, int split_k, int tile_k) {
  const std::int64_t tiles = (k + tile_k - 1) / tile_k;
  return (tiles + split_k - 1) / split_k * tile_k;
}

}  // namespace cutplan::gemm
