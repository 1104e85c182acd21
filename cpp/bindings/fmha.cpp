// Attention: the descriptors, FmhaPlan and FmhaBackwardPlan.
#include "fmha/operands.hpp"

#include "plans.hpp"

namespace cutplan::bindings {

template <>
struct As<Window> : AsShown<Window> {
  static std::string what() { return "two integers"; }
  static std::string argument() { return "tuple[int, int]"; }
  static std::string property_type() { return argument(); }
  static Window parse(const Where& where, nb::handle given) {
    const auto [left, right] = to_integers(where, given);
    return {left, right};
  }
  static nb::object shown(const Window& w) { return nb::make_tuple(w.left, w.right); }
  static nb::object property(const Window& w) { return shown(w); }
};

template <>
inline void mix(Hash& h, const Window& w) {
  h << w.left << w.right;
}

template <>
inline constexpr auto fields<FmhaDescriptor> = std::make_tuple(
    field("batch", &FmhaDescriptor::batch, "Sequences."), required("heads", &FmhaDescriptor::heads, "Of Q and O."),
    field("heads_k", &FmhaDescriptor::heads_k, "Of K and V; a divisor of heads."), required("seq_q", &FmhaDescriptor::seq_q),
    required("seq_k", &FmhaDescriptor::seq_k), required("dim", &FmhaDescriptor::dim, "Head dimension of Q and K."),
    field("dim_v", &FmhaDescriptor::dim_v, "Head dimension of V and O."),
    required("dtype", &FmhaDescriptor::dtype, "Of Q, K and V."), settled("o", &FmhaDescriptor::o),
    field("layout", &FmhaDescriptor::layout),
    field("varlen", &FmhaDescriptor::varlen, "Sequences lie one after the other, bounded by cu_seqlens."),
    field("causal", &FmhaDescriptor::causal), field("align", &FmhaDescriptor::align, "Of causal, window and ALiBi."),
    field("window", &FmhaDescriptor::window, "Keys to either side of the diagonal; -1: no limit."),
    field("softcap", &FmhaDescriptor::softcap, "0: none."), field("alibi", &FmhaDescriptor::alibi),
    field("bias", &FmhaDescriptor::bias, "The bias's type; None: no bias."), field("mask", &FmhaDescriptor::mask),
    field("sink", &FmhaDescriptor::sink), field("seqused_k", &FmhaDescriptor::seqused_k),
    field("dropout", &FmhaDescriptor::dropout), field("lse", &FmhaDescriptor::lse, "Whether run() writes LSE."));

template <>
inline constexpr auto fields<FmhaBackwardDescriptor> = std::make_tuple(
    Field<FmhaBackwardDescriptor, FmhaDescriptor>{"forward", &FmhaBackwardDescriptor::forward, "", Given::positional},
    settled("grad", &FmhaBackwardDescriptor::grad, "Of dQ, dK and dV."), field("dbias", &FmhaBackwardDescriptor::dbias),
    field("dalibi_slopes", &FmhaBackwardDescriptor::dalibi_slopes), field("dsink", &FmhaBackwardDescriptor::dsink));

template <>
inline constexpr auto fields<FmhaSupport> =
    std::make_tuple(field("arch", &FmhaSupport::arch), settled("operand", &FmhaSupport::operand, "Type of Q, K and V."),
                    field("o", &FmhaSupport::o, "Output types, and those of dQ, dK and dV."),
                    field("largest_dim", &FmhaSupport::largest_dim, "Largest head dimension."),
                    field("minimum_compute_capability", &FmhaSupport::minimum_compute_capability, "0: none needed."),
                    field("note", &FmhaSupport::note));

namespace {

/// `align` alone is for window and ALiBi without a causal mask, which has an alignment of its own.
void settle_align(FmhaDescriptor& d, bool align_given) {
  if (d.causal == Causal::none) return;
  const Align own = d.causal == Causal::top_left ? Align::top_left : Align::bottom_right;
  if (align_given && d.align != own) {
    throw InvalidProblem(std::string("align: '") + name(own) + "', which causal sets, or None required, got '" +
                         name(d.align) + "'; one alignment governs causal, window and ALiBi");
  }
  d.align = own;
}

}  // namespace

void settle(FmhaDescriptor& d, const Keywords& given) {
  settle_align(d, given.has("align"));
  if (!given.has("heads_k")) d.heads_k = d.heads;
  if (!given.has("dim_v")) d.dim_v = d.dim;
  if (d.o == DType::none) d.o = d.dtype;
}
void settle(FmhaBackwardDescriptor& d, const Keywords&) {
  d.forward.lse = true;
  if (d.grad == DType::none) d.grad = d.forward.dtype;
}

/// What both passes have in common; `Plan_` is that of either.
struct AttentionFace : PlainFace {
  static constexpr char family[] = "fmha", kernels[] = "fmha_kernels";
  using Options = FmhaDescriptor;
  static constexpr auto options =
      std::make_tuple(field("layout", &FmhaDescriptor::layout), field("causal", &FmhaDescriptor::causal),
                      field("align", &FmhaDescriptor::align), field("window", &FmhaDescriptor::window),
                      field("softcap", &FmhaDescriptor::softcap));
  static void settle(Options& options, nb::handle, nb::handle, nb::handle align, nb::handle, nb::handle) {
    settle_align(options, !align.is_none());
  }
};

template <>
struct Face<FmhaPlan> : AttentionFace {
  using A = FmhaArguments;
  static constexpr char name[] = "FmhaPlan", call[] = "fmha", describe[] = "describe_attention",
                        result_type_name[] = "out_dtype";
  static constexpr const auto& operands = fmha::operands;
  static constexpr auto scalars = std::make_tuple(field("scale", &A::scale), field("dropout_p", &A::dropout_p));
  static constexpr auto like = &A::q, result = &A::o;
  static constexpr auto result_type = &FmhaDescriptor::o;

  static const char* asked_by(std::size_t i) { return operands[i].member == &A::lse ? "return_lse" : nullptr; }
};

template <>
struct Face<FmhaBackwardPlan> : AttentionFace {
  using A = FmhaBackwardArguments;
  static constexpr char name[] = "FmhaBackwardPlan", call[] = "fmha_backward", result_type_name[] = "grad_dtype",
                        result_called[] = "dq";
  static constexpr const auto& operands = fmha::backward_operands;
  static constexpr auto scalars =
      std::make_tuple(field("scale", &FmhaArguments::scale), field("dropout_p", &FmhaArguments::dropout_p));
  static constexpr TensorView A::*like = &A::q, A::*result = &A::dq;
  static constexpr auto result_type = &FmhaBackwardDescriptor::grad;

  static const TensorView* resembles(std::size_t i, const A& x) {
    const auto member = operands[i].member;
    return member == &A::dbias           ? &x.bias
           : member == &A::dalibi_slopes ? &x.alibi_slopes
           : member == &A::dsink         ? &x.sink
                                         : nullptr;
  }
  static const char* asked_by(std::size_t i) {
    const auto member = operands[i].member;
    const bool asked = member == &A::dbias || member == &A::dalibi_slopes || member == &A::dsink;
    return asked ? operands[i].name : nullptr;
  }
};

void bind_fmha(nb::module_& m) {
  bind_value<FmhaDescriptor>(
      m, "FmhaDescriptor",
      "One attention problem: O = softmax(scores) V for `heads` heads of `batch` sequences, `heads_k` heads of K and V.\n\n"
      "Score of query i and key j, in this order: scale q_i . k_j; softcap tanh(score / softcap); minus slope |i + off - "
      "j|\n"
      "(ALiBi); plus bias. `off` is 0 for top_left alignment and Sk - Sq for bottom_right. Key j takes part where all of\n"
      "these hold: causal: j <= i + off; window (left, right): i + off - left <= j <= i + off + right, -1 being no limit; "
      "the\n"
      "mask is true; j is within the sequence. The sink is one more logit, without a value.",
      "`dtype` is the type of Q, K and V, and O's unless `o` is given; `bias` is the bias's type, None without one.\n"
      "`varlen`: the sequences lie one after the other, and seq_q and seq_k count the rows of all together. `align` is\n"
      "for window and ALiBi without causal, bottom_right unless given; with causal, that sets it.");
  bind_value<FmhaBackwardDescriptor>(
      m, "FmhaBackwardDescriptor", "The gradients of one attention problem. They need LSE, so `forward` has it.",
      "`grad` is the type of dQ, dK and dV, the operands' unless given; the gradient of O has the operands' type.");
  bind_record<FmhaSupport>(m, "FmhaSupport", "One row of the support table: what a kernel family serves, both ways.");
  m.def("fmha_support", &fmha_support, "The rows of the support table that this build holds.");
  m.def("fmha_registry", &fmha_registry, "Every attention kernel of this build.");

  CallsOf<FmhaPlan>::bind(
      m, "An attention kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.",
      "O = softmax(scores) V, written into `o`, and the natural logarithm of the sum of exponentials into `lse`.\n\n"
      "Shapes, with layout bhsd: q [B, H, Sq, D], k [B, Hk, Sk, D], v [B, Hk, Sk, Dv], o [B, H, Sq, Dv], lse float32\n"
      "[B, H, Sq]; packed: q [H, Tq, D], k [Hk, Tk, D], v [Hk, Tk, Dv], o [H, Tq, Dv], lse [H, Tq]. With layout bshd heads\n"
      "and sequence change places in all but lse. Last dimensions are contiguous; outer strides are free, 0 only in "
      "inputs.\n"
      "bias and mask (bool, true takes part) broadcast to [B, H, Sq, Sk]; alibi_slopes [H] or [B, H] and sink [H], float32\n"
      "or of the operands' type; seqused_k int32 [B], the lengths of K and V; cu_seqlens_q and cu_seqlens_k int32 [B + 1];\n"
      "rng_state int64 [2], seed and offset. scale is 1 / sqrt(D) unless given; dropout_p is the probability of dropping a\n"
      "weight.\n\n"
      "Enqueues on `stream` (None: the current stream of o's library) and returns; on the host it computes before it\n"
      "returns. A row that sees no key gets 0, and LSE -inf. Lengths in device memory are clamped to what the operands\n"
      "hold; on the host they are checked. `workspace` is any contiguous tensor of at least workspace_size bytes, 256-byte\n"
      "aligned.\n\n"
      "Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,\n"
      "ShapeMismatch, LayoutMismatch, DeviceMismatch, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem (dropout_p,\n"
      "lengths), ExportRefused (a tensor that requires grad), DeviceError.",
      "The descriptor that these operands fit: extents, types and options read off the tensors.");
  CallsOf<FmhaBackwardPlan>::bind(
      m, "A kernel for the gradients of attention, chosen for one descriptor and device.",
      "Gradients of q, k and v into `dq`, `dk` and `dv`, given `grad`, the gradient of o.\n\n"
      "The operands are the forward's, with the o and lse that it wrote, and the same scale, dropout_p and rng_state.\n"
      "grad has o's shape and the operands' type; dq, dk and dv have the shapes of q, k and v. dbias has the bias's shape\n"
      "and type, and is summed where the bias is broadcast; dalibi_slopes and dsink have the shapes of alibi_slopes and "
      "sink,\n"
      "and one of their types. Stream, workspace and errors are FmhaPlan.run's. PlanPreference(deterministic=True) gives\n"
      "gradients whose bits repeat.",
      "");
}

}  // namespace cutplan::bindings
