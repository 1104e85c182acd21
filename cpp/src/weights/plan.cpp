// The plans of packed weights, and what each F says of itself.
#include "weights/family.hpp"

#include "core/plan.hpp"

namespace cutplan {

template class Plan<PackWeightsDescriptor, PackWeightsArguments>;
template class Plan<UnpackWeightsDescriptor, UnpackWeightsArguments>;

namespace weights {
namespace {

double count(std::int64_t n) { return static_cast<double>(n); }

PrecisionGuarantee guarantee() {
  PrecisionGuarantee p;
  p.math = p.accumulator = DType::f32;
  p.deterministic = p.bit_stable_on_same_hardware = true;
  return p;
}

}  // namespace

template <typename F, typename G>
void Common<F, G>::write(tuning::Key& key, const G& g) {
  key.field("n", g.n).field("k", g.k).field("format", name(g.format)).field("group_size", g.group_size);
  key.field("from", name(F::from(g))).field("to", name(F::to(g))).field("scale", name(g.scale));
  key.word("zero", has_zero(g)).word("permutation", g.permutation);
}
template void Common<PackWeights, PackWeightsDescriptor>::write(tuning::Key&, const PackWeightsDescriptor&);
template void Common<UnpackWeights, UnpackWeightsDescriptor>::write(tuning::Key&, const UnpackWeightsDescriptor&);

double PackWeights::bytes(const P& g) { return 2 * count(layout_of(g).total); }

void PackWeights::write_options(tuning::Key& key, const P& g) {
  if (g.packed_along != PackedAlong::none) key.field("packed_along", name(g.packed_along));
}

/// Codes are taken as they are; of magnitude scale. Floats of nf4 and e2m1 are half of the widest step from the next entry, which
/// the rounded quotient moves by 2^-23.
PrecisionGuarantee PackWeights::precision(const Kernel&, int, const P& g) {
  PrecisionGuarantee p = guarantee();
  p.largest = 3.4e38;
  if (g.w == DType::f16 || g.w == DType::bf16 || g.w == DType::f32)
    p.evaluation = g.format == WeightFormat::nf4 ? 0.1519037 + 0x1p-22 : 1 + 0x1p-20;
  return p;
}

void PackWeights::run(const Selection<Kernel>& s, const Problem& p, const PA&, const CallSite& site) {
  for (int i = 0; i < site.repeats; ++i) s.kernel->run(p, {site.stream, s.sm_count});
}

double UnpackWeights::bytes(const U& g) { return count(layout_of(g).total) + count(g.n) * count(g.k) * bits(g.out) / 8; }

/// Of magnitude |decoded - zero| scale: the difference, where zero is no integer, the product, and its rounding to the type of out.
PrecisionGuarantee UnpackWeights::precision(const Kernel&, int, const U& g) {
  PrecisionGuarantee p = guarantee();
  set_output_type(p, g.out);
  p.evaluation = (g.zero ? 0x1p-24 : 0) + (g.out == DType::f32 ? 0 : 0x1.01p-24);
  return p;
}

void UnpackWeights::run(const Selection<Kernel>& s, const Problem& p, const UA&, const CallSite& site) {
  if (p.n == 0 || p.k == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->run(p, {site.stream, s.sm_count});
}

}  // namespace weights

std::vector<KernelSku> weights_registry() {
  using namespace weights;
  std::vector<KernelSku> all = Family<PackWeights>::registry([](const Kernel&) {
    PackWeightsDescriptor g;
    g.w = DType::u8;
    return g;
  });
  for (const KernelSku& sku : Family<UnpackWeights>::registry([](const Kernel& k) {
         UnpackWeightsDescriptor g;
         g.out = k.operand;
         return g;
       }))
    all.push_back(sku);
  return all;
}

}  // namespace cutplan
