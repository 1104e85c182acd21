// What single and grouped plans share: choosing a kernel and launching it.
#pragma once

#include "gemm/registry.hpp"

namespace cutplan::gemm {

/// What a plan keeps of the kernel that it chose.
struct Selection {
  Device device;
  const Kernel* kernel;
  int split_k;
  int sm_count;
  bool sm_limited;
  std::size_t workspace_bytes;
  KernelSku sku;
  PrecisionGuarantee precision;
  PlanPreference preference;

  /// Enqueues a checked problem that has elements to write.
  void run(const Problem& problem, Stream stream, Workspace workspace, int repeats = 1) const;
};

/// Throws Unsupported with the reason where no kernel can serve the request.
Selection select(const Request& request, Device device, const PlanPreference& preference);

}  // namespace cutplan::gemm
