// float32 operands, three TF32 products.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 128, 128, 32, 3, 2, 4, 16, 0.064),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 64, 64, 32, 4, 2, 2, 16, 0.05),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 128, 128, 32, 3, 2, 4, 4, 0.0545),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 64, 64, 32, 3, 2, 2, 4, 0.043)};
const KernelTable sm80_f32_tf32x3 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
