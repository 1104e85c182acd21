// float32 as TF32, rounded on its way to shared memory. wgmma reads TF32 with K contiguous only: rcr. H200, relative to
// cuBLAS: 4096 cubed 0.98, 8192 cubed 0.99, 2048 x 28672 x 8192 1.05 (128 x 256); 16 x 8192 x 8192 1.12 (swapped operands).
#include "gemm/kernels.hpp"
#include "gemm/sm90/gemm.cuh"
#include "gemm/sm90/swap_ab.cuh"

namespace cutplan::gemm {

using cutlass::tfloat32_t;
static constexpr Kernel kernels[] = {
    sm90::kernel<tfloat32_t, GemmLayout::rcr, 128, 256, 4, 2, sm90::Schedule::cooperative, false>(DType::f32, 0.40, 1.6e-6),
    sm90::kernel<tfloat32_t, GemmLayout::rcr, 128, 128, 6, 1, sm90::Schedule::pingpong, false>(DType::f32, 0.34, 0.4e-6),
    sm90::kernel<tfloat32_t, GemmLayout::rcr, 64, 256, 5, 1, sm90::Schedule::pingpong, false>(DType::f32, 0.24, 0.5e-6),
    sm90::swap_ab::kernel<tfloat32_t, GemmLayout::rcr, 16, 10, false>(DType::f32, 0.08, 1.5e-6),
    sm90::swap_ab::kernel<tfloat32_t, GemmLayout::rcr, 64, 5, false>(DType::f32, 0.18, 1.5e-6)};
const KernelTable sm90_f32 = {kernels, std::size(kernels)};

}  // namespace cutplan::gemm
