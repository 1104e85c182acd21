// float32 as TF32, rounded on its way to shared memory. wgmma reads TF32 with K contiguous only: rcr. H200, relative to
// cuBLAS: 4096 cubed 0.98, 8192 cubed 0.99, 2048 x 28672 x 8192 1.05 (128 x 256); 16 x 8192 x 8192 1.12 (swapped operands).
#include "gemm/sm90/gemm.cuh"
#include "gemm/sm90/swap_ab.cuh"

namespace cutplan::gemm {

using cutlass::tfloat32_t;
using sm90::Schedule;
static constexpr Layouts<GemmLayout::rcr> rcr{};
static constexpr auto table = join(sm90::kernels<tfloat32_t, 128, 256, 4, 2, Schedule::cooperative>(rcr, 0.40, 1.6e-6),
                                   sm90::kernels<tfloat32_t, 128, 128, 6, 1, Schedule::pingpong>(rcr, 0.34, 0.4e-6),
                                   sm90::kernels<tfloat32_t, 64, 256, 5, 1, Schedule::pingpong>(rcr, 0.24, 0.5e-6),
                                   sm90::swap_ab::kernels<tfloat32_t, 16, 10>(rcr, 0.08, 1.5e-6),
                                   sm90::swap_ab::kernels<tfloat32_t, 64, 5>(rcr, 0.18, 1.5e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
