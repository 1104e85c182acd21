// Up to 64 rows at the speed of memory: 1.4 to 1.9 times as fast as a tile of 64 x 256 that is not swapped (H200).
#include "gemm/sm90/swap_ab.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table =
    join(sm90::swap_ab::kernels<Element, 16, 10>(sm90::swap_ab::both_layouts, 0.10, 0.2e-6),
         sm90::swap_ab::kernels<Element, 32, 8>(sm90::swap_ab::both_layouts, 0.26, 0.2e-6),
         sm90::swap_ab::kernels<Element, 64, 5>(sm90::swap_ab::both_layouts, 0.38, 0.2e-6),
         sm90::swap_ab::kernels<Element, 16, 5, Gate::separate>(sm90::swap_ab::both_layouts, 0.10, 0.2e-6),
         sm90::swap_ab::kernels<Element, 64, 3, Gate::separate>(sm90::swap_ab::both_layouts, 0.38, 0.2e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
