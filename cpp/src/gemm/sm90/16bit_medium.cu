#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = sm90::kernels<Element, 128, 128, 6, 1, sm90::Schedule::pingpong>(all_layouts, 0.745, 0.52e-6);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
