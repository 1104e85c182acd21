// What is refused, and why: descriptors that no kernel could ever serve, and types that those of a device do not.
#include <string>

#include "attention_ops/family.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan::attention_ops {
namespace {

void check_type(DType type) {
  if (type == DType::none) throw InvalidProblem("dtype: an element type required, got none");
}

}  // namespace

template <typename F, typename D>
void Common<F, D>::check_types(const D& g, const Setting& s) {
  std::string served;
  for (const auto* table : tables) {
    for (const Kernel& k : *table) {
      if (k.op != F::kOp || device_obstacle(k, s.device) != nullptr) continue;
      if (k.operand == F::type(g)) return;
      if (served.find(name(k.operand)) == std::string::npos)
        served += std::string(served.empty() ? "" : ", ") + name(k.operand);
    }
  }
  if (served.empty()) return;  // no kernel runs here: the ranking says so
  throw Unsupported(
      text("operand ", F::operands[0].name, ": one of ", served, " required on this device, got ", name(F::type(g))));
}

template struct Common<MergeStates, MergeStatesDescriptor>;
template struct Common<Alibi, AlibiDescriptor>;
template struct Common<AlibiBackward, AlibiBackwardDescriptor>;
template struct Common<Rope, RopeDescriptor>;
template struct Common<KvCacheAppend, KvCacheAppendDescriptor>;
template struct Common<RopeBackward, RopeBackwardDescriptor>;

void MergeStates::check(const MergeStatesDescriptor& given) {
  const MergeStatesDescriptor g = resolve(given);
  check_type(g.dtype);
  for (const auto& [extent, value] :
       {std::pair("batch", g.batch), std::pair("heads", g.heads), std::pair("rows", g.rows), std::pair("dim", g.dim)})
    check_extent(extent, value);
  if (g.parts < 1 || g.parts > most_parts)
    throw InvalidProblem(text("parts: from 1 to ", most_parts, " required, got ", g.parts));
  if (g.apart && g.parts != 2) throw InvalidProblem(text("parts: 2 required with apart, got ", g.parts));
  if (g.o != g.dtype && g.o != DType::f32)
    throw Unsupported(text("operand out: dtype ", name(g.dtype), g.dtype == DType::f32 ? "" : " or float32",
                           " required for parts of ", name(g.dtype), ", got ", name(g.o)));
}

MergeStatesDescriptor MergeStates::resolve(MergeStatesDescriptor g) {
  if (g.o == DType::none) g.o = g.dtype;
  return g;
}

void Alibi::check(const AlibiDescriptor& g) {
  check_type(g.dtype);
  for (const auto& [extent, value] :
       {std::pair("batch", g.batch), std::pair("heads", g.heads), std::pair("seq_q", g.seq_q), std::pair("seq_k", g.seq_k)})
    check_extent(extent, value);
}

void AlibiBackward::check(const AlibiBackwardDescriptor& g) {
  Alibi::check(g.forward);
  if (!g.dscores && !g.dslopes)
    throw InvalidProblem("dscores, dslopes: one at least required, got neither: there would be nothing to compute");
}

}  // namespace cutplan::attention_ops
