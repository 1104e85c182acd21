// Gradients by weights or inputs, in the tiles of one type; few rows take these, too.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Layouts<GemmLayout::rcr> along_k{};
static constexpr auto table =
    join(sm90::kernels<Element, 128, 256, 4, 2, sm90::Schedule::cooperative>(along_k, 1.75, 5.7e-6),
         sm90::kernels<Element, 128, 256, 4, 1, sm90::Schedule::cooperative>(along_k, 1.74, 5.7e-6),
         sm90::kernels<Element, 128, 128, 6, 1, sm90::Schedule::pingpong>(along_k, 1.66, 1.6e-6),
         sm90::kernels<Element, 64, 256, 5, 1, sm90::Schedule::pingpong>(along_k, 1.0, 1e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
