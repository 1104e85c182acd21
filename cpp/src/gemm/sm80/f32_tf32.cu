// float32 operands, one TF32 product.
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr auto table =
    join(sm80::wide_kernels<Arch::sm80, float, Math::tf32, 128, 256, 32, 3, 2, 4, 1, 16>(all_layouts, 0.185),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32, 128, 128, 32, 3, 2, 2, 1, 16>(all_layouts, 0.18),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32, 64, 64, 32, 4, 2, 2, 1, 16>(all_layouts, 0.12),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32, 128, 128, 32, 3, 2, 4, 1, 4>(all_layouts, 0.11),
         sm80::wide_kernels<Arch::sm80, float, Math::tf32, 64, 64, 32, 3, 2, 2, 1, 4>(all_layouts, 0.079));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
