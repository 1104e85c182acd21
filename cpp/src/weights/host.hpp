// The host backend's kernels.
#pragma once

#include "weights/kernel.hpp"

namespace cutplan::weights {

extern const KernelTable weights_host_kernels;

}  // namespace cutplan::weights
