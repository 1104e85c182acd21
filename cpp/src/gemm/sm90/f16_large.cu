// One block or two to a cluster: two read B once (4096 cubed: 0.957 of cuBLAS, and 0.948), one serves groups of rows, where
// a cluster's rows would often be empty. 64 uneven groups, H200: 1.2 x torch._grouped_mm, and 1.05 with tiles of 128 x 128.
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

static constexpr Kernel kernels[] = {
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 128, 256, 4, 2, cooperative, 0.74, 2.6e-6, false),
    CUTPLAN_SM90_GEMM(cutlass::half_t, DType::f16, 128, 256, 4, 1, cooperative, 0.73, 2.6e-6, false)};
const KernelTable sm90_f16_large = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
