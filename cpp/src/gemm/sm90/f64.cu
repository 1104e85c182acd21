// float64 operands: the sm80 design with Hopper's larger instruction.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm90, double, strict, 128, 128, 16, 4, 4, 2, 16, 0.061),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 64, 64, 16, 4, 2, 2, 16, 0.056),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 128, 128, 16, 4, 2, 4, 8, 0.052),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 64, 64, 16, 4, 2, 2, 8, 0.027)};
const KernelTable sm90_f64 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
