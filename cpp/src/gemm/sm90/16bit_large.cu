// One block or two to a cluster: two read B once, one serves groups of rows, where a cluster's rows would often be empty.
#include "gemm/sm90/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table =
    join(sm90::kernels<Element, 128, 256, 4, 2, sm90::Schedule::cooperative>(all_layouts, 0.75, 2.4e-6),
         sm90::kernels<Element, 128, 256, 4, 1, sm90::Schedule::cooperative>(all_layouts, 0.745, 2.4e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
