// Packed weights, both ways, as core/family.hpp wants it. Each moves its bytes in one way, so that there is nothing to choose but
// the architecture.
#pragma once

#include "core/family.hpp"
#include "weights/kernel.hpp"
#include "weights/operands.hpp"
#include "weights/units.hpp"

namespace cutplan::weights {

/// What is the same both ways; F is one of them.
template <typename F, typename G>
struct Common : OneWay<F, G> {
  using Kernel = weights::Kernel;
  using Problem = weights::Problem;

  static constexpr char listing[] = "weights_registry()";
  static constexpr const auto& tables = weights::tables;

  static bool is_of_op(const Kernel& k) { return k.op == F::kOp; }
  static bool fits(const Kernel& k, const G& g, const Setting&) { return k.operand == F::type(g); }
  static void check(const G&);
  using OneWay<F, G>::check;
  static void check_types(const G&, const Setting&) {}  // check() has refused those that no kernel knows
  static G resolve(G g) {
    g.group_size = resolved_group_size(g);
    return g;
  }
  static bool is_empty(const G& g) { return g.n == 0 || g.k == 0; }
  static double predict(const Kernel&, const G& g, const Setting& s, int) {
    return s.costs.launch + F::bytes(g) / s.costs.memory_bandwidth;
  }
  static void describe(KernelSku& sku, const Kernel&, int, const G& g) {
    sku.category = "weights";
    sku.a = sku.b = F::from(g);
    sku.d = F::to(g);
  }
  static void write(tuning::Key&, const G&);
};

struct PackWeights : Common<PackWeights, PackWeightsDescriptor> {
  using Arguments = PackWeightsArguments;
  static constexpr Op kOp = Op::pack;
  static constexpr char op[] = "pack_weights";
  static constexpr const auto& operands = pack_operands;

  static DType type(const P&) { return DType::u8; }
  static DType from(const P& g) { return g.w; }
  static DType to(const P&) { return DType::u8; }
  static double bytes(const P&);
  static void write_options(tuning::Key&, const P&);
  static PrecisionGuarantee precision(const Kernel&, int, const P&);
  static Problem problem(const P&, const Selection<Kernel>&, const Operands&, const PA&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const PA&, const CallSite&);
};

struct UnpackWeights : Common<UnpackWeights, UnpackWeightsDescriptor> {
  using Arguments = UnpackWeightsArguments;
  static constexpr Op kOp = Op::unpack;
  static constexpr char op[] = "unpack_weights";
  static constexpr const auto& operands = unpack_operands;

  static DType type(const U& g) { return g.out; }
  static DType from(const U&) { return DType::u8; }
  static DType to(const U& g) { return g.out; }
  static double bytes(const U&);
  static PrecisionGuarantee precision(const Kernel&, int, const U&);
  static Problem problem(const U&, const Selection<Kernel>&, const Operands&, const UA&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const UA&, const CallSite&);
};

}  // namespace cutplan::weights

namespace cutplan {

template <>
struct FamilyOf<PackWeightsDescriptor> {
  using type = weights::PackWeights;
};
template <>
struct FamilyOf<UnpackWeightsDescriptor> {
  using type = weights::UnpackWeights;
};

}  // namespace cutplan
