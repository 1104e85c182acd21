#include <iterator>

#include "fmha/kernels.hpp"
#include "fmha/sm80/tiles.cuh"

namespace cutplan::fmha {

static constexpr const auto& kernels = sm80::Tiles<cutlass::half_t, 32>::kernels;
const KernelTable sm80_f16_32 = {kernels, std::size(kernels)};

}  // namespace cutplan::fmha
