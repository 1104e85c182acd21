#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::bfloat16_t, DType::bf16, 128, 128, 6, 1, pingpong, 0.745, 0.52e-6, false)};
const KernelTable sm90_bf16_medium = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
