// For few rows, where the time is that of reading B: a tile of 64 rows wastes no shared memory, so that more of B is in
// flight. On an H200 and relative to cuBLAS, float16, 64 x 28672 x 8192 ran at 1.02 with 64 x 256 tiles, at 0.95 with 64 x
// 128 and at 0.74 with 128 x 128; 64 x 8192 x 8192, of fewer tiles than SMs, at 0.79, 1.00 and 0.74.
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::bfloat16_t, DType::bf16, 64, 256, 5, 1, pingpong, 0.48, 0.5e-6, false),
    CUTPLAN_SM90_GEMM(cutlass::bfloat16_t, DType::bf16, 64, 128, 8, 1, pingpong, 0.41, 0.5e-6, false)};
const KernelTable sm90_bf16_small = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
