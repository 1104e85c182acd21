// Gated products, silu(x W1) * (x W2) at 4096 x 14336 x 4096, bfloat16, relative to eager torch on an H200: tiles of 128 x 64 of
// D in turns, whose epilogue is hidden, 1.15; 128 columns each of B and b2 for 128 x 128 of D 1.03.
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 128, 256, 4, 2, cooperative, 0.74, 4e-6, true),
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 128, 128, 6, 1, pingpong, 0.745, 0.52e-6, true)};
const KernelTable sm90_f16_gated = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
