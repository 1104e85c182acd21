#include <iterator>

#include "fmha/kernels.hpp"
#include "fmha/sm89/tiles.cuh"

namespace cutplan::fmha {

static constexpr const auto& kernels = sm89::Tiles<cutlass::half_t, 32>::kernels;
const KernelTable sm89_f16_32 = {kernels, std::size(kernels)};

}  // namespace cutplan::fmha
