// The tiles of 16 bits, with twice as much of K in the same bytes.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table =
    join(sm90::kernels<Element, 128, 256, 4, 2, sm90::Schedule::cooperative>(along_k, 1.75, 4.2e-6),
         sm90::kernels<Element, 128, 256, 4, 1, sm90::Schedule::cooperative>(along_k, 1.74, 4.2e-6),
         sm90::kernels<Element, 128, 128, 6, 1, sm90::Schedule::pingpong>(along_k, 1.66, 1.3e-6),
         sm90::kernels<Element, 64, 256, 5, 1, sm90::Schedule::pingpong>(along_k, 1.0, 1e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
