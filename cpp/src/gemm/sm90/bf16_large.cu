// One block or two to a cluster: two read B once, one serves groups of rows, where a cluster's rows would often be empty (both
// 0.96 of cuBLAS at 4096 cubed, H200). 64 uneven groups of rows: 1.29 x torch._grouped_mm with bfloat16.
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::bfloat16_t, DType::bf16, 128, 256, 4, 2, cooperative, 0.75, 2.4e-6, false),
    CUTPLAN_SM90_GEMM(cutlass::bfloat16_t, DType::bf16, 128, 256, 4, 1, cooperative, 0.745, 2.4e-6, false)};
const KernelTable sm90_bf16_large = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
