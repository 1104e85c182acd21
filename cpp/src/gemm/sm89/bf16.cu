// Ada runs Ampere's instructions with 99 KiB of shared memory a block: 128 x 128 tiles with K steps of 64 and three stages
// take 96 KiB.
#include "gemm/kernels.hpp"
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM80_GEMM(sm89, cutlass::bfloat16_t, DType::bf16, 128, 128, 64, 3, 2, 2, 16, 0.455, false)};
const KernelTable sm89_bf16 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
