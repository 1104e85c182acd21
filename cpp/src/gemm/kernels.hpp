// The tables that the units of the smNN folders export. Which of them are in a build, registry.cpp says.
#pragma once

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

extern const KernelTable sm80_f16_large, sm80_f16_medium, sm80_f16_small;
extern const KernelTable sm80_bf16_large, sm80_bf16_medium, sm80_bf16_small;
extern const KernelTable sm89_f16, sm89_bf16;
extern const KernelTable sm90_f16_large, sm90_f16_medium, sm90_f16_small;
extern const KernelTable sm90_bf16_large, sm90_bf16_medium, sm90_bf16_small;

}  // namespace cutplan::gemm
