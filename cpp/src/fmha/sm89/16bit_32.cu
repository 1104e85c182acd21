// Head dimensions up to 32. A block has 99 KiB of shared memory on Ada, an SM 100; chosen to fit, not measured there.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {sm80::forward_kernel<Arch::sm89, Element, 32, 128, 64, 4, 4, 2>(221),
                                     sm80::backward_kernel<Arch::sm89, Element, 32, 64, 128, 4, 1, 2, 2>(180)};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
