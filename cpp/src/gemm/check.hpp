// From arguments to a Problem: every rule that an operand must keep, checked on the host before anything is enqueued.
#pragma once

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

/// Throws the error of the first rule that is broken. `alignment` is what the chosen kernel reads (Kernel::alignment).
Problem check(const GemmDescriptor& descriptor, Device device, int alignment, const GemmArguments& arguments);
Problem check(const GroupedGemmDescriptor& descriptor, Device device, int alignment, const GroupedGemmArguments& arguments);

/// Throws InvalidProblem or Unsupported for a descriptor that no kernel could serve.
void check(const GemmDescriptor& descriptor);
void check(const GroupedGemmDescriptor& descriptor);

/// The part of it that concerns the epilogue of any plan.
void check_epilogue(DType operand, const Epilogue& epilogue);

/// The descriptor with its defaults filled in: D's, C's, bias's, residual's and aux's type, alignment.
GemmDescriptor resolve(GemmDescriptor descriptor);
GroupedGemmDescriptor resolve(GroupedGemmDescriptor descriptor);

/// The same product with a row-major D, which is what kernels write: a column-major D is the row-major D^T = B^T A^T.
/// check() returns the Problem of this descriptor.
GemmDescriptor canonical(GemmDescriptor descriptor);

}  // namespace cutplan::gemm
