#include "gemm/kernels.hpp"
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM80_GEMM(sm80, cutlass::half_t, DType::f16, 64, 64, 64, 4, 2, 2, 16, 0.30, false),
    CUTPLAN_SM80_GEMM(sm80, cutlass::half_t, DType::f16, 64, 64, 32, 3, 2, 2, 2, 0.08, false)};
const KernelTable sm80_f16_small = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
