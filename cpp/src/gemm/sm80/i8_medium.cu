// int8 operands in the 128 x 128 tiles of 16 bits, with twice as much of K in the same bytes.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = std::int8_t;
static constexpr auto table = join(sm80::kernels<Arch::sm80, Element, 128, 128, 64, 4, 2, 2, 16>(all_layouts, 0.86),
                                   sm80::kernels<Arch::sm80, Element, 128, 128, 128, 3, 2, 2, 16>(all_layouts, 0.91));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
