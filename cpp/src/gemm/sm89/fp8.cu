// fp8 operands, in the tile of 16 bits with twice as much of K in the same bytes; the second takes operands of any alignment.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table = join(sm80::kernels<Arch::sm89, Element, 128, 128, 128, 3, 2, 2, 16>(along_k, 0.91),
                                   sm80::kernels<Arch::sm89, Element, 64, 64, 64, 3, 2, 2, 1>(along_k, 0.10));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
