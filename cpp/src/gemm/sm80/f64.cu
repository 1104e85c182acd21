// float64 operands, tensor cores.
#include "gemm/kernels.hpp"
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_WIDE_GEMM(sm80, double, strict, 128, 128, 16, 4, 4, 2, 1, 16, 0.0319),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 64, 64, 16, 4, 2, 2, 1, 16, 0.0318),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 16, 32, 64, 4, 1, 1, 4, 16, 0.0286),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 128, 128, 16, 4, 2, 4, 1, 8, 0.025),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 64, 64, 16, 4, 2, 2, 1, 8, 0.0203),
                                     CUTPLAN_WIDE_GEMM(sm80, double, strict, 16, 32, 64, 4, 1, 1, 4, 8, 0.023)};
const KernelTable sm80_f64 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
