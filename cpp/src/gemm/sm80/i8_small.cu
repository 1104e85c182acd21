// int8 operands in any layout and of any alignment.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr auto table = sm80::kernels<Arch::sm80, Element, 64, 64, 64, 3, 2, 2, 1>(all_layouts, 0.10);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
