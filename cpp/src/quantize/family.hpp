// Quantisation, both ways, as core/family.hpp wants it. Each moves its bytes in one way, so that there is nothing to choose but
// the architecture.
#pragma once

#include "core/family.hpp"
#include "quantize/kernel.hpp"
#include "quantize/operands.hpp"
#include "quantize/units.hpp"

namespace cutplan::quantize {

/// What is the same both ways; F is one of them.
template <typename F, typename G>
struct Common : OneWay<F, G> {
  using Kernel = quantize::Kernel;
  using Problem = quantize::Problem;

  static constexpr char listing[] = "quantize_registry()";
  static constexpr const auto& tables = quantize::tables;

  static bool is_of_op(const Kernel& k) { return k.op == F::kOp; }
  static bool fits(const Kernel& k, const G& g, const Setting&) { return k.operand == F::type(g); }
  static void check(const G&);
  using OneWay<F, G>::check;
  static void check_types(const G& g, const Setting&);
  static G resolve(G g) {
    if (g.granularity == Granularity::block && g.group_size == 0) g.group_size = 128;
    return g;
  }
  static bool is_empty(const G& g) { return g.batch == 0 || g.rows == 0 || g.columns == 0; }
  static std::string obstacle(const Kernel& k, const G& g, const Setting&, int);
  static double predict(const Kernel&, const G& g, const Setting& s, int) {
    return s.costs.launch + F::bytes(g) / s.costs.memory_bandwidth;
  }
  static void describe(KernelSku& sku, const Kernel&, int, const G& g) {
    sku.category = "quantize";
    sku.a = sku.b = F::from(g);
    sku.d = F::to(g);
  }
  static void write(tuning::Key&, const G&);
};

struct Quantize : Common<Quantize, QuantizeDescriptor> {
  using Arguments = QuantizeArguments;
  static constexpr Op kOp = Op::quantize;
  static constexpr char op[] = "quantize";
  static constexpr const auto& operands = quantize_operands;

  static DType type(const Q& g) { return g.x; }
  static DType from(const Q& g) { return g.x; }
  static DType to(const Q& g) { return g.dtype; }
  static double bytes(const Q&);
  static std::size_t workspace(const Kernel&, const Q&, int, int);
  static void write_options(tuning::Key&, const Q&);
  static PrecisionGuarantee precision(const Kernel&, int, const Q&);
  static Problem problem(const Q&, const Selection<Kernel>&, const Operands&, const QA&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const QA&, const CallSite&);
};

struct Dequantize : Common<Dequantize, DequantizeDescriptor> {
  using Arguments = DequantizeArguments;
  static constexpr Op kOp = Op::dequantize;
  static constexpr char op[] = "dequantize";
  static constexpr const auto& operands = dequantize_operands;

  static DType type(const D& g) { return g.out; }
  static DType from(const D& g) { return g.dtype; }
  static DType to(const D& g) { return g.out; }
  static double bytes(const D&);
  static PrecisionGuarantee precision(const Kernel&, int, const D&);
  static Problem problem(const D&, const Selection<Kernel>&, const Operands&, const DA&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const DA&, const CallSite&);
};

}  // namespace cutplan::quantize

namespace cutplan {

template <>
struct FamilyOf<QuantizeDescriptor> {
  using type = quantize::Quantize;
};
template <>
struct FamilyOf<DequantizeDescriptor> {
  using type = quantize::Dequantize;
};

}  // namespace cutplan
