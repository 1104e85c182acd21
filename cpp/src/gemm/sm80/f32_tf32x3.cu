// float32 operands, three TF32 products. With few rows, where memory sets the pace, also for those who allow one: 80
// microseconds instead of the 75 that one product would take (16 x 8192 x 8192, H200).
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 128, 128, 32, 3, 2, 4, 1, 16, 0.064),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 64, 64, 32, 4, 2, 2, 1, 16, 0.05),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 16, 32, 64, 8, 1, 1, 4, 16, 0.035),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 128, 128, 32, 3, 2, 4, 1, 4, 0.0545),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 64, 64, 32, 3, 2, 2, 1, 4, 0.043),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32x3, 16, 32, 64, 8, 1, 1, 4, 4, 0.021)};
const KernelTable sm80_f32_tf32x3 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
