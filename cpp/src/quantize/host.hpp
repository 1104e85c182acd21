// The host backend's kernels.
#pragma once

#include "quantize/kernel.hpp"

namespace cutplan::quantize {

extern const KernelTable quantize_host_kernels;

}  // namespace cutplan::quantize
