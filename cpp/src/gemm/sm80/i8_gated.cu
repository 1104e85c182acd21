// Gated products of int8 operands: 64 columns each of B and b2 make 128 x 64 of D.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr auto table =
    sm80::kernels<Arch::sm80, Element, 128, 128, 64, 4, 2, 2, 16, Gate::separate>(all_layouts, 0.86);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
