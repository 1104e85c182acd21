// Packed weights and more rows than a few.
#include "gemm/sm80/packed.cuh"

namespace cutplan::gemm {

using Element = CUTPLAN_ELEMENT;
static constexpr auto table = join(
    sm80::packed<Element, Codes::integers4, 128, 4>(0.195), sm80::packed<Element, Codes::integers4, 64, 5>(0.195),
    sm80::packed<Element, Codes::integers4, 128, 4, Gate::separate>(0.195),
    sm80::packed<Element, Codes::table4, 128, 4>(0.195), sm80::packed<Element, Codes::table4, 128, 4, Gate::separate>(0.195),
    sm80::packed<Element, Codes::integers8, 128, 4>(0.195),
    sm80::packed<Element, Codes::integers8, 128, 4, Gate::separate>(0.195),
    sm80::packed<Element, Codes::e4m3, 128, 4>(0.195), sm80::packed<Element, Codes::e4m3, 128, 4, Gate::separate>(0.195));
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::gemm
