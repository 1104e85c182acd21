// Up to 64 rows at the speed of memory. H200, B column-major, relative to cuBLAS (bfloat16): 16 x 8192 x 8192 1.06, 1 x 4096 x
// 4096 1.15; with a tile of 64 x 256 that is not swapped 0.77 and 0.62.
#include "gemm/kernels.hpp"
#include "gemm/sm90/swap_ab.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {CUTPLAN_SM90_SWAP_AB(cutlass::half_t, DType::f16, 16, 10, 0.10, false),
                                     CUTPLAN_SM90_SWAP_AB(cutlass::half_t, DType::f16, 32, 8, 0.26, false),
                                     CUTPLAN_SM90_SWAP_AB(cutlass::half_t, DType::f16, 64, 5, 0.38, false),
                                     CUTPLAN_SM90_SWAP_AB(cutlass::half_t, DType::f16, 16, 5, 0.10, true),
                                     CUTPLAN_SM90_SWAP_AB(cutlass::half_t, DType::f16, 64, 3, 0.38, true)};
const KernelTable sm90_f16_few = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
