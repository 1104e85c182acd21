// int8 operands along K: the tiles of 16 bits, with twice as much of K in the same bytes.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table = join(sm80::kernels<Arch::sm80, Element, 128, 256, 128, 3, 2, 4, 16>(along_k, 0.94),
                                   sm80::kernels<Arch::sm80, Element, 128, 128, 128, 3, 2, 2, 16>(along_k, 0.91),
                                   sm80::kernels<Arch::sm80, Element, 64, 64, 128, 4, 2, 2, 16>(along_k, 0.60));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
