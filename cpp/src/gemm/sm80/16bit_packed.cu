// int4 and uint4 weights, and few rows: 32 columns a block, for many blocks; up to 16 rows: 64 columns share what is read of A.
#include "gemm/sm80/packed_few.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr Codes codes = Codes::integers4;
static constexpr auto table =
    join(sm80::packed_few<Element, codes, 8, 2, 8, 4>(0.071), sm80::packed_few<Element, codes, 8, 4, 8, 3>(0.083),
         sm80::packed_few<Element, codes, 16, 4, 8, 2>(0.166), sm80::packed_few<Element, codes, 16, 4, 16, 2>(0.15),
         sm80::packed_few<Element, codes, 8, 2, 8, 3, Gate::separate>(0.07),
         sm80::packed_few<Element, codes, 16, 2, 8, 2, Gate::separate>(0.14));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
