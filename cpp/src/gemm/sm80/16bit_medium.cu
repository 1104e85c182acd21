// Two tiles that differ in shared memory: 64 KiB, of which an A100 holds two blocks to an SM, and 96 KiB, of which a Hopper
// does and which is 7 % faster there.
#include "gemm/sm80/gemm.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = join(sm80::kernels<Arch::sm80, Element, 128, 128, 32, 4, 2, 2, 16>(all_layouts, 0.43),
                                   sm80::kernels<Arch::sm80, Element, 128, 128, 64, 3, 2, 2, 16>(all_layouts, 0.455));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
