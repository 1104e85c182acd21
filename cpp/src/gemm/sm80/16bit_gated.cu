// Gated products: 64 columns each of B and b2 make 128 x 64 of D; the smaller tile takes operands of any alignment.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table =
    join(sm80::kernels<Arch::sm80, Element, 128, 128, 32, 4, 2, 2, 16, Gate::separate>(all_layouts, 0.43),
         sm80::kernels<Arch::sm80, Element, 64, 64, 32, 3, 2, 1, 2, Gate::separate>(all_layouts, 0.08));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
