// How exact a kernel's results are.
#include <algorithm>
#include <cmath>

#include "gemm/family.hpp"
#include "gemm/host.hpp"

namespace cutplan::gemm {

using std::int64_t;

namespace {

/// What computing A B loses: roundings of unit u in a row, and the relative error of each product from rounding its factors.
struct Arithmetic {
  double roundings, of_factors;
};

Arithmetic arithmetic(const Kernel& k, const GemmDescriptor& g) {
  const int64_t length = g.k;
  const auto terms = static_cast<double>(length);
  // Integers are summed exactly, and codes on the host in float64: what is left is one rounding of the sum to float32.
  if (k.operand == DType::i8 || (k.arch == Arch::host && is_quantized(k.operand))) return {1, 0};
  if (k.arch == Arch::host) {
    // An unpacked weight is a float32 product of a float32 difference.
    return {static_cast<double>(host_sum_roundings(length)), g.weights.format ? std::ldexp(1.0, -23) : 0};
  }
  // A tensor core aligns a block of at least 8 products and the running sum to the largest of them, drops what does not fit
  // into 24 bits, and truncates the total: 10 errors of up to 2 u for 8 products (Fasi, Higham, Mikaitis and Pranesh 2021,
  // section 4).
  if (k.operand == DType::f16 || k.operand == DType::bf16) {
    if (!g.weights.format) return {terms * 20 / 8, 0};
    // Sums of a step are multiplied by a scale and added. Of codes, decoded to 16 bits, zeros are subtracted in two steps: what is
    // left after the nearest integer, which is rounded, and the difference, which is, too, and no less than half of either. Entries
    // of a table are rounded once.
    const double unit = k.operand == DType::f16 ? 0x1p-11 : 0x1p-8;
    const bool table = *g.weights.format == WeightFormat::nf4;
    return {terms * 20 / 8 + 2 * std::ceil(terms / std::min<double>(k.tile_k, 32)), g.weights.zero ? 2 * unit
                                                                                    : table        ? unit
                                                                                                   : 0};
  }
  if (is_float8(k.operand)) {
    // Of 32 products and the running sum, aligned to the largest of them, 2^-13 of that is dropped of each.
    constexpr double of_instruction = 33 * 0x1p-13;
    const double step = k.math == Math::fast ? terms : std::min(terms, static_cast<double>(k.tile_k));
    return {k.math == Math::fast ? 0 : std::ceil(terms / k.tile_k), std::ceil(step / 32) * of_instruction};
  }
  // CUDA cores and float64 tensor cores round each multiply-add to nearest.
  if (k.operand == DType::f64 || k.math == Math::strict) return {terms, 0};
  // As with 16 bits, but 4 products and 6 errors. TF32 rounds each factor by 2^-11. Of a pair of TF32 numbers 2^-22 is
  // missing, and three products leave out that of the two small halves, another 2^-22.
  if (k.math == Math::tf32) return {terms * 12 / 4, std::ldexp(1.0, -10) + std::ldexp(1.0, -22)};
  // Those are summed over one K step by the tensor core, and the steps' sums added to nearest.
  const double of_step = std::min(terms, static_cast<double>(k.tile_k)) * 3 * 12 / 4;
  return {of_step + std::ceil(terms / k.tile_k), std::ldexp(1.0, -20)};
}

}  // namespace

PrecisionGuarantee Common::precision(const Kernel& kernel, int split, const Request& r) {
  const GemmDescriptor& g = r.asked;
  const Epilogue& e = g.epilogue;
  const bool host = kernel.arch == Arch::host, wide = g.a == DType::f64;
  const double unit = std::ldexp(1.0, wide ? -53 : -24);  // unit roundoff of the accumulator
  PrecisionGuarantee p;
  p.math = g.a;
  p.accumulator = wide ? DType::f64 : g.a == DType::i8 ? DType::i32 : DType::f32;
  p.deterministic = true;  // every kernel sums each element in one fixed order
  p.bit_stable_on_same_hardware = true;
  const Arithmetic sum = arithmetic(kernel, g);
  // Adding up slices of K costs one rounding a slice. Stream-K's pieces have at least one step of K each, whose roundings
  // within a longer sum it takes the place of.
  const double roundings = sum.roundings + host_epilogue_roundings + (e.row_scale || g.a_scale ? 1 : 0) +
                           (e.column_scale || g.b_scale ? 1 : 0) + (e.residual ? 2 : 0) + (e.out_scale ? 2 : 0) +
                           (split > 1 ? split : 0);
  p.accumulation = both_errors(error_of_roundings(roundings, unit), sum.of_factors);
  switch (e.activation) {
    case Activation::none:
    case Activation::relu: break;
    case Activation::gelu_erf:
    case Activation::gelu_tanh: p.lipschitz = 1.13; break;
    case Activation::silu: p.lipschitz = 1.1; break;
  }
  const bool bounded = std::isfinite(p.accumulation);
  // On a device: exp and a division within a few units each, or erf within 2.5 units (epilogue.cuh).
  if (e.activation > Activation::relu) p.evaluation = (host ? host_activation_roundings : 16) * unit;
  if (e.aux == Auxiliary::gradient) {
    // x times a derivative of at most `lipschitz`, whose error is absolute.
    if (e.activation > Activation::relu) p.evaluation = (host ? host_derivative_roundings : 32) * unit;
    p.accumulation = both_errors(p.accumulation, error_of_roundings(1, unit));
    if (bounded) p.evaluation *= 1 + p.accumulation;
  } else if (e.gate != Gate::none) {
    // activation(x) is at most x: relative to both magnitudes, the errors of the two factors and of their product.
    p.accumulation =
        both_errors(both_errors(p.lipschitz * p.accumulation + p.evaluation, p.accumulation), error_of_roundings(1, unit));
    p.lipschitz = 1;
    p.evaluation = 0;
  }
  if (g.d == DType::i32) p.accumulation = 0;  // the sums themselves
  set_output_type(p, g.d);
  for (const auto type : further_types) {
    if (g.*type != DType::none) add_output_type(p, g.*type);
  }
  if (e.aux == Auxiliary::store) add_output_type(p, g.aux);
  // Products below the accumulator's normal range may be flushed, one by one.
  p.smallest += static_cast<double>(g.k) * std::ldexp(1.0, wide ? -1022 : -126);
  return p;
}

}  // namespace cutplan::gemm
