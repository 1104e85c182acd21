// From arguments to a Problem: every rule that an operand must keep, checked on the host before anything is enqueued.
#pragma once

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

/// Throws the error of the first rule that is broken. `alignment` is what the chosen kernel reads (Kernel::alignment).
Problem check(const GemmDescriptor& descriptor, Device device, int alignment, const GemmArguments& arguments);

/// Throws InvalidProblem or Unsupported for a descriptor that no kernel could serve.
void check(const GemmDescriptor& descriptor);

/// The descriptor with its defaults filled in: D's, C's and bias's type, alignment.
GemmDescriptor resolve(GemmDescriptor descriptor);

}  // namespace cutplan::gemm
