#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = sm80::kernels<Arch::sm80, Element, 128, 256, 64, 3, 2, 4, 16>(all_layouts, 0.47);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
