// The tables that the units of the smNN folders export, forward and backward kernels of one type and size class each. Which
// of them are in a build, registry.cpp says.
#pragma once

#include "fmha/kernel.hpp"

namespace cutplan::fmha {

extern const KernelTable sm80_f16_32, sm80_f16_64, sm80_f16_96, sm80_f16_128, sm80_f16_192, sm80_f16_256;
extern const KernelTable sm80_bf16_32, sm80_bf16_64, sm80_bf16_96, sm80_bf16_128, sm80_bf16_192, sm80_bf16_256;
extern const KernelTable sm80_wide;  // float32 and float64
extern const KernelTable sm89_f16_32, sm89_f16_64, sm89_f16_96, sm89_f16_128, sm89_f16_192, sm89_f16_256;
extern const KernelTable sm89_bf16_32, sm89_bf16_64, sm89_bf16_96, sm89_bf16_128, sm89_bf16_192, sm89_bf16_256;

}  // namespace cutplan::fmha
