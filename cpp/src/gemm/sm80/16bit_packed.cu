// One row to eight: 16 columns a block, for many blocks; up to 16 rows: 64 columns share what is read of A.
#include "gemm/sm80/packed_few.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array<Kernel, 3> table = {sm80::packed_kernel<Element, 8, 1, 8, 4>(0.05),
                                                sm80::packed_kernel<Element, 8, 4, 8, 2>(0.05),
                                                sm80::packed_kernel<Element, 16, 4, 8, 2>(0.1)};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
