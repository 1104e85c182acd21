// float64 operands: the sm80 design with Hopper's larger instruction. A power limit sets the speed of large problems (H200):
// 128 x 64, two blocks an SM, of which one multiplies while the other fills its ring or writes, reached 0.94 to 1.00 of
// cuBLAS's, 128 x 128 0.92 to 0.97.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm90, double, strict, 128, 64, 16, 4, 4, 1, 1, 16, 0.061),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 64, 64, 16, 6, 2, 2, 1, 16, 0.06),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 32, 64, 32, 4, 1, 2, 2, 16, 0.057),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 16, 32, 64, 4, 1, 1, 4, 16, 0.0287),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 128, 128, 16, 4, 2, 4, 1, 8, 0.052),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 64, 64, 16, 4, 2, 2, 1, 8, 0.027),
                                     CUTPLAN_WIDE_GEMM(sm90, double, strict, 16, 32, 64, 4, 1, 1, 4, 8, 0.025)};
const KernelTable sm90_f64 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
