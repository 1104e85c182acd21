// Attention for float32 and float64: each arithmetic, forward and backward.
#include <array>

#include "fmha/sm80/wide.cuh"

namespace cutplan::fmha {

template <typename Arithmetic>
static constexpr Kernel forward(DType operand, Math math) {
  return sm80::wide_kernel<Arithmetic>(Pass::forward, operand, math);
}

template <typename Arithmetic>
static constexpr Kernel backward(DType operand, Math math) {
  return sm80::wide_kernel<Arithmetic>(Pass::backward, operand, math);
}

static constexpr std::array table = {
    forward<sm80::Tf32<false>>(DType::f32, Math::tf32),         backward<sm80::Tf32<false>>(DType::f32, Math::tf32),
    forward<sm80::Tf32<true>>(DType::f32, Math::tf32x3),        backward<sm80::Tf32<true>>(DType::f32, Math::tf32x3),
    forward<sm80::CudaCores<float>>(DType::f32, Math::strict),  backward<sm80::CudaCores<float>>(DType::f32, Math::strict),
    forward<sm80::CudaCores<double>>(DType::f64, Math::strict), backward<sm80::CudaCores<double>>(DType::f64, Math::strict)};
extern const KernelTable CUTPLAN_UNIT = {table.data(), table.size()};

}  // namespace cutplan::fmha
