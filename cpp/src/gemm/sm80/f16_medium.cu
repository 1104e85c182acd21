// Two tiles that differ in shared memory: 64 KiB, of which an A100 holds two blocks to an SM, and 96 KiB, of which a Hopper
// does and which is 7 % faster there.
#include "gemm/kernels.hpp"
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM80_GEMM(sm80, cutlass::half_t, DType::f16, 128, 128, 32, 4, 2, 2, 16, 0.43, false),
    CUTPLAN_SM80_GEMM(sm80, cutlass::half_t, DType::f16, 128, 128, 64, 3, 2, 2, 16, 0.455, false)};
const KernelTable sm80_f16_medium = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
