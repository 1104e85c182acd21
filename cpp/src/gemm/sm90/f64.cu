// float64 operands: the sm80 design with Hopper's larger instruction. A power limit sets the speed of large problems (H200):
// 128 x 64, two blocks an SM, of which one multiplies while the other fills its ring or writes, reached 0.94 to 1.00 of
// cuBLAS's, 128 x 128 0.92 to 0.97.
#include "gemm/sm80/wide.cuh"

namespace cutplan::gemm {

static constexpr auto table =
    join(sm80::wide_kernels<Arch::sm90, double, Math::strict, 128, 64, 16, 4, 4, 1, 1, 16>(all_layouts, 0.061),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 64, 64, 16, 6, 2, 2, 1, 16>(all_layouts, 0.06),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 32, 64, 32, 4, 1, 2, 2, 16>(all_layouts, 0.057),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 16, 32, 64, 4, 1, 1, 4, 16>(all_layouts, 0.0287),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 128, 128, 16, 4, 2, 4, 1, 8>(all_layouts, 0.052),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 64, 64, 16, 4, 2, 2, 1, 8>(all_layouts, 0.027),
         sm80::wide_kernels<Arch::sm90, double, Math::strict, 16, 32, 64, 4, 1, 1, 4, 8>(all_layouts, 0.025));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
