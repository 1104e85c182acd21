// The plans of the ops around attention, and what each F says of itself.
#include "attention_ops/family.hpp"

#include "core/fill.hpp"
#include "core/plan.hpp"

namespace cutplan {

template class Plan<MergeStatesDescriptor, MergeStatesArguments>;
template class Plan<AlibiDescriptor, AlibiArguments>;
template class Plan<AlibiBackwardDescriptor, AlibiBackwardArguments>;

namespace attention_ops {

using std::int64_t;

namespace {

template <typename... Extents>
double product(Extents... extents) {
  return (1.0 * ... * static_cast<double>(extents));
}

PrecisionGuarantee guarantee(DType arithmetic, DType written) {
  PrecisionGuarantee p;
  p.math = p.accumulator = arithmetic;
  p.deterministic = p.bit_stable_on_same_hardware = true;
  set_output_type(p, written);
  return p;
}

/// A problem that the kernel serves.
template <typename D>
D of_kernel(const Kernel& k) {
  D g;
  g.dtype = k.operand;
  return g;
}

DType arithmetic(DType operand) { return operand == DType::f64 ? DType::f64 : DType::f32; }
double unit(DType operand) { return operand == DType::f64 ? 0x1p-53 : 0x1p-24; }

}  // namespace

// ---- merging of states ----

bool MergeStates::is_empty(const MergeStatesDescriptor& g) {
  return g.batch == 0 || g.heads == 0 || g.rows == 0 || g.dim == 0;
}

double MergeStates::rows(const MergeStatesDescriptor& g) { return product(g.varlen ? 1 : g.batch, g.heads, g.rows); }

double MergeStates::bytes(const MergeStatesDescriptor& g) {
  return rows(g) * (static_cast<double>(g.dim) * (static_cast<double>(g.parts) * bits(g.dtype) + bits(g.o)) / 8 +
                    static_cast<double>(g.parts + g.lse) * 4);
}

void MergeStates::write(tuning::Key& key, const MergeStatesDescriptor& g) {
  key.field("parts", g.parts).field("batch", g.batch).field("heads", g.heads).field("rows", g.rows).field("dim", g.dim);
  key.field("dtype", name(g.dtype)).field("o", name(g.o)).field("layout", name(g.layout));
  key.word("varlen", g.varlen).word("apart", g.apart).word("lse", g.lse);
}

/// A weight exp(lse_p - lse) has the rounding of its exponent, of less than 104 where it is no zero, and that of exp; it counts
/// twice, above and below.
PrecisionGuarantee MergeStates::precision(const Kernel&, int, const MergeStatesDescriptor& g) {
  PrecisionGuarantee p = guarantee(DType::f32, g.o);
  p.evaluation = error_of_roundings(2 * (3 * 104 + 4) + 2 * static_cast<double>(g.parts) + 4, 0x1p-24);
  return p;
}

void MergeStates::run(const Selection<Kernel>& s, const MergeProblem& p, const MergeStatesArguments&, const CallSite& site) {
  if (p.batch == 0 || p.heads == 0 || p.rows == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->merge(p, {site.stream, site.workspace, s.sm_count});
}

// ---- ALiBi ----

bool Alibi::is_empty(const AlibiDescriptor& g) { return g.batch == 0 || g.heads == 0 || g.seq_q == 0 || g.seq_k == 0; }

double Alibi::rows(const AlibiDescriptor& g) { return product(g.batch, g.heads, g.seq_q); }

double Alibi::bytes(const AlibiDescriptor& g) { return 2 * product(g.batch, g.heads, g.seq_q, g.seq_k) * bits(g.dtype) / 8; }

void Alibi::write(tuning::Key& key, const AlibiDescriptor& g) {
  key.field("batch", g.batch).field("heads", g.heads).field("seq_q", g.seq_q).field("seq_k", g.seq_k);
  key.field("dtype", name(g.dtype)).field("distance", name(g.distance)).field("align", name(g.align));
}

/// Of magnitude |score| + |slope distance|: one product, of a distance that float32 rounds beyond 2^24, and one sum.
PrecisionGuarantee Alibi::precision(const Kernel&, int, const AlibiDescriptor& g) {
  PrecisionGuarantee p = guarantee(arithmetic(g.dtype), g.dtype);
  p.evaluation = error_of_roundings(3, unit(g.dtype));
  return p;
}

void Alibi::run(const Selection<Kernel>& s, const AlibiProblem& p, const AlibiArguments&, const CallSite& site) {
  if (p.batch == 0 || p.heads == 0 || p.rows == 0 || p.cols == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->alibi(p, {site.stream, site.workspace, s.sm_count});
}

double AlibiBackward::bytes(const AlibiBackwardDescriptor& g) { return Alibi::bytes(g.forward) / (g.dscores ? 1 : 2); }

std::size_t AlibiBackward::workspace(const Kernel& k, const AlibiBackwardDescriptor& g, int, int) {
  if (k.arch == Arch::host || !g.dslopes) return 0;
  return static_cast<std::size_t>(g.forward.heads) * alibi_blocks_per_head * sizeof(double);
}

void AlibiBackward::write(tuning::Key& key, const AlibiBackwardDescriptor& g) {
  Alibi::write(key, g.forward);
  key.word("dscores", g.dscores).word("dslopes", g.dslopes);
}

/// dslopes, of magnitude sum |grad distance|: distances are rounded, and up to eight products summed, in the operands' arithmetic,
/// all else in float64. dscores are grad to the bit.
PrecisionGuarantee AlibiBackward::precision(const Kernel&, int, const AlibiBackwardDescriptor& g) {
  PrecisionGuarantee p = guarantee(DType::f64, arithmetic(g.forward.dtype));
  p.evaluation = error_of_roundings(9, unit(g.forward.dtype));
  p.accumulation = error_of_roundings(product(g.forward.batch, g.forward.seq_q, g.forward.seq_k) + 4, 0x1p-53);
  return p;
}

void AlibiBackward::run(const Selection<Kernel>& s, const AlibiProblem& p, const AlibiBackwardArguments& args,
                        const CallSite& site) {
  if (p.batch == 0 || p.rows == 0 || p.cols == 0) {  // nothing to add up
    if (args.dslopes.present()) fill_zero(args.dslopes, site.stream);
    return;
  }
  if (p.heads == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->alibi(p, {site.stream, site.workspace, s.sm_count});
}

}  // namespace attention_ops

std::vector<KernelSku> attention_ops_registry() {
  using namespace attention_ops;
  std::vector<KernelSku> all;
  const auto add = [&](const std::vector<KernelSku>& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(Family<MergeStates>::registry(of_kernel<MergeStatesDescriptor>));
  add(Family<Alibi>::registry(of_kernel<AlibiDescriptor>));
  add(Family<AlibiBackward>::registry(
      [](const Kernel& k) { return AlibiBackwardDescriptor{of_kernel<AlibiDescriptor>(k)}; }));
  add(Family<Rope>::registry(of_kernel<RopeDescriptor>));
  add(Family<RopeBackward>::registry([](const Kernel& k) { return RopeBackwardDescriptor{of_kernel<RopeDescriptor>(k)}; }));
  add(Family<KvCacheAppend>::registry(of_kernel<KvCacheAppendDescriptor>));
  return all;
}

}  // namespace cutplan
