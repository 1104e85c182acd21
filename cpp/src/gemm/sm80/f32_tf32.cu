// float32 operands, one TF32 product.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, float, tf32, 128, 256, 32, 3, 2, 4, 1, 16, 0.185),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32, 128, 128, 32, 3, 2, 2, 1, 16, 0.18),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32, 64, 64, 32, 4, 2, 2, 1, 16, 0.12),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32, 128, 128, 32, 3, 2, 4, 1, 4, 0.11),
                                     CUTPLAN_WIDE_GEMM(sm80, float, tf32, 64, 64, 32, 3, 2, 2, 1, 4, 0.079)};
const KernelTable sm80_f32_tf32 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
