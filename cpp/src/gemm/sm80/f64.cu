// float64 operands, tensor cores.
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr auto table =
    join(sm80::wide_kernels<Arch::sm80, double, Math::strict, 128, 128, 16, 4, 4, 2, 1, 16>(all_layouts, 0.0319),
         sm80::wide_kernels<Arch::sm80, double, Math::strict, 64, 64, 16, 4, 2, 2, 1, 16>(all_layouts, 0.0318),
         sm80::wide_kernels<Arch::sm80, double, Math::strict, 16, 32, 64, 4, 1, 1, 4, 16>(all_layouts, 0.0286),
         sm80::wide_kernels<Arch::sm80, double, Math::strict, 128, 128, 16, 4, 2, 4, 1, 8>(all_layouts, 0.025),
         sm80::wide_kernels<Arch::sm80, double, Math::strict, 64, 64, 16, 4, 2, 2, 1, 8>(all_layouts, 0.0203),
         sm80::wide_kernels<Arch::sm80, double, Math::strict, 16, 32, 64, 4, 1, 1, 4, 8>(all_layouts, 0.023));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
