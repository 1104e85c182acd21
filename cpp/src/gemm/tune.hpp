// Selection by measurement: the table of core/tuning.hpp, asked and filled for matrix products.
#pragma once

#include <vector>

#include "gemm/registry.hpp"

namespace cutplan::gemm {

/// Puts the choice that was measured to be the fastest in front, as preference.tune says. `choices` is rank()'s answer. With
/// Tune::measure and nothing known, measures on `device`; null: nothing is measured.
void apply_tuning(std::vector<Choice>& choices, const Request& request, const DeviceProperties& properties,
                  const PlanPreference& preference, const Device* device);

}  // namespace cutplan::gemm
