// The second takes operands of any alignment.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = join(sm80::kernels<Arch::sm80, Element, 64, 64, 64, 4, 2, 2, 16>(all_layouts, 0.30),
                                   sm80::kernels<Arch::sm80, Element, 64, 64, 32, 3, 2, 2, 2>(all_layouts, 0.08));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
