// The host backend's kernels.
#pragma once

#include "attention_ops/kernel.hpp"

namespace cutplan::attention_ops {

extern const KernelTable attention_ops_host_kernels;

}  // namespace cutplan::attention_ops
