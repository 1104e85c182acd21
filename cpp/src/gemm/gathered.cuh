// A copy of A for kernels of packed weights, in the workspace: its columns in the order of packed rows, its rows aligned.
#pragma once

#include "core/launch.hpp"
#include "gemm/kernel.hpp"

namespace cutplan::gemm {

/// Matrices that a copy has: groups share A's rows out, and each of a batch may have an order of its own.
inline std::int64_t gathered_batch(const Problem& p) { return p.groups.offsets != nullptr ? 1 : p.batch; }

/// One block a row of the copy: [batch][m][rows of packed weights, rounded up].
static __global__ void gather_columns(const __grid_constant__ Problem p, std::uint16_t* to) {
  const bool grouped = p.groups.offsets != nullptr;
  const std::int64_t row = blockIdx.x % p.m, of_a = grouped ? 0 : blockIdx.x / p.m;
  std::int64_t of_b = of_a;
  if (grouped) {
    while (of_b + 1 < p.batch && p.groups.offsets[of_b + 1] <= row) ++of_b;
  }
  const auto* packed = static_cast<const unsigned char*>(p.b.data) + of_b * p.b.batch_stride;
  const auto* permutation =
      p.layout.permutation != 0 ? reinterpret_cast<const std::int32_t*>(packed + p.layout.permutation) : nullptr;
  const auto* from = static_cast<const std::uint16_t*>(p.a.data) + of_a * p.a.batch_stride + row * p.a.ld;
  for (std::int64_t k = threadIdx.x; k < p.layout.k; k += blockDim.x) {
    const std::int64_t column = k >= p.k ? -1 : permutation != nullptr ? permutation[k] : k;
    // A number that is no column's is not followed.
    to[blockIdx.x * p.layout.k + k] = column < 0 || column >= p.k ? std::uint16_t{0} : from[column];
  }
}

/// The problem of the copy.
inline Problem with_gathered_a(const Problem& p, void* workspace) {
  Problem gathered = p;
  gathered.a.data = workspace;
  gathered.a.ld = p.layout.k;
  gathered.a.batch_stride = p.groups.offsets != nullptr ? 0 : p.m * p.layout.k;
  return gathered;
}

inline void gather_a(const Problem& p, const Launch& launch) {
  launch_kernel("launch of the kernel that gathers columns of a", launch.stream, {p.m * gathered_batch(p), 256},
                gather_columns, p, static_cast<std::uint16_t*>(launch.workspace));
}

}  // namespace cutplan::gemm
