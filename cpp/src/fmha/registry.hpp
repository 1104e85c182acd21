// Which kernel serves a problem: the support table says what may run, the cost model what should.
#pragma once

#include <string>
#include <vector>

#include "fmha/kernel.hpp"

namespace cutplan::fmha {

struct Choice {
  const Kernel* kernel;
  int splits;  // as in Launch
  std::size_t workspace;
  double seconds;  // predicted
};

/// Kernels that can serve a resolved descriptor, fastest first. Empty: `reasons` says why, one line a cause.
std::vector<Choice> rank(const FmhaDescriptor& descriptor, const DeviceProperties& properties,
                         const PlanPreference& preference, std::string* reasons);
std::vector<Choice> rank(const FmhaBackwardDescriptor& descriptor, const DeviceProperties& properties,
                         const PlanPreference& preference, std::string* reasons);

/// Whether gradients are summed in one fixed order.
bool deterministic(const Kernel& kernel, int splits);

KernelSku sku(const Kernel& kernel, int splits, const FmhaDescriptor& descriptor);
KernelSku sku(const Kernel& kernel, int splits, const FmhaBackwardDescriptor& descriptor);

PrecisionGuarantee precision(const Kernel& kernel, int splits, const FmhaDescriptor& descriptor);
PrecisionGuarantee precision(const Kernel& kernel, int splits, const FmhaBackwardDescriptor& descriptor);

}  // namespace cutplan::fmha
