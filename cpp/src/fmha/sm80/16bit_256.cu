// Head dimensions up to 256.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm80, Element, 256, 64, 64, 4, 2, 2>(323),
    sm80::forward_kernel<Arch::sm80, Element, 256, 128, 64, 8, 4, 1>(338),  // none of Q in registers: 322 TFLOP/s
    sm80::forward_kernel<Arch::sm80, Element, 256, 128, 64, 8, 2, 1>(312),  // fits an A100's 163 KiB
    sm80::backward_kernel<Arch::sm80, Element, 256, 64, 64, 2, 4, 2, 1>(237),
    sm80::backward_kernel<Arch::sm80, Element, 256, 64, 64, 2, 4, 1, 1>(219),  // fits an A100's 163 KiB
    sm80::backward_kernel<Arch::sm80, Element, 256, 32, 32, 2, 2, 1, 1>(187)   // fits the 99 KiB of smaller Ampere
};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
