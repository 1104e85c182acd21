// Which kernel serves a problem: the support table says what may run, the cost model what should.
#pragma once

#include <string>
#include <vector>

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

struct Choice {
  const Kernel* kernel;
  int split_k;
  double seconds;  // predicted
};

/// Kernels that can serve a resolved descriptor, fastest first. Empty: `reasons` says why, one line a cause.
std::vector<Choice> rank(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                         const PlanPreference& preference, std::string* reasons);

KernelSku sku(const Kernel& kernel, int split_k, const GemmDescriptor& descriptor);

std::size_t workspace_size(const GemmDescriptor& descriptor, int split_k);

PrecisionGuarantee precision(const Kernel& kernel, int split_k, const GemmDescriptor& descriptor);

}  // namespace cutplan::gemm
