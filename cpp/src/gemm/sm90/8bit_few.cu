// Up to 64 rows at the speed of memory.
#include "gemm/sm90/swap_ab.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table = join(sm90::swap_ab::kernels<Element, 16, 10>(along_k, 0.24, 0.2e-6),
                                   sm90::swap_ab::kernels<Element, 32, 8>(along_k, 0.40, 0.2e-6),
                                   sm90::swap_ab::kernels<Element, 64, 5>(along_k, 0.61, 0.2e-6),
                                   sm90::swap_ab::kernels<Element, 16, 5, Gate::separate>(along_k, 0.24, 0.2e-6),
                                   sm90::swap_ab::kernels<Element, 64, 3, Gate::separate>(along_k, 0.61, 0.2e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
