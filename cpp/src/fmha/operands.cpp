// What comes in: from tensors to a descriptor (describe), and from the arguments of a call to what a kernel is told (problem).
#include "fmha/operands.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "fmha/family.hpp"
#include "fmha/score.hpp"
#include "fmha/support.hpp"

namespace cutplan::fmha {
namespace {

using std::int64_t;

void check_offsets(const char* operand, const std::int32_t* offsets, int64_t sequences, int64_t rows, const char* advice) {
  if (offsets[0] != 0)
    throw InvalidProblem(text("operand ", operand, ": must start with 0, got ", offsets[0],
                              "; it holds the first row of each sequence, and the end of the last"));
  for (int64_t i = 1; i <= sequences; ++i) {
    if (offsets[i] < offsets[i - 1])
      throw InvalidProblem(text("operand ", operand, ": entries that never decrease required, got ", offsets[i - 1],
                                " before ", offsets[i], " at index ", i));
  }
  if (offsets[sequences] != rows)
    throw InvalidProblem(text("operand ", operand, ": must end with ", rows, ", the rows of the packed operand, got ",
                              offsets[sequences], advice));
}

/// What only a host plan can look into.
void check_lengths(const FmhaDescriptor& g, const Problem& p) {
  if (p.cu_seqlens_q != nullptr) {
    const char* const advice = g.layout == FmhaLayout::bhsd ? rows_before_heads : "";
    check_offsets("cu_seqlens_q", p.cu_seqlens_q, g.batch, g.seq_q, advice);
    check_offsets("cu_seqlens_k", p.cu_seqlens_k, g.batch, g.seq_k, advice);
  }
  if (p.seqused_k == nullptr) return;
  for (int64_t i = 0; i < g.batch; ++i) {
    const int64_t rows = p.cu_seqlens_k != nullptr ? p.cu_seqlens_k[i + 1] - p.cu_seqlens_k[i] : g.seq_k;
    if (p.seqused_k[i] < 0 || p.seqused_k[i] > rows)
      throw InvalidProblem(text("operand seqused_k: lengths from 0 to ", rows, ", the keys of the sequence, required, got ",
                                p.seqused_k[i], " at index ", i));
  }
}

int64_t limit(int64_t window) { return window < 0 ? unlimited : std::min(window, unlimited); }

/// Places by the member that they are of.
template <typename Descriptor, typename Arguments, std::size_t kSize>
class Found {
 public:
  Found(const Operand<Descriptor, Arguments> (&table)[kSize], const Places& places, const FmhaDescriptor& g)
      : table_(table), places_(places), axes_(g) {}

  const Placed& operator[](TensorView Arguments::* member) const { return places_[index_of(table_, member)]; }

  Strides strides(TensorView Arguments::* member) const {
    const Placed& p = (*this)[member];
    return {axes_.batch < 0 ? 0 : p.strides[axes_.batch], p.strides[axes_.head], p.strides[axes_.row]};
  }
  Broadcast broadcast(TensorView Arguments::* member) const {
    const Placed& p = (*this)[member];
    return {p.strides[0], p.strides[1], p.strides[2], p.strides[3]};
  }
  /// Whether head dimensions, addresses and strides of these operands are multiples of 16 bytes.
  bool vectorised(const Arguments& arguments, std::initializer_list<TensorView Arguments::*> members) const {
    std::uint64_t units = 0;
    for (const auto member : members) {
      const TensorView& view = arguments.*member;
      const Placed& p = (*this)[member];
      const int64_t dim = view.shape[axes_.dim];
      const Strides s = strides(member);
      units |= reinterpret_cast<std::uintptr_t>(p.data) |
               static_cast<std::uint64_t>((dim | s.batch | s.head | s.row) * (bits(view.dtype) / 8));
    }
    return units % 16 == 0;
  }

 private:
  const Operand<Descriptor, Arguments> (&table_)[kSize];
  const Places& places_;
  Axes axes_;
};

/// What both passes are told of the forward.
template <typename At, typename Arguments>
Problem forward_problem(const FmhaDescriptor& g, Device device, const At& at, const Arguments& args) {
  using A = Arguments;
  const double scale = args.scale ? *args.scale : 1 / std::sqrt(static_cast<double>(g.dim));
  if (!is_number(scale, g.dtype))
    throw InvalidProblem(text("scale: a number finite in ", arithmetic(g.dtype), " required, got ", scale));
  const double dropout = args.dropout_p;
  if (!(dropout >= 0 && dropout < 1))
    throw InvalidProblem(text("dropout_p: a probability of at least 0 and below 1 required, got ", dropout));
  if (dropout != 0 && !g.dropout)
    throw InvalidProblem(text("dropout_p: 0 required by a plan without dropout, got ", dropout,
                              "; select with FmhaDescriptor(dropout=True) and pass rng_state"));

  Problem p{};
  p.batch = g.batch;
  p.heads = g.heads;
  p.heads_k = g.heads_k;
  p.seq_q = g.seq_q;
  p.seq_k = g.seq_k;
  p.dim = g.dim;
  p.dim_v = g.dim_v;
  p.operand = g.dtype;
  p.o_type = g.o;
  p.q = at[&A::q].data;
  p.k = at[&A::k].data;
  p.v = at[&A::v].data;
  p.o = at[&A::o].data;
  p.q_strides = at.strides(&A::q);
  p.k_strides = at.strides(&A::k);
  p.v_strides = at.strides(&A::v);
  p.o_strides = at.strides(&A::o);
  const Placed& lse = at[&A::lse];
  p.lse = static_cast<float*>(lse.data);
  p.lse_batch = g.varlen ? 0 : lse.strides[0];
  p.lse_head = lse.strides[g.varlen ? 0 : 1];

  p.scale = scale;
  p.softcap = g.softcap;
  p.left = limit(g.window.left);
  p.right = g.causal == Causal::none ? limit(g.window.right) : std::min<int64_t>(limit(g.window.right), 0);
  p.top_left = g.align == Align::top_left;
  if (g.bias != DType::none) {
    p.bias_type = g.bias;
    p.bias = at[&A::bias].data;
    p.bias_strides = at.broadcast(&A::bias);
  }
  if (g.mask) {
    p.mask = static_cast<const std::uint8_t*>(at[&A::mask].data);
    p.mask_strides = at.broadcast(&A::mask);
  }
  if (g.alibi) {
    const Placed& slopes = at[&A::alibi_slopes];
    p.alibi_type = args.alibi_slopes.dtype;
    p.alibi_slopes = slopes.data;
    p.alibi_batch = slopes.strides[0];
    p.alibi_head = slopes.strides[1];
  }
  if (g.sink) {
    p.sink_type = args.sink.dtype;
    p.sink = at[&A::sink].data;
    p.sink_head = at[&A::sink].strides[0];
  }
  p.cu_seqlens_q = static_cast<const std::int32_t*>(at[&A::cu_seqlens_q].data);
  p.cu_seqlens_k = static_cast<const std::int32_t*>(at[&A::cu_seqlens_k].data);
  p.seqused_k = static_cast<const std::int32_t*>(at[&A::seqused_k].data);
  p.keep_scale = 1;
  if (g.dropout) {
    p.keep_threshold = keep_threshold(dropout);
    p.keep_scale = 65536.0f / static_cast<float>(p.keep_threshold);
    // At the full threshold every weight is kept.
    if (p.keep_threshold < 65536) p.rng_state = static_cast<const int64_t*>(at[&A::rng_state].data);
  }
  if (device.type == DeviceType::cpu) check_lengths(g, p);
  return p;
}

/// Throws where a gradient has not the shape of what it is the gradient of.
void check_same_shape(const char* operand, const TensorView& gradient, const char* of, const TensorView& view) {
  if (gradient.rank == view.rank && std::equal(view.shape, view.shape + view.rank, gradient.shape)) return;
  throw ShapeMismatch(text("operand ", operand, ": shape ", extents(view.shape, view.rank), ", that of ", of,
                           ", required, got ", extents(gradient.shape, gradient.rank)));
}

}  // namespace

Problem Forward::problem(const FmhaDescriptor& g, const Selection<Kernel>& selection, const Operands&,
                         const FmhaArguments& args, const Places& places) {
  using A = FmhaArguments;
  const Found<FmhaDescriptor, A, std::size(fmha::operands)> at(fmha::operands, places, g);
  Problem p = forward_problem(g, selection.device, at, args);
  p.vectorised = at.vectorised(args, {&A::q, &A::k, &A::v, &A::o});
  return p;
}

BackwardProblem Backward::problem(const FmhaBackwardDescriptor& descriptor, const Selection<Kernel>& selection,
                                  const Operands&, const FmhaBackwardArguments& args, const Places& places) {
  using A = FmhaBackwardArguments;
  const FmhaDescriptor& g = descriptor.forward;
  const Found<FmhaBackwardDescriptor, A, std::size(backward_operands)> at(backward_operands, places, g);
  BackwardProblem b{};
  b.forward = forward_problem(g, selection.device, at, args);
  b.forward.vectorised = at.vectorised(args, {&A::q, &A::k, &A::v, &A::o, &A::grad, &A::dq, &A::dk, &A::dv});
  b.grad_type = descriptor.grad;
  b.grad = at[&A::grad].data;
  b.dq = at[&A::dq].data;
  b.dk = at[&A::dk].data;
  b.dv = at[&A::dv].data;
  b.grad_strides = at.strides(&A::grad);
  b.dq_strides = at.strides(&A::dq);
  b.dk_strides = at.strides(&A::dk);
  b.dv_strides = at.strides(&A::dv);
  if (descriptor.dbias) {
    check_same_shape("dbias", args.dbias, "bias", args.bias);
    b.dbias = at[&A::dbias].data;
    b.dbias_strides = at.broadcast(&A::dbias);
    const int64_t full[] = {g.batch, g.heads, g.seq_q, g.seq_k};
    for (int i = 0; i < 4; ++i) {
      const int own = i - (4 - args.bias.rank);
      b.dbias_sums[i] = full[i] > 1 && (own < 0 || args.bias.shape[own] == 1);
    }
  }
  if (descriptor.dalibi_slopes) {
    check_same_shape("dalibi_slopes", args.dalibi_slopes, "alibi_slopes", args.alibi_slopes);
    const Placed& slopes = at[&A::dalibi_slopes];
    b.dalibi_type = args.dalibi_slopes.dtype;
    b.dalibi_slopes = slopes.data;
    b.dalibi_batch = slopes.strides[0];
    b.dalibi_head = slopes.strides[1];
    b.alibi_sums_batch = args.alibi_slopes.rank == 1;
  }
  if (descriptor.dsink) {
    b.dsink_type = args.dsink.dtype;
    b.dsink = at[&A::dsink].data;
    b.dsink_head = at[&A::dsink].strides[0];
  }
  b.deterministic = deterministic(*selection.kernel, selection.split);
  return b;
}

}  // namespace cutplan::fmha

namespace cutplan {

FmhaDescriptor describe(const FmhaArguments& args, const FmhaDescriptor& options) {
  FmhaDescriptor g = options;
  g.varlen = args.cu_seqlens_q.present() || args.cu_seqlens_k.present();
  if (g.varlen) {
    check_given("cu_seqlens_q", args.cu_seqlens_q);
    check_given("cu_seqlens_k", args.cu_seqlens_k);
  }
  const fmha::Axes axes(g);
  const struct {
    const char* name;
    const TensorView& view;
  } operands[] = {{"q", args.q}, {"k", args.k}, {"v", args.v}};
  for (const auto& x : operands) {
    check_given(x.name, x.view);
    if (x.view.rank != axes.rank) {
      throw ShapeMismatch(text("operand ", x.name, ": rank ", axes.rank, " required ",
                               g.varlen ? "with packed sequences (cu_seqlens_q and cu_seqlens_k)" : "without cu_seqlens_q",
                               ", got ", extents(x.view.shape, x.view.rank)));
    }
  }
  if (g.varlen) {
    if (args.cu_seqlens_q.rank != 1 || args.cu_seqlens_q.shape[0] < 1) {
      throw ShapeMismatch(text("operand cu_seqlens_q: shape [batch + 1] required, got ",
                               extents(args.cu_seqlens_q.shape, args.cu_seqlens_q.rank)));
    }
    g.batch = args.cu_seqlens_q.shape[0] - 1;
  } else {
    g.batch = args.q.shape[axes.batch];
  }
  g.heads = args.q.shape[axes.head];
  g.heads_k = args.k.shape[axes.head];
  g.seq_q = args.q.shape[axes.row];
  g.seq_k = args.k.shape[axes.row];
  g.dim = args.q.shape[axes.dim];
  g.dim_v = args.v.shape[axes.dim];
  if (g.heads_k == 0 && g.heads != 0)
    throw ShapeMismatch(text("operand k: at least one head required beside ", g.heads, " of q, got none"));
  if (g.dim_v == 0) throw ShapeMismatch("operand v: a head dimension of at least 1 required, got 0");
  g.dtype = args.q.dtype;
  g.o = args.o.present() ? args.o.dtype : g.dtype;
  g.bias = args.bias.dtype;
  g.alibi = args.alibi_slopes.present();
  g.mask = args.mask.present();
  g.sink = args.sink.present();
  g.seqused_k = args.seqused_k.present();
  g.dropout = args.rng_state.present();
  g.lse = args.lse.present();
  return fmha::Forward::resolve(g);
}

FmhaBackwardDescriptor describe(const FmhaBackwardArguments& args, const FmhaDescriptor& options) {
  FmhaBackwardDescriptor g;
  g.forward = describe(static_cast<const FmhaArguments&>(args), options);
  g.grad = args.dq.present() ? args.dq.dtype : g.forward.dtype;
  g.dbias = args.dbias.present();
  g.dalibi_slopes = args.dalibi_slopes.present();
  g.dsink = args.dsink.present();
  return fmha::Backward::resolve(g);
}

}  // namespace cutplan
