// Gated products, in the tiles of 16 bits.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table =
    join(sm90::kernels<Element, 128, 256, 4, 2, sm90::Schedule::cooperative, Gate::separate>(along_k, 1.6, 7e-6),
         sm90::kernels<Element, 128, 128, 6, 1, sm90::Schedule::pingpong, Gate::separate>(along_k, 1.5, 2e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
