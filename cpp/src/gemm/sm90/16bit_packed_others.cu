// Weights of nf4, e2m1, int8 and e4m3.
#include "gemm/sm90/packed.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = join(sm90::packed::kernels<Element, Codes::table4, 128, 4>(0.5, 2e-6),
                                   sm90::packed::kernels<Element, Codes::table4, 32, 10>(0.2, 1e-6),
                                   sm90::packed::kernels<Element, Codes::table4, 128, 4, Gate::separate>(0.5, 2e-6),
                                   sm90::packed::kernels<Element, Codes::integers8, 128, 4>(0.5, 2e-6),
                                   sm90::packed::kernels<Element, Codes::integers8, 32, 7>(0.2, 1e-6),
                                   sm90::packed::kernels<Element, Codes::integers8, 128, 4, Gate::separate>(0.5, 2e-6),
                                   sm90::packed::kernels<Element, Codes::e4m3, 128, 4>(0.5, 2e-6),
                                   sm90::packed::kernels<Element, Codes::e4m3, 32, 7>(0.2, 1e-6),
                                   sm90::packed::kernels<Element, Codes::e4m3, 128, 4, Gate::separate>(0.5, 2e-6));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
