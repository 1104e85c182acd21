// Sums of each K step join the others in float32, which takes a second set of registers for 64 rows: 128 columns are what is left.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table =
    join(sm90::kernels<Element, 256, 128, 3, 2, sm90::Schedule::cooperative, Gate::none, true>(along_k, 1.37, 2.5e-6),
         sm90::kernels<Element, 256, 128, 3, 1, sm90::Schedule::cooperative, Gate::none, true>(along_k, 1.36, 2.5e-6),
         sm90::kernels<Element, 128, 128, 5, 1, sm90::Schedule::cooperative, Gate::none, true>(along_k, 1.33, 1.6e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
