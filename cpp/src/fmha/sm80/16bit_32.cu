// Head dimensions up to 32.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm80, Element, 32, 128, 64, 4, 4, 2>(221),  // as head dimension 64: 163 TFLOP/s
    sm80::backward_kernel<Arch::sm80, Element, 32, 64, 128, 4, 1, 2, 2>(180)};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
