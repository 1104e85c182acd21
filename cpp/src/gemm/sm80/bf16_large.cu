#include "gemm/kernels.hpp"
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM80_GEMM(sm80, cutlass::bfloat16_t, DType::bf16, 128, 256, 64, 3, 2, 4, 16, 0.47, false)};
const KernelTable sm80_bf16_large = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
