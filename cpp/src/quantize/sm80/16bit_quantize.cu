// Quantisation of 16-bit elements.
#include <cutlass/numeric_types.h>

#include "quantize/sm80/quantize.cuh"

namespace cutplan::quantize {
namespace {

constexpr Kernel table[] = {
    kernel(Op::quantize, Arch::sm80, cutplan::sm80::dtype_of<CUTPLAN_ELEMENT>, sm80::run<CUTPLAN_ELEMENT>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::quantize
