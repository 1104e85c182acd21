// int8 operands: the tiles of 16 bits, with twice as much of K in the same bytes. The last takes operands of any alignment.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table =
    join(sm80::kernels<Arch::sm80, Element, 128, 256, 128, 3, 2, 4, 16>(along_k, 0.94),
         sm80::kernels<Arch::sm80, Element, 128, 128, 64, 4, 2, 2, 16>(along_k, 0.86),
         sm80::kernels<Arch::sm80, Element, 128, 128, 128, 3, 2, 2, 16>(along_k, 0.91),
         sm80::kernels<Arch::sm80, Element, 64, 64, 128, 4, 2, 2, 16>(along_k, 0.60),
         sm80::kernels<Arch::sm80, Element, 64, 64, 64, 3, 2, 2, 1>(along_k, 0.10),
         sm80::kernels<Arch::sm80, Element, 128, 128, 64, 4, 2, 2, 16, Gate::separate>(along_k, 0.86));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
