// Zeros for an output that no kernel has anything to add up for.
#pragma once

#include "cutplan/tensor.hpp"

namespace cutplan {

/// Enqueues zeros for every element of `view` (on the host: writes them). The view's device must be current.
void fill_zero(const TensorView& view, Stream stream);

}  // namespace cutplan
