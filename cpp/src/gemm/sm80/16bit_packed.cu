// int4 and uint4 weights, and few rows.
#include "gemm/sm80/packed_few.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Codes codes = Codes::integers4;
static constexpr auto table =
    join(sm80::packed_few<Element, codes, 8, 2, 8, 3>(0.098), sm80::packed_few<Element, codes, 8, 4, 16, 2>(0.09),
         sm80::packed_few<Element, codes, 16, 2, 8, 2>(0.148), sm80::packed_few<Element, codes, 16, 4, 12, 2>(0.14),
         sm80::packed_few<Element, codes, 8, 2, 8, 2, Gate::separate>(0.09),
         sm80::packed_few<Element, codes, 16, 2, 8, 2, Gate::separate>(0.14));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
