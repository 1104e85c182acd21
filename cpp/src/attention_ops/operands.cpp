// What comes in: from tensors to a descriptor (describe), and from the arguments of a call to what a kernel is told (problem).
#include "attention_ops/operands.hpp"

#include <algorithm>

#include "attention_ops/arguments.hpp"
#include "attention_ops/family.hpp"

namespace cutplan::attention_ops {

using std::int64_t;

MergeProblem MergeStates::problem(const MergeStatesDescriptor& g, const Selection<Kernel>&, const Operands&,
                                  const MergeStatesArguments&, const Places& at) {
  constexpr const auto& table = merge_operands;
  const auto place = [&](TensorView MergeStatesArguments::* member) -> const Placed& { return at[index_of(table, member)]; };
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const int first = g.apart ? 0 : 1;
  const Placed &o = place(&MA::o), &lse = place(&MA::lse), &o2 = place(&MA::o2), &lse2 = place(&MA::lse2),
               &out = place(&MA::out), &out_lse = place(&MA::out_lse);
  MergeProblem p{};
  p.parts = g.parts;
  p.batch = g.varlen ? 1 : g.batch;
  p.heads = g.heads;
  p.rows = g.rows;
  p.dim = g.dim;
  p.o = heads_of(o, g.varlen, heads_first, first);
  p.lse = static_cast<const float*>(lse.data);
  p.lse_strides = heads_of(lse, g.varlen, true, first).strides;
  p.of_part = g.apart ? 0 : o.strides[0];
  p.of_part_lse = g.apart ? 0 : lse.strides[0];
  if (g.apart) {
    p.o2 = o2.data;
    p.o2_strides = heads_of(o2, g.varlen, heads_first).strides;
    p.lse2 = static_cast<const float*>(lse2.data);
    p.lse2_strides = heads_of(lse2, g.varlen, true).strides;
  }
  p.out = heads_of(out, g.varlen, heads_first);
  p.o_type = g.o;
  p.out_lse = static_cast<float*>(out_lse.data);
  p.out_lse_strides = heads_of(out_lse, g.varlen, true).strides;
  p.wide = in_pieces(p.o, g.dtype) && in_pieces(nullptr, {p.of_part, g.dim}, g.dtype) &&
           (!g.apart || in_pieces({const_cast<void*>(p.o2), p.o2_strides}, g.dtype)) && in_pieces(p.out, g.o) &&
           in_pieces(nullptr, {g.dim}, g.o);
  return p;
}

namespace {

AlibiProblem alibi_problem(const AlibiDescriptor& g, const Placed& x, const Placed& y) {
  AlibiProblem p{};
  p.batch = g.batch;
  p.heads = g.heads;
  p.rows = g.seq_q;
  p.cols = g.seq_k;
  p.offset = g.align == Align::top_left ? 0 : g.seq_k - g.seq_q;
  p.absolute = g.distance == Distance::absolute;
  p.x = x.data;
  p.y = y.data;
  std::copy_n(x.strides, 4, p.x_strides);
  std::copy_n(y.strides, 4, p.y_strides);
  const auto whole_rows = [&](const Placed& s) {
    return s.data == nullptr || ((s.strides[3] == 1 || g.seq_k == 1) &&
                                 in_pieces(s.data, {s.strides[0], s.strides[1], s.strides[2], g.seq_k}, g.dtype));
  };
  p.x_wide = whole_rows(x);
  p.y_wide = whole_rows(y);
  return p;
}

}  // namespace

AlibiProblem Alibi::problem(const AlibiDescriptor& g, const Selection<Kernel>&, const Operands&, const AlibiArguments&,
                            const Places& at) {
  AlibiProblem p = alibi_problem(g, at[0], at[2]);
  p.slopes = at[1].data;
  p.slopes_stride = at[1].strides[0];
  return p;
}

AlibiProblem AlibiBackward::problem(const AlibiBackwardDescriptor& g, const Selection<Kernel>&, const Operands&,
                                    const AlibiBackwardArguments&, const Places& at) {
  const Placed &grad = at[0], &dscores = at[1], &dslopes = at[2];
  AlibiProblem p = alibi_problem(g.forward, grad, dscores);
  p.dslopes = dslopes.data;
  p.dslopes_stride = dslopes.strides[0];
  return p;
}

}  // namespace cutplan::attention_ops

namespace cutplan {

MergeStatesDescriptor describe(const MergeStatesArguments& args, const MergeStatesDescriptor& options) {
  MergeStatesDescriptor g = options;
  g.apart = args.o2.present() || args.lse2.present();
  const int stacked = g.apart ? 0 : 1;
  check_rank("o", args.o, 3 + stacked, 4 + stacked);
  g.varlen = args.o.rank == 3 + stacked;
  g.parts = g.apart ? 2 : args.o.shape[0];
  const std::int64_t* of_state = args.o.shape + stacked;
  g.batch = g.varlen ? 1 : *of_state++;
  g.heads = of_state[g.layout == FmhaLayout::bhsd ? 0 : 1];
  g.rows = of_state[g.layout == FmhaLayout::bhsd ? 1 : 0];
  g.dim = of_state[2];
  g.dtype = args.o.dtype;
  g.o = args.out.present() ? args.out.dtype : g.dtype;
  return g;
}

namespace {

AlibiDescriptor describe_scores(const char* operand, const TensorView& t, AlibiDescriptor g) {
  check_rank(operand, t, 4, 4);
  g.batch = t.shape[0];
  g.heads = t.shape[1];
  g.seq_q = t.shape[2];
  g.seq_k = t.shape[3];
  g.dtype = t.dtype;
  return g;
}

}  // namespace

AlibiDescriptor describe(const AlibiArguments& args, const AlibiDescriptor& options) {
  return describe_scores("scores", args.scores, options);
}

AlibiBackwardDescriptor describe(const AlibiBackwardArguments& args, const AlibiDescriptor& options) {
  return {describe_scores("grad", args.grad, options), args.dscores.present(), args.dslopes.present()};
}

}  // namespace cutplan
