// The plans of quantisation, and what each F says of itself.
#include "quantize/family.hpp"

#include "core/fill.hpp"
#include "core/plan.hpp"

namespace cutplan {

template class Plan<QuantizeDescriptor, QuantizeArguments>;
template class Plan<DequantizeDescriptor, DequantizeArguments>;

namespace quantize {
namespace {

double count(std::int64_t n) { return static_cast<double>(n); }

template <typename G>
double elements_of(const G& g) {
  return count(g.batch) * count(g.rows) * count(g.columns);
}
template <typename G>
double scales_of(const G& g) {
  if (g.granularity == Granularity::tensor) return 1;
  return count(g.batch) * count(ceil_div(g.rows, group_rows(g))) * count(ceil_div(g.columns, group_columns(g)));
}

/// Elements of many blocks of threads share a scale.
bool is_shared(const Q& g) { return g.granularity == Granularity::tensor || g.granularity == Granularity::column; }

PrecisionGuarantee guarantee() {
  PrecisionGuarantee p;
  p.math = p.accumulator = DType::f32;
  p.deterministic = p.bit_stable_on_same_hardware = true;
  return p;
}

}  // namespace

template <typename F, typename G>
void Common<F, G>::write(tuning::Key& key, const G& g) {
  key.field("batch", g.batch).field("rows", g.rows).field("columns", g.columns);
  key.field("from", name(F::from(g))).field("to", name(F::to(g))).field("granularity", name(g.granularity));
  key.field("group_size", g.group_size).word("along_columns", g.axis == -2).word("asymmetric", !g.symmetric);
}
template void Common<Quantize, QuantizeDescriptor>::write(tuning::Key&, const QuantizeDescriptor&);
template void Common<Dequantize, DequantizeDescriptor>::write(tuning::Key&, const DequantizeDescriptor&);

double Quantize::bytes(const Q& g) {
  const double passes = is_shared(g) && !g.static_scale ? 2 : 1;
  return elements_of(g) * (passes * bits(g.x) + bits(g.dtype)) / 8 + scales_of(g) * 4;
}

/// Two floats a scale: how far its elements reach below and above 0.
std::size_t Quantize::workspace(const Kernel& k, const Q& g, int, int) {
  if (k.arch == Arch::host || g.static_scale || !is_shared(g)) return 0;
  const std::int64_t scales = g.granularity == Granularity::tensor ? 1 : g.batch * g.columns;
  return static_cast<std::size_t>(scales) * 2 * sizeof(float);
}

void Quantize::write_options(tuning::Key& key, const Q& g) { key.word("static_scale", g.static_scale).word("amax", g.amax); }

/// Of (data - zero) scale in exact arithmetic, of magnitude scale. An integer is a half at most from x times the inverse of the
/// scale, whose rounding, with those of scale and zero, moves it by 255 times some 2^-24. Of fp8 it is half a step of the
/// subnormal numbers, or a relative error.
PrecisionGuarantee Quantize::precision(const Kernel&, int, const Q& g) {
  PrecisionGuarantee p = guarantee();
  p.largest = 3.4e38;
  switch (g.dtype) {
    case DType::fp8_e4m3:
      p.evaluation = 0x1p-10;
      p.rounding = 0x1p-4 + 0x1p-20;
      break;
    case DType::fp8_e5m2:
      p.evaluation = 0x1p-17;
      p.rounding = 0x1p-3 + 0x1p-20;
      break;
    default: p.evaluation = 0.5 + 0x1p-12;
  }
  return p;
}

void Quantize::run(const Selection<Kernel>& s, const Problem& p, const QA& args, const CallSite& site) {
  for (int i = 0; i < site.repeats; ++i) {
    // Blocks of threads meet there.
    if (p.amax && p.given && p.shared && s.kernel->arch != Arch::host) fill_zero(args.amax, site.stream);
    s.kernel->run(p, {site.stream, site.workspace, s.sm_count});
  }
}

double Dequantize::bytes(const D& g) { return elements_of(g) * (bits(g.dtype) + bits(g.out)) / 8 + scales_of(g) * 4; }

/// Of magnitude |(data - zero) scale|: the product, and its rounding to the type of out.
PrecisionGuarantee Dequantize::precision(const Kernel&, int, const D& g) {
  PrecisionGuarantee p = guarantee();
  set_output_type(p, g.out);
  p.evaluation = g.out == DType::f32 ? 0 : 0x1p-24;
  return p;
}

void Dequantize::run(const Selection<Kernel>& s, const Problem& p, const DA&, const CallSite& site) {
  if (p.batch == 0 || p.rows == 0 || p.columns == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->run(p, {site.stream, site.workspace, s.sm_count});
}

}  // namespace quantize

std::vector<KernelSku> quantize_registry() {
  using namespace quantize;
  std::vector<KernelSku> all = Family<Quantize>::registry([](const Kernel& k) {
    QuantizeDescriptor g;
    g.x = k.operand;
    return g;
  });
  for (const KernelSku& sku : Family<Dequantize>::registry([](const Kernel& k) {
         DequantizeDescriptor g;
         g.out = k.operand;
         return g;
       }))
    all.push_back(sku);
  return all;
}

}  // namespace cutplan
