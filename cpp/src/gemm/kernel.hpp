// The contract between the host side of the GEMM family and its kernels: what a kernel is told, and what it says of itself.
// Plain C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cutplan/gemm.hpp"

namespace cutplan::gemm {

/// One checked problem, ready to run. Passed to device kernels by value. Leading dimensions and batch strides count
/// elements; a batch stride of 0 shares the matrix.
struct Problem {
  std::int64_t m, n, k, batch;
  const void* a;
  const void* b;
  const void* c;  // null: no C
  void* d;
  const void* bias;  // null: no bias
  std::int64_t lda, ldb, ldc, ldd;
  std::int64_t batch_a, batch_b, batch_c, batch_d;
  double alpha, beta;
  DType operand, d_type, c_type, bias_type;
  Activation activation;
};

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int split_k = 1;          // > 1: partial sums in the workspace, then one reduction pass
  int sm_count = 0;         // SMs to occupy (host: threads)
  bool sm_limited = false;  // the caller asked for fewer SMs than there are
  int repeats = 1;          // launches of the same, ready arguments: measure_launch() counts what one costs
};

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel {
  Arch arch;
  Backend backend;
  DType operand;
  GemmLayout layout;
  int tile_m, tile_n, tile_k, stages;
  int cluster_m, cluster_n;
  const char* schedule;
  int alignment;              // bytes that A's and B's addresses, leading dimensions and batch strides must be multiples of
  int threads;                // per block
  int blocks_by_registers;    // that the registers of an SM allow
  std::size_t shared_memory;  // dynamic, bytes per block
  int minimum_compute_capability, maximum_compute_capability;
  bool splits_k;           // honours Launch::split_k
  bool needs_k;            // cannot run K = 0
  double peak_fraction;    // of the dense peak (989 TFLOP/s) that it reached on an H200 at 4096 cubed
  double exposed_seconds;  // of each tile that nothing hides: filling the ring, the epilogue (measured, H200)

  /// Enqueues. Throws DeviceError when the launch is refused.
  void (*run)(const Kernel&, const Problem&, const Launch&);
  /// Once per plan, on the plan's device: raises the shared memory limit. Null where there is nothing to do.
  void (*prepare)(const Kernel&);
};

/// A unit's table.
struct KernelTable {
  const Kernel* data;
  std::size_t size;
  const Kernel* begin() const { return data; }
  const Kernel* end() const { return data + size; }
};

/// K range of one slice when K is split: multiples of the kernel's K tile, the last one shorter.
constexpr std::int64_t split_extent(std::int64_t k, int split_k, int tile_k) {
  const std::int64_t tiles = (k + tile_k - 1) / tile_k;
  return (tiles + split_k - 1) / split_k * tile_k;
}

}  // namespace cutplan::gemm
