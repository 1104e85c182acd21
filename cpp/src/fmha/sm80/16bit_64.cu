// Head dimensions up to 64.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm80, Element, 64, 128, 64, 4, 4, 2>(331),  // 3 blocks an SM, of 168 registers: 306 TFLOP/s
    sm80::backward_kernel<Arch::sm80, Element, 64, 64, 128, 4, 1, 2, 2>(312)  // 32 queries: 277 TFLOP/s
};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
