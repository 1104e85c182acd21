// The ops around attention as core/family.hpp wants them: one F for each. Each moves its bytes once, in one way, so that there is
// nothing to choose but the architecture.
#pragma once

#include <algorithm>

#include "attention_ops/kernel.hpp"
#include "attention_ops/operands.hpp"
#include "attention_ops/units.hpp"
#include "core/family.hpp"

namespace cutplan::attention_ops {

/// What is the same for all; F is the op's own.
template <typename F, typename D>
struct Common : OneWay<F, D> {
  using Kernel = attention_ops::Kernel;

  static constexpr char listing[] = "attention_ops_registry()";
  static constexpr const auto& tables = attention_ops::tables;

  static bool is_of_op(const Kernel& k) { return k.op == F::kOp; }
  static bool fits(const Kernel& k, const D& g, const Setting&) { return k.operand == F::type(g); }
  static void check_types(const D& g, const Setting&);
  static std::string obstacle(const Kernel& k, const D& g, const Setting&, int) {
    // Rows are numbered in 32 bits, and columns, their distances and a step beyond the last of them counted.
    if (k.arch == Arch::host) return "";
    return F::rows(g) >= 0x1p31      ? "2^31 rows of heads or more"
           : F::longest(g) >= 0x1p30 ? "rows, or for ALiBi columns, of 2^30 elements or more"
                                     : "";
  }
  static double predict(const Kernel&, const D& g, const Setting& s, int) {
    return s.costs.launch + F::bytes(g) / s.costs.memory_bandwidth;
  }
  static void describe(KernelSku& sku, const Kernel&, int, const D& g) {
    sku.category = "attention";
    sku.d = F::type(g);
  }
};

struct MergeStates : Common<MergeStates, MergeStatesDescriptor> {
  using Arguments = MergeStatesArguments;
  using Problem = MergeProblem;
  static constexpr Op kOp = Op::merge_states;
  static constexpr char op[] = "merge_states";
  static constexpr const auto& operands = merge_operands;

  using Common::check;
  static void check(const MergeStatesDescriptor&);
  static MergeStatesDescriptor resolve(MergeStatesDescriptor);
  static DType type(const MergeStatesDescriptor& g) { return g.dtype; }
  static bool is_empty(const MergeStatesDescriptor& g);
  static double rows(const MergeStatesDescriptor& g);
  static double longest(const MergeStatesDescriptor& g) { return static_cast<double>(g.dim); }
  static double bytes(const MergeStatesDescriptor&);
  static void write(tuning::Key&, const MergeStatesDescriptor&);
  static PrecisionGuarantee precision(const Kernel&, int, const MergeStatesDescriptor&);
  static Problem problem(const MergeStatesDescriptor&, const Selection<Kernel>&, const Operands&, const Arguments&,
                         const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const Arguments&, const CallSite&);
};

struct Alibi : Common<Alibi, AlibiDescriptor> {
  using Arguments = AlibiArguments;
  using Problem = AlibiProblem;
  static constexpr Op kOp = Op::alibi;
  static constexpr char op[] = "alibi";
  static constexpr const auto& operands = alibi_operands;

  using Common::check;
  static void check(const AlibiDescriptor&);
  static AlibiDescriptor resolve(const AlibiDescriptor& g) { return g; }
  static DType type(const AlibiDescriptor& g) { return g.dtype; }
  static bool is_empty(const AlibiDescriptor& g);
  static double rows(const AlibiDescriptor& g);
  static double longest(const AlibiDescriptor& g) { return static_cast<double>(std::max(g.seq_q, g.seq_k)); }
  static double bytes(const AlibiDescriptor&);
  static void write(tuning::Key&, const AlibiDescriptor&);
  static PrecisionGuarantee precision(const Kernel&, int, const AlibiDescriptor&);
  static Problem problem(const AlibiDescriptor&, const Selection<Kernel>&, const Operands&, const Arguments&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const Arguments&, const CallSite&);
};

struct AlibiBackward : Common<AlibiBackward, AlibiBackwardDescriptor> {
  using Arguments = AlibiBackwardArguments;
  using Problem = AlibiProblem;
  static constexpr Op kOp = Op::alibi_backward;
  static constexpr char op[] = "alibi_backward";
  static constexpr const auto& operands = alibi_backward_operands;

  using Common::check;
  static void check(const AlibiBackwardDescriptor&);
  static AlibiBackwardDescriptor resolve(const AlibiBackwardDescriptor& g) { return g; }
  static DType type(const AlibiBackwardDescriptor& g) { return g.forward.dtype; }
  static bool is_empty(const AlibiBackwardDescriptor& g) { return Alibi::is_empty(g.forward); }
  static double rows(const AlibiBackwardDescriptor& g) { return Alibi::rows(g.forward); }
  static double longest(const AlibiBackwardDescriptor& g) { return Alibi::longest(g.forward); }
  static double bytes(const AlibiBackwardDescriptor&);
  static std::size_t workspace(const Kernel&, const AlibiBackwardDescriptor&, int, int);
  static void write(tuning::Key&, const AlibiBackwardDescriptor&);
  static PrecisionGuarantee precision(const Kernel&, int, const AlibiBackwardDescriptor&);
  static Problem problem(const AlibiBackwardDescriptor&, const Selection<Kernel>&, const Operands&, const Arguments&,
                         const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const Arguments&, const CallSite&);
};

/// Both directions of rotary embedding, of which one is the other with angles of the other sign. `F` is that of either.
template <typename F, typename D, typename A>
struct RopeCommon : Common<F, D> {
  using Arguments = A;
  using Problem = RopeProblem;
  using Constants = Turns;
  static constexpr Op kOp = Op::rope;

  using Common<F, D>::check;
  static void check(const D&);
  static D resolve(D);
  static DType type(const D& g);
  static bool is_empty(const D& g);
  static double rows(const D& g);
  static double longest(const D& g);
  static double bytes(const D&);
  static void write(tuning::Key&, const D&);
  static PrecisionGuarantee precision(const Kernel&, int, const D&);
  static Problem problem(const D&, const Selection<Kernel>&, const Operands&, const A&, const Places&);
  static Turns constants(const D&);
  static void use(Problem& problem, const Turns& turns) { problem.turns = &turns; }
  static void run(const Selection<Kernel>&, const Problem&, const A&, const CallSite&);
};

struct Rope : RopeCommon<Rope, RopeDescriptor, RopeArguments> {
  static constexpr char op[] = "rope";
  static constexpr const auto& operands = rope_operands;
};
struct RopeBackward : RopeCommon<RopeBackward, RopeBackwardDescriptor, RopeBackwardArguments> {
  static constexpr char op[] = "rope_backward";
  static constexpr const auto& operands = rope_backward_operands;
};

struct KvCacheAppend : Common<KvCacheAppend, KvCacheAppendDescriptor> {
  using Arguments = KvCacheAppendArguments;
  using Problem = AppendProblem;
  static constexpr Op kOp = Op::kv_cache_append;
  static constexpr char op[] = "kv_cache_append";
  static constexpr const auto& operands = append_operands;

  using Common::check;
  static void check(const KvCacheAppendDescriptor&);
  static KvCacheAppendDescriptor resolve(KvCacheAppendDescriptor);
  static DType type(const KvCacheAppendDescriptor& g) { return g.dtype; }
  static bool is_empty(const KvCacheAppendDescriptor& g);
  static double rows(const KvCacheAppendDescriptor& g);
  static double longest(const KvCacheAppendDescriptor& g) { return static_cast<double>(std::max(g.dim, g.dim_v)); }
  static double bytes(const KvCacheAppendDescriptor&);
  static void write(tuning::Key&, const KvCacheAppendDescriptor&);
  static PrecisionGuarantee precision(const Kernel&, int, const KvCacheAppendDescriptor&);
  static Problem problem(const KvCacheAppendDescriptor&, const Selection<Kernel>&, const Operands&, const Arguments&,
                         const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const Arguments&, const CallSite&);
};

inline const RopeDescriptor& forward_of(const RopeDescriptor& g) { return g; }
inline const RopeDescriptor& forward_of(const RopeBackwardDescriptor& g) { return g.forward; }
inline RopeDescriptor& forward_of(RopeDescriptor& g) { return g; }
inline RopeDescriptor& forward_of(RopeBackwardDescriptor& g) { return g.forward; }
constexpr bool is_backward(const RopeDescriptor&) { return false; }
constexpr bool is_backward(const RopeBackwardDescriptor&) { return true; }

}  // namespace cutplan::attention_ops

namespace cutplan {

template <>
struct FamilyOf<MergeStatesDescriptor> {
  using type = attention_ops::MergeStates;
};
template <>
struct FamilyOf<AlibiDescriptor> {
  using type = attention_ops::Alibi;
};
template <>
struct FamilyOf<AlibiBackwardDescriptor> {
  using type = attention_ops::AlibiBackward;
};

template <>
struct FamilyOf<RopeDescriptor> {
  using type = attention_ops::Rope;
};
template <>
struct FamilyOf<RopeBackwardDescriptor> {
  using type = attention_ops::RopeBackward;
};

template <>
struct FamilyOf<KvCacheAppendDescriptor> {
  using type = attention_ops::KvCacheAppend;
};

}  // namespace cutplan
