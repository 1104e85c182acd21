// For 64 rows, where the time is that of reading B: a tile of 64 rows wastes no shared memory, so that more of B is in
// flight, 1.3 times as fast as 128 x 128 at 64 x 28672 x 8192 (H200). Fewer tiles want swapped operands, and A column-major
// takes this one for any few rows.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = sm90::kernels<Element, 64, 256, 5, 1, sm90::Schedule::pingpong>(all_layouts, 0.88, 2e-6);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
