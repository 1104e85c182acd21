// For 64 rows, where the time is that of reading B: a tile of 64 rows wastes no shared memory, so that more of B is in
// flight. On an H200 and relative to cuBLAS, bfloat16, 64 x 28672 x 8192 ran at 0.97, with swapped operands at 0.94 and with
// 128 x 128 at 0.74; fewer tiles want swapped operands, and A column-major takes this one for any few rows.
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 64, 256, 5, 1, pingpong, 0.88, 2e-6, false)};
const KernelTable sm90_f16_small = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
