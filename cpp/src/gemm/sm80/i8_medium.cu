// int8 operands in any layout: in a larger tile all but rcr would spill.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr auto table = sm80::kernels<Arch::sm80, Element, 128, 128, 64, 4, 2, 2, 16>(all_layouts, 0.86);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
