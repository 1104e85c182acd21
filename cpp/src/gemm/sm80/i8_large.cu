// int8 operands in the largest tile of 16 bits, with twice as much of K in the same bytes.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr auto table = sm80::kernels<Arch::sm80, Element, 128, 256, 128, 3, 2, 4, 16>(all_layouts, 0.94);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
