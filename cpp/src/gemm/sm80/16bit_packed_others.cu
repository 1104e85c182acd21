// Weights of nf4, e2m1, int8 and e4m3, in the tiles of int4.
#include "gemm/sm80/packed_few.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = join(
    sm80::packed_few<Element, Codes::table4, 8, 2, 8, 3>(0.09), sm80::packed_few<Element, Codes::table4, 16, 4, 12, 2>(0.13),
    sm80::packed_few<Element, Codes::table4, 16, 2, 8, 2, Gate::separate>(0.12),
    sm80::packed_few<Element, Codes::integers8, 8, 2, 8, 2>(0.08),
    sm80::packed_few<Element, Codes::integers8, 16, 2, 8, 2>(0.12),
    sm80::packed_few<Element, Codes::integers8, 16, 2, 8, 2, Gate::separate>(0.12),
    sm80::packed_few<Element, Codes::e4m3, 8, 2, 8, 2>(0.08), sm80::packed_few<Element, Codes::e4m3, 16, 2, 8, 2>(0.12),
    sm80::packed_few<Element, Codes::e4m3, 16, 2, 8, 2, Gate::separate>(0.12));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
