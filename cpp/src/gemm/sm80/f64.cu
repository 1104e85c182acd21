// float64 operands, tensor cores.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, double, strict, 128, 128, 16, 4, 4, 2, 16, 0.0319),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 64, 64, 16, 4, 2, 2, 16, 0.0318),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 128, 128, 16, 4, 2, 4, 8, 0.025),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 64, 64, 16, 4, 2, 2, 8, 0.0203)};
const KernelTable sm80_f64 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
