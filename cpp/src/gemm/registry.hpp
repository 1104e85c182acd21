// Which kernel serves a problem: the support table says what may run, the cost model what should.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

/// What any plan asks for: a resolved descriptor, where groups are a batch and the extent that they share counts all of
/// them.
struct Request {
  Request(const GemmDescriptor& g, std::optional<GroupedOver> over = std::nullopt) : g(g), over(over) {}

  GemmDescriptor g;
  std::optional<GroupedOver> over;  // none: not grouped
};

/// Of a resolved descriptor.
Request request(const GroupedGemmDescriptor& descriptor);

struct Choice {
  const Kernel* kernel;
  int split_k;     // slices, or stream_k
  double seconds;  // predicted
};

/// Kernels that can serve a request, fastest first. Empty: `reasons` says why, one line a cause.
std::vector<Choice> rank(const Request& request, const DeviceProperties& device, const PlanPreference& preference,
                         std::string* reasons);

KernelSku sku(const Kernel& kernel, int split_k, const Request& request);

/// What a kernel's name ends with where K is split: ".k4", ".stream_k".
std::string split_name(int split_k);

/// `sm_count`: of Launch.
std::size_t workspace_size(const Kernel& kernel, int split_k, const GemmDescriptor& descriptor, int sm_count);

PrecisionGuarantee precision(const Kernel& kernel, int split_k, const Request& request);

}  // namespace cutplan::gemm
