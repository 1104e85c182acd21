// float32 operands, three TF32 products. With few rows, where memory sets the pace, also for those who allow one: 80
// microseconds instead of the 75 that one product would take (16 x 8192 x 8192, H200).
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr auto table =
    join(sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 128, 128, 32, 3, 2, 4, 1, 16>(all_layouts, 0.064),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 64, 64, 32, 4, 2, 2, 1, 16>(all_layouts, 0.05),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 16, 32, 64, 8, 1, 1, 4, 16>(all_layouts, 0.035),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 128, 128, 32, 3, 2, 4, 1, 4>(all_layouts, 0.0545),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 64, 64, 32, 3, 2, 2, 1, 4>(all_layouts, 0.043),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32x3, 16, 32, 64, 8, 1, 1, 4, 4>(all_layouts, 0.021));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
