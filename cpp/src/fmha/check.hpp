// From arguments to a Problem: every rule that an operand must keep, checked on the host before anything is enqueued.
#pragma once

#include "fmha/kernel.hpp"

namespace cutplan::fmha {

/// Throws InvalidProblem or Unsupported for a descriptor that no kernel could serve.
void check(const FmhaDescriptor& descriptor);
void check(const FmhaBackwardDescriptor& descriptor);

/// The descriptor with its defaults filled in: heads_k, dim_v, o, grad; align is causal's where there is one. A backward
/// pass reads LSE, so its forward descriptor has one.
FmhaDescriptor resolve(FmhaDescriptor descriptor);
FmhaBackwardDescriptor resolve(FmhaBackwardDescriptor descriptor);

/// Throws the error of the first rule that is broken. Descriptors are resolved ones.
Problem check(const FmhaDescriptor& descriptor, Device device, const FmhaArguments& arguments);
BackwardProblem check(const FmhaBackwardDescriptor& descriptor, Device device, const FmhaBackwardArguments& arguments);

}  // namespace cutplan::fmha
