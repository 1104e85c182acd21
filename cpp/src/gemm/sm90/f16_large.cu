#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 128, 256, 4, 2, cooperative, 0.74, 2.6e-6)};
const KernelTable sm90_f16_large = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
