// float32 operands, IEEE arithmetic.
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr auto table =
    join(sm80::wide_kernels<Arch::sm80, float, Math::strict, 128, 128, 32, 3, 2, 4, 1, 16>(all_layouts, 0.046),
         sm80::wide_kernels<Arch::sm80, float, Math::strict, 64, 64, 32, 3, 2, 2, 1, 16>(all_layouts, 0.0405),
         sm80::wide_kernels<Arch::sm80, float, Math::strict, 32, 32, 64, 6, 1, 1, 4, 16>(all_layouts, 0.0405),
         sm80::wide_kernels<Arch::sm80, float, Math::strict, 128, 128, 32, 3, 2, 4, 1, 4>(all_layouts, 0.04),
         sm80::wide_kernels<Arch::sm80, float, Math::strict, 64, 64, 32, 3, 2, 2, 1, 4>(all_layouts, 0.035));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
