// Gated products: 64 columns each of B and b2 make 128 x 64 of D.
#include "gemm/kernels.hpp"
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM80_GEMM(sm80, cutlass::bfloat16_t, DType::bf16, 128, 128, 32, 4, 2, 2, 16, 0.43, true),
    CUTPLAN_SM80_GEMM(sm80, cutlass::bfloat16_t, DType::bf16, 64, 64, 32, 3, 2, 1, 2, 0.08, true)};
const KernelTable sm80_bf16_gated = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
