// Head dimensions up to 192.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm80, Element, 192, 64, 64, 4, 3, 2>(327),  // 128 rows, 8 warps: 310 TFLOP/s
    sm80::backward_kernel<Arch::sm80, Element, 192, 64, 64, 2, 4, 2, 1>(226),
    sm80::backward_kernel<Arch::sm80, Element, 192, 64, 64, 2, 4, 1, 1>(200),  // fits an A100's 163 KiB
    sm80::backward_kernel<Arch::sm80, Element, 192, 64, 32, 1, 4, 1, 1>(150)   // fits the 99 KiB of smaller Ampere
};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
