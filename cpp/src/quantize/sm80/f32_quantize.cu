// Quantisation of float32.
#include "quantize/sm80/quantize.cuh"

namespace cutplan::quantize {
namespace {

constexpr Kernel table[] = {
    kernel(Op::quantize, Arch::sm80, DType::f32, sm80::run<float>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::quantize
