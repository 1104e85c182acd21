// Head dimensions up to 96.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {sm80::forward_kernel<Arch::sm80, Element, 96, 128, 64, 4, 4, 2>(340),
                                     sm80::backward_kernel<Arch::sm80, Element, 96, 64, 64, 2, 2, 2, 2>(282)};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
