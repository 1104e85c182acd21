// int4 and uint4 weights.
#include "gemm/sm90/packed.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Codes codes = Codes::integers4;
static constexpr auto table = join(sm90::packed::kernels<Element, codes, 128, 4>(0.57, 2e-6),
                                   sm90::packed::kernels<Element, codes, 64, 7>(0.43, 1.5e-6),
                                   sm90::packed::kernels<Element, codes, 32, 10>(0.24, 1e-6),
                                   sm90::packed::kernels<Element, codes, 128, 4, Gate::separate>(0.57, 2e-6),
                                   sm90::packed::kernels<Element, codes, 32, 10, Gate::separate>(0.24, 1e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
