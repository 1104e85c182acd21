// The tables that the units of the smNN folders export. Which of them are in a build, registry.cpp says.
#pragma once

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

extern const KernelTable sm80_f16_large, sm80_f16_medium, sm80_f16_small;
extern const KernelTable sm80_bf16_large, sm80_bf16_medium, sm80_bf16_small;
extern const KernelTable sm80_f16_gated, sm80_bf16_gated;
extern const KernelTable sm80_f32_tf32, sm80_f32_tf32x3, sm80_f32_strict, sm80_f64;
extern const KernelTable sm89_f16, sm89_bf16;
extern const KernelTable sm90_f16_large, sm90_f16_medium, sm90_f16_small;
extern const KernelTable sm90_bf16_large, sm90_bf16_medium, sm90_bf16_small;
extern const KernelTable sm90_f16_few, sm90_bf16_few;
extern const KernelTable sm90_f16_gated, sm90_bf16_gated, sm90_f32, sm90_f64;

}  // namespace cutplan::gemm
