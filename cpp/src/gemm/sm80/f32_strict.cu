// float32 operands, IEEE arithmetic.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, float, strict, 128, 128, 32, 3, 2, 4, 1, 16, 0.046),
                                     CUTPLAN_WIDE_GEMM(sm80, float, strict, 64, 64, 32, 3, 2, 2, 1, 16, 0.0405),
                                     CUTPLAN_WIDE_GEMM(sm80, float, strict, 32, 32, 64, 6, 1, 1, 4, 16, 0.0405),
                                     CUTPLAN_WIDE_GEMM(sm80, float, strict, 128, 128, 32, 3, 2, 4, 1, 4, 0.04),
                                     CUTPLAN_WIDE_GEMM(sm80, float, strict, 64, 64, 32, 3, 2, 2, 1, 4, 0.035)};
const KernelTable sm80_f32_strict = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
