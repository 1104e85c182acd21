// Head dimensions up to 128.
#include <array>

#include "fmha/sm80/backward_launch.cuh"
#include "fmha/sm80/forward.cuh"

namespace cutplan::fmha {

using Element = CUTPLAN_ELEMENT;
static constexpr std::array table = {
    sm80::forward_kernel<Arch::sm80, Element, 128, 128, 64, 4, 4, 2>(380),      // 32 keys: 341 TFLOP/s
    sm80::forward_kernel<Arch::sm80, Element, 128, 128, 64, 4, 3, 2>(355),      // two blocks fit an A100's SM
    sm80::forward_kernel<Arch::sm80, Element, 128, 64, 64, 4, 4, 2>(320),       // less waste with few rows
    sm80::backward_kernel<Arch::sm80, Element, 128, 64, 128, 4, 2, 2, 1>(290),  // 64 keys, 2 blocks an SM: 279 TFLOP/s
    sm80::backward_kernel<Arch::sm80, Element, 128, 64, 128, 4, 2, 1, 1>(258),  // fits an A100's 163 KiB
    sm80::backward_kernel<Arch::sm80, Element, 128, 64, 64, 2, 2, 1, 1>(264)    // fits the 99 KiB of smaller Ampere
};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
