// Head dimensions up to 96. A block has 99 KiB of shared memory on Ada, an SM 100; chosen to fit, not measured there.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm89, Element, 96, 64, 64, 4, 3, 2>(300),     // 48 KiB
    sm80::backward_kernel<Arch::sm89, Element, 96, 64, 64, 2, 2, 2, 1>(260)  // 97 KiB
};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
