// Ada runs Ampere's instructions with 99 KiB of shared memory a block: 128 x 128 tiles with K steps of 64 and three stages
// take 96 KiB.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = sm80::kernels<Arch::sm89, Element, 128, 128, 64, 3, 2, 2, 16>(all_layouts, 0.455);
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
