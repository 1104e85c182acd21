// FmhaDescriptor, FmhaPlan and their backward counterparts.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "keywords.hpp"
#include "plans.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

namespace {

// Pieces of signatures, as the stubs show them; more in plans.hpp.
#define CUTPLAN_OPTIONS                                                                                                 \
  "bias: " CUTPLAN_OPTIONAL ", mask: " CUTPLAN_OPTIONAL ", alibi_slopes: " CUTPLAN_OPTIONAL ", sink: " CUTPLAN_OPTIONAL \
  ", seqused_k: " CUTPLAN_OPTIONAL ", cu_seqlens_q: " CUTPLAN_OPTIONAL ", cu_seqlens_k: " CUTPLAN_OPTIONAL              \
  ", rng_state: " CUTPLAN_OPTIONAL
#define CUTPLAN_OPTION_ARGUMENTS                                                                      \
  "bias"_a = nb::none(), "mask"_a = nb::none(), "alibi_slopes"_a = nb::none(), "sink"_a = nb::none(), \
  "seqused_k"_a = nb::none(), "cu_seqlens_q"_a = nb::none(), "cu_seqlens_k"_a = nb::none(), "rng_state"_a = nb::none()
#define CUTPLAN_SCALARS "scale: float | None = None, dropout_p: float = 0.0"
#define CUTPLAN_FORWARD \
  "self, q: " CUTPLAN_TENSOR ", k: " CUTPLAN_TENSOR ", v: " CUTPLAN_TENSOR ", o: " CUTPLAN_TENSOR ", *, "
#define CUTPLAN_BACKWARD                                                                                                    \
  "self, grad: " CUTPLAN_TENSOR ", q: " CUTPLAN_TENSOR ", k: " CUTPLAN_TENSOR ", v: " CUTPLAN_TENSOR ", o: " CUTPLAN_TENSOR \
  ", lse: " CUTPLAN_TENSOR ", dq: " CUTPLAN_TENSOR ", dk: " CUTPLAN_TENSOR ", dv: " CUTPLAN_TENSOR ", *, "
#define CUTPLAN_FURTHER_GRADIENTS \
  "dbias: " CUTPLAN_OPTIONAL ", dalibi_slopes: " CUTPLAN_OPTIONAL ", dsink: " CUTPLAN_OPTIONAL

bool operator_equal(const FmhaDescriptor& x, const FmhaDescriptor& y) {
  return x.batch == y.batch && x.heads == y.heads && x.heads_k == y.heads_k && x.seq_q == y.seq_q && x.seq_k == y.seq_k &&
         x.dim == y.dim && x.dim_v == y.dim_v && x.dtype == y.dtype && x.o == y.o && x.layout == y.layout &&
         x.packed == y.packed && x.causal == y.causal && x.align == y.align && x.window_left == y.window_left &&
         x.window_right == y.window_right && x.softcap == y.softcap && x.alibi == y.alibi && x.bias == y.bias &&
         x.mask == y.mask && x.sink == y.sink && x.seqused_k == y.seqused_k && x.dropout == y.dropout && x.lse == y.lse;
}

bool operator_equal(const FmhaBackwardDescriptor& x, const FmhaBackwardDescriptor& y) {
  return operator_equal(x.forward, y.forward) && x.grad == y.grad && x.dbias == y.dbias &&
         x.dalibi_slopes == y.dalibi_slopes && x.dsink == y.dsink;
}

Hash& operator<<(Hash& h, const FmhaDescriptor& d) {
  return h << d.batch << d.heads << d.heads_k << d.seq_q << d.seq_k << d.dim << d.dim_v << d.dtype << d.o << d.layout
           << d.packed << d.causal << d.align << d.window_left << d.window_right
           << static_cast<std::int64_t>(nb::hash(nb::float_(d.softcap))) << d.alibi << d.bias << d.mask << d.sink
           << d.seqused_k << d.dropout << d.lse;
}

Hash& operator<<(Hash& h, const FmhaBackwardDescriptor& d) {
  return h << d.forward << d.grad << d.dbias << d.dalibi_slopes << d.dsink;
}

/// What tensors do not tell. `align` alone is for window and ALiBi without a causal mask, which has an alignment of its own.
void set_masks(FmhaDescriptor& d, nb::handle causal, nb::handle align, std::pair<std::int64_t, std::int64_t> window,
               double softcap) {
  d.causal = to_causal(causal);
  const std::optional<Align> wanted = to_align(align);
  if (d.causal != Causal::none) {
    d.align = d.causal == Causal::top_left ? Align::top_left : Align::bottom_right;
    if (wanted && *wanted != d.align) {
      throw InvalidProblem(std::string("align: '") + name(d.align) + "', which causal sets, or None required, got '" +
                           name(*wanted) + "'; one alignment governs causal, window and ALiBi");
    }
  } else if (wanted) {
    d.align = *wanted;
  }
  d.window_left = window.first;
  d.window_right = window.second;
  d.softcap = softcap;
}

FmhaDescriptor make_descriptor(Keywords& arguments) {
  FmhaDescriptor d;
  d.batch = arguments.integer("batch", 1);
  d.heads = arguments.integer("heads");
  d.heads_k = arguments.integer("heads_k", d.heads);
  d.seq_q = arguments.integer("seq_q");
  d.seq_k = arguments.integer("seq_k");
  d.dim = arguments.integer("dim");
  d.dim_v = arguments.integer("dim_v", d.dim);
  d.dtype = arguments.dtype("dtype");
  d.o = arguments.dtype("o", d.dtype);
  if (const nb::object layout = arguments.take("layout"); !layout.is_none()) d.layout = to_fmha_layout(layout);
  d.packed = arguments.flag("packed");
  const nb::object causal = arguments.take("causal"), align = arguments.take("align");
  const auto window = arguments.integers("window", {-1, -1});
  set_masks(d, causal, align, window, arguments.number("softcap", 0));
  d.alibi = arguments.flag("alibi");
  d.bias = arguments.dtype("bias", DType::none);
  d.mask = arguments.flag("mask");
  d.sink = arguments.flag("sink");
  d.seqused_k = arguments.flag("seqused_k");
  d.dropout = arguments.flag("dropout");
  d.lse = arguments.flag("lse");
  return d;
}

nb::dict fields(const FmhaDescriptor& g) {
  nb::dict d;
  d["batch"] = g.batch;
  d["heads"] = g.heads;
  d["heads_k"] = g.heads_k;
  d["seq_q"] = g.seq_q;
  d["seq_k"] = g.seq_k;
  d["dim"] = g.dim;
  d["dim_v"] = g.dim_v;
  d["dtype"] = name(g.dtype);
  d["o"] = name(g.o);
  d["layout"] = name(g.layout);
  if (g.causal != Causal::none) {
    d["causal"] = name(g.causal);
  } else if (g.align != Align::bottom_right) {
    d["align"] = name(g.align);
  }
  if (g.window_left != -1 || g.window_right != -1) d["window"] = nb::make_tuple(g.window_left, g.window_right);
  if (g.softcap != 0) d["softcap"] = g.softcap;
  if (g.bias != DType::none) d["bias"] = name(g.bias);
  const std::pair<const char*, bool> flags[] = {{"packed", g.packed}, {"alibi", g.alibi},         {"mask", g.mask},
                                                {"sink", g.sink},     {"seqused_k", g.seqused_k}, {"dropout", g.dropout},
                                                {"lse", g.lse}};
  for (const auto& [flag, set] : flags) {
    if (set) d[flag] = true;
  }
  return d;
}

FmhaBackwardDescriptor make_backward_descriptor(Keywords& arguments) {
  FmhaBackwardDescriptor d;
  const nb::object forward = arguments.take("forward");
  if (!nb::isinstance<FmhaDescriptor>(forward)) arguments.refuse("forward", "an FmhaDescriptor", forward);
  d.forward = nb::cast<FmhaDescriptor>(forward);
  d.forward.lse = true;
  d.grad = arguments.dtype("grad", d.forward.dtype);
  d.dbias = arguments.flag("dbias");
  d.dalibi_slopes = arguments.flag("dalibi_slopes");
  d.dsink = arguments.flag("dsink");
  return d;
}

nb::dict fields(const FmhaBackwardDescriptor& g) {
  nb::dict d;
  d["forward"] = g.forward;
  d["grad"] = name(g.grad);
  const std::pair<const char*, bool> flags[] = {{"dbias", g.dbias}, {"dalibi_slopes", g.dalibi_slopes}, {"dsink", g.dsink}};
  for (const auto& [flag, set] : flags) {
    if (set) d[flag] = true;
  }
  return d;
}

/// The operands that both passes read when the descriptor asks for them.
struct Options {
  nb::handle bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state;
};

void import(Importer& importer, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse,
            const Options& options, FmhaArguments& arguments) {
  importer.import(q, "q", arguments.q);
  importer.import(k, "k", arguments.k);
  importer.import(v, "v", arguments.v);
  importer.import(o, "o", arguments.o);
  importer.import(lse, "lse", arguments.lse);
  importer.import(options.bias, "bias", arguments.bias);
  importer.import(options.mask, "mask", arguments.mask);
  importer.import(options.alibi_slopes, "alibi_slopes", arguments.alibi_slopes);
  importer.import(options.sink, "sink", arguments.sink);
  importer.import(options.seqused_k, "seqused_k", arguments.seqused_k);
  importer.import(options.cu_seqlens_q, "cu_seqlens_q", arguments.cu_seqlens_q);
  importer.import(options.cu_seqlens_k, "cu_seqlens_k", arguments.cu_seqlens_k);
  importer.import(options.rng_state, "rng_state", arguments.rng_state);
}

void set_scalars(FmhaArguments& arguments, nb::handle scale, nb::handle dropout_p) {
  if (!scale.is_none()) arguments.scale = to_number(scale, "scale");
  arguments.dropout_p = to_number(dropout_p, "dropout_p");
}

struct Gradients {
  nb::handle grad, dq, dk, dv, dbias, dalibi_slopes, dsink;
};

void import(Importer& importer, const Gradients& gradients, FmhaBackwardArguments& arguments) {
  importer.import(gradients.grad, "grad", arguments.grad);
  importer.import(gradients.dq, "dq", arguments.dq);
  importer.import(gradients.dk, "dk", arguments.dk);
  importer.import(gradients.dv, "dv", arguments.dv);
  importer.import(gradients.dbias, "dbias", arguments.dbias);
  importer.import(gradients.dalibi_slopes, "dalibi_slopes", arguments.dalibi_slopes);
  importer.import(gradients.dsink, "dsink", arguments.dsink);
}

void run(const FmhaPlan& plan, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse, nb::handle bias,
         nb::handle mask, nb::handle alibi_slopes, nb::handle sink, nb::handle seqused_k, nb::handle cu_seqlens_q,
         nb::handle cu_seqlens_k, nb::handle rng_state, nb::handle scale, nb::handle dropout_p, nb::handle stream,
         nb::handle workspace) {
  Importer importer(plan.device(), stream, o, "o");
  FmhaArguments arguments;
  import(importer, q, k, v, o, lse, {bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state},
         arguments);
  set_scalars(arguments, scale, dropout_p);
  run_plan(plan, arguments, importer, workspace);
  mark_written({o, lse});
}

void can_implement(const FmhaPlan& plan, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse,
                   nb::handle bias, nb::handle mask, nb::handle alibi_slopes, nb::handle sink, nb::handle seqused_k,
                   nb::handle cu_seqlens_q, nb::handle cu_seqlens_k, nb::handle rng_state, nb::handle scale,
                   nb::handle dropout_p) {
  Importer importer;
  FmhaArguments arguments;
  import(importer, q, k, v, o, lse, {bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state},
         arguments);
  set_scalars(arguments, scale, dropout_p);
  plan.can_implement(arguments);
}

void run_backward(const FmhaBackwardPlan& plan, nb::handle grad, nb::handle q, nb::handle k, nb::handle v, nb::handle o,
                  nb::handle lse, nb::handle dq, nb::handle dk, nb::handle dv, nb::handle bias, nb::handle mask,
                  nb::handle alibi_slopes, nb::handle sink, nb::handle seqused_k, nb::handle cu_seqlens_q,
                  nb::handle cu_seqlens_k, nb::handle rng_state, nb::handle dbias, nb::handle dalibi_slopes,
                  nb::handle dsink, nb::handle scale, nb::handle dropout_p, nb::handle stream, nb::handle workspace) {
  Importer importer(plan.device(), stream, dq, "dq");
  FmhaBackwardArguments arguments;
  import(importer, q, k, v, o, lse, {bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state},
         arguments.forward);
  import(importer, {grad, dq, dk, dv, dbias, dalibi_slopes, dsink}, arguments);
  set_scalars(arguments.forward, scale, dropout_p);
  run_plan(plan, arguments, importer, workspace);
  mark_written({dq, dk, dv, dbias, dalibi_slopes, dsink});
}

void can_implement_backward(const FmhaBackwardPlan& plan, nb::handle grad, nb::handle q, nb::handle k, nb::handle v,
                            nb::handle o, nb::handle lse, nb::handle dq, nb::handle dk, nb::handle dv, nb::handle bias,
                            nb::handle mask, nb::handle alibi_slopes, nb::handle sink, nb::handle seqused_k,
                            nb::handle cu_seqlens_q, nb::handle cu_seqlens_k, nb::handle rng_state, nb::handle dbias,
                            nb::handle dalibi_slopes, nb::handle dsink, nb::handle scale, nb::handle dropout_p) {
  Importer importer;
  FmhaBackwardArguments arguments;
  import(importer, q, k, v, o, lse, {bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state},
         arguments.forward);
  import(importer, {grad, dq, dk, dv, dbias, dalibi_slopes, dsink}, arguments);
  set_scalars(arguments.forward, scale, dropout_p);
  plan.can_implement(arguments);
}

void bind_descriptor(nb::module_& m) {
  nb::class_<FmhaDescriptor> descriptor(
      m, "FmhaDescriptor", value_slots<FmhaDescriptor, &operator_equal, &operator<< >(),
      "One attention problem: O = softmax(scores) V for `heads` heads of `batch` sequences, `heads_k` heads of K and V.\n\n"
      "Score of query i and key j, in this order: scale q_i . k_j; softcap tanh(score / softcap); minus slope |i + off - "
      "j|\n"
      "(ALiBi); plus bias. `off` is 0 for top_left alignment and Sk - Sq for bottom_right. Key j takes part where all of\n"
      "these hold: causal: j <= i + off; window (left, right): i + off - left <= j <= i + off + right, -1 being no limit; "
      "the\n"
      "mask is true; j is within the sequence. The sink is one more logit, without a value.");
  bind_keywords(
      descriptor, "FmhaDescriptor", &make_descriptor, &fields,
      "def __init__(self, *, batch: int = 1, heads: int, heads_k: int | None = None, seq_q: int, seq_k: int, "
      "dim: int, dim_v: int | None = None, dtype: cutplan._typing.DTypeLike, "
      "o: cutplan._typing.DTypeLike | None = None, layout: cutplan._typing.FmhaLayoutLike = 'bhsd', "
      "packed: bool = False, causal: cutplan._typing.CausalLike | None = None, "
      "align: cutplan._typing.AlignLike | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0, "
      "alibi: bool = False, bias: cutplan._typing.DTypeLike | None = None, mask: bool = False, "
      "sink: bool = False, seqused_k: bool = False, dropout: bool = False, lse: bool = False) -> None",
      "`dtype` is the type of Q, K and V, and O's unless `o` is given; `bias` is the bias's type, None without one.\n"
      "`packed`: the sequences lie one after the other, and seq_q and seq_k count the rows of all together. `align` is\n"
      "for window and ALiBi without causal, bottom_right unless given; with causal, that sets it.");
  descriptor.def_ro("batch", &FmhaDescriptor::batch, "Sequences.")
      .def_ro("heads", &FmhaDescriptor::heads, "Of Q and O.")
      .def_ro("heads_k", &FmhaDescriptor::heads_k, "Of K and V; a divisor of heads.")
      .def_ro("seq_q", &FmhaDescriptor::seq_q)
      .def_ro("seq_k", &FmhaDescriptor::seq_k)
      .def_ro("dim", &FmhaDescriptor::dim, "Head dimension of Q and K.")
      .def_ro("dim_v", &FmhaDescriptor::dim_v, "Head dimension of V and O.")
      .def_prop_ro(
          "dtype", [](const FmhaDescriptor& self) { return self.dtype; }, nb::sig("def dtype(self) -> cutplan.DType"),
          "Of Q, K and V.")
      .def_prop_ro(
          "o", [](const FmhaDescriptor& self) { return self.o; }, nb::sig("def o(self) -> cutplan.DType"))
      .def_ro("layout", &FmhaDescriptor::layout)
      .def_ro("packed", &FmhaDescriptor::packed, "Sequences lie one after the other, bounded by cu_seqlens.")
      .def_prop_ro(
          "causal",
          [](const FmhaDescriptor& self) { return self.causal == Causal::none ? std::nullopt : std::optional(self.causal); })
      .def_ro("align", &FmhaDescriptor::align, "Of causal, window and ALiBi.")
      .def_prop_ro(
          "window", [](const FmhaDescriptor& self) { return nb::make_tuple(self.window_left, self.window_right); },
          nb::sig("def window(self) -> tuple[int, int]"), "Keys to either side of the diagonal; -1: no limit.")
      .def_ro("softcap", &FmhaDescriptor::softcap, "0: none.")
      .def_ro("alibi", &FmhaDescriptor::alibi)
      .def_prop_ro(
          "bias", [](const FmhaDescriptor& self) { return optional(self.bias); }, "The bias's type; None: no bias.")
      .def_ro("mask", &FmhaDescriptor::mask)
      .def_ro("sink", &FmhaDescriptor::sink)
      .def_ro("seqused_k", &FmhaDescriptor::seqused_k)
      .def_ro("dropout", &FmhaDescriptor::dropout)
      .def_ro("lse", &FmhaDescriptor::lse, "Whether run() writes LSE.");

  nb::class_<FmhaBackwardDescriptor> backward(m, "FmhaBackwardDescriptor",
                                              value_slots<FmhaBackwardDescriptor, &operator_equal, &operator<< >(),
                                              "The gradients of one attention problem. They need LSE, so `forward` has it.");
  bind_keywords(backward, "FmhaBackwardDescriptor", &make_backward_descriptor, &fields,
                "def __init__(self, forward: cutplan.FmhaDescriptor, *, grad: cutplan._typing.DTypeLike | None = None, "
                "dbias: bool = False, dalibi_slopes: bool = False, dsink: bool = False) -> None",
                "`grad` is the type of dQ, dK and dV, the operands' unless given; the gradient of O has the operands' type.",
                "forward");
  backward.def_ro("forward", &FmhaBackwardDescriptor::forward)
      .def_prop_ro(
          "grad", [](const FmhaBackwardDescriptor& self) { return self.grad; }, nb::sig("def grad(self) -> cutplan.DType"),
          "Of dQ, dK and dV.")
      .def_ro("dbias", &FmhaBackwardDescriptor::dbias)
      .def_ro("dalibi_slopes", &FmhaBackwardDescriptor::dalibi_slopes)
      .def_ro("dsink", &FmhaBackwardDescriptor::dsink);

  m.def(
      "describe_attention",
      [](nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse, nb::handle bias, nb::handle mask,
         nb::handle alibi_slopes, nb::handle sink, nb::handle seqused_k, nb::handle cu_seqlens_q, nb::handle cu_seqlens_k,
         nb::handle rng_state, nb::handle layout, nb::handle causal, nb::handle align, nb::handle window,
         nb::handle softcap) {
        Importer importer;
        FmhaArguments arguments;
        import(importer, q, k, v, o, lse, {bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state},
               arguments);
        FmhaDescriptor options;
        options.layout = to_fmha_layout(layout);
        set_masks(options, causal, align, to_integers(window, "window"), to_number(softcap, "softcap"));
        return describe(arguments, options);
      },
      "q"_a = nb::none(), "k"_a = nb::none(), "v"_a = nb::none(), "o"_a = nb::none(), nb::kw_only(), "lse"_a = nb::none(),
      CUTPLAN_OPTION_ARGUMENTS, "layout"_a = "bhsd", "causal"_a = nb::none(), "align"_a = nb::none(),
      "window"_a = nb::make_tuple(-1, -1), "softcap"_a = 0.0,
      nb::sig("def describe_attention(q: " CUTPLAN_TENSOR ", k: " CUTPLAN_TENSOR ", v: " CUTPLAN_TENSOR
              ", o: " CUTPLAN_OPTIONAL ", *, lse: " CUTPLAN_OPTIONAL ", " CUTPLAN_OPTIONS
              ", layout: cutplan._typing.FmhaLayoutLike = 'bhsd', causal: cutplan._typing.CausalLike | None = None, "
              "align: cutplan._typing.AlignLike | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0) -> "
              "cutplan.FmhaDescriptor"),
      "The descriptor that these operands fit: extents, types and options read off the tensors.");
}

void bind_plans(nb::module_& m) {
  nb::class_<FmhaPlan> forward(
      m, "FmhaPlan",
      "An attention kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.");
  forward
      .def_static(
          "select", &select<FmhaPlan>, CUTPLAN_SELECT_ARGUMENTS,
          nb::sig("def select(descriptor: cutplan.FmhaDescriptor, device: cutplan._typing.DeviceLike, "
                  "preference: cutplan.PlanPreference | None = None) -> cutplan.FmhaPlan"),
          "Chooses a kernel for `descriptor` on `device` (\"cpu\", \"cuda:0\", a DLPack pair, or a tensor on it).\n\n"
          "Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.")
      .def(
          "run", &run, "q"_a = nb::none(), "k"_a = nb::none(), "v"_a = nb::none(), "o"_a = nb::none(), nb::kw_only(),
          "lse"_a = nb::none(), CUTPLAN_OPTION_ARGUMENTS, "scale"_a = nb::none(), "dropout_p"_a = 0.0,
          "stream"_a = nb::none(), "workspace"_a = nb::none(),
          nb::sig("def run(" CUTPLAN_FORWARD "lse: " CUTPLAN_OPTIONAL ", " CUTPLAN_OPTIONS ", " CUTPLAN_SCALARS
                  ", " CUTPLAN_LAUNCH ") -> None"),
          "O = softmax(scores) V, written into `o`, and the natural logarithm of the sum of exponentials into `lse`.\n\n"
          "Shapes, with layout bhsd: q [B, H, Sq, D], k [B, Hk, Sk, D], v [B, Hk, Sk, Dv], o [B, H, Sq, Dv], lse float32\n"
          "[B, H, Sq]; packed: q [H, Tq, D], k [Hk, Tk, D], v [Hk, Tk, Dv], o [H, Tq, Dv], lse [H, Tq]. With layout bshd "
          "heads\n"
          "and sequence change places in all but lse. Last dimensions are contiguous; outer strides are free, 0 only in "
          "inputs.\n"
          "bias and mask (bool, true takes part) broadcast to [B, H, Sq, Sk]; alibi_slopes [H] or [B, H] and sink "
          "[H],\n"
          "float32 or of the operands' type; seqused_k int32 [B], the lengths of K and V; cu_seqlens_q and cu_seqlens_k "
          "int32 [B + 1]; rng_state int64 "
          "[2],\n"
          "seed and offset. scale is 1 / sqrt(D) unless given; dropout_p is the probability of dropping a weight.\n\n"
          "Enqueues on `stream` (None: the current stream of o's library) and returns; on the host it computes before it\n"
          "returns. A row that sees no key gets 0, and LSE -inf. Lengths in device memory are clamped to what the operands\n"
          "hold; on the host they are checked. `workspace` is any contiguous tensor of at least workspace_size bytes, "
          "256-byte\n"
          "aligned.\n\n"
          "Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,\n"
          "ShapeMismatch, LayoutMismatch, DeviceMismatch, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem (dropout_p,\n"
          "lengths), ExportRefused (a tensor that requires grad), DeviceError.")
      .def("can_implement", &can_implement, "q"_a = nb::none(), "k"_a = nb::none(), "v"_a = nb::none(), "o"_a = nb::none(),
           nb::kw_only(), "lse"_a = nb::none(), CUTPLAN_OPTION_ARGUMENTS, "scale"_a = nb::none(), "dropout_p"_a = 0.0,
           nb::sig("def can_implement(" CUTPLAN_FORWARD "lse: " CUTPLAN_OPTIONAL ", " CUTPLAN_OPTIONS ", " CUTPLAN_SCALARS
                   ") -> None"),
           "Raises what run() would raise for these operands; touches no device.");
  bind_plan_members(forward, "FmhaPlan");

  nb::class_<FmhaBackwardPlan> backward(m, "FmhaBackwardPlan",
                                        "A kernel for the gradients of attention, chosen for one descriptor and device.");
  backward
      .def_static(
          "select", &select<FmhaBackwardPlan>, CUTPLAN_SELECT_ARGUMENTS,
          nb::sig("def select(descriptor: cutplan.FmhaBackwardDescriptor, device: cutplan._typing.DeviceLike, "
                  "preference: cutplan.PlanPreference | None = None) -> cutplan.FmhaBackwardPlan"),
          "Chooses a kernel, as FmhaPlan.select does. PlanPreference(deterministic=True) gives gradients whose bits repeat.")
      .def("run", &run_backward, "grad"_a = nb::none(), "q"_a = nb::none(), "k"_a = nb::none(), "v"_a = nb::none(),
           "o"_a = nb::none(), "lse"_a = nb::none(), "dq"_a = nb::none(), "dk"_a = nb::none(), "dv"_a = nb::none(),
           nb::kw_only(), CUTPLAN_OPTION_ARGUMENTS, "dbias"_a = nb::none(), "dalibi_slopes"_a = nb::none(),
           "dsink"_a = nb::none(), "scale"_a = nb::none(), "dropout_p"_a = 0.0, "stream"_a = nb::none(),
           "workspace"_a = nb::none(),
           nb::sig("def run(" CUTPLAN_BACKWARD CUTPLAN_OPTIONS ", " CUTPLAN_FURTHER_GRADIENTS ", " CUTPLAN_SCALARS
                   ", " CUTPLAN_LAUNCH ") -> None"),
           "Gradients of q, k and v into `dq`, `dk` and `dv`, given `grad`, the gradient of o.\n\n"
           "The operands are the forward's, with the o and lse that it wrote, and the same scale, dropout_p and rng_state.\n"
           "grad has o's shape and the operands' type; dq, dk and dv have the shapes of q, k and v. dbias has the bias's "
           "shape\n"
           "and type, and is summed where the bias is broadcast; dalibi_slopes and dsink have the shapes of\n"
           "alibi_slopes and sink, and one of their types. Stream, workspace and errors are FmhaPlan.run's.")
      .def("can_implement", &can_implement_backward, "grad"_a = nb::none(), "q"_a = nb::none(), "k"_a = nb::none(),
           "v"_a = nb::none(), "o"_a = nb::none(), "lse"_a = nb::none(), "dq"_a = nb::none(), "dk"_a = nb::none(),
           "dv"_a = nb::none(), nb::kw_only(), CUTPLAN_OPTION_ARGUMENTS, "dbias"_a = nb::none(),
           "dalibi_slopes"_a = nb::none(), "dsink"_a = nb::none(), "scale"_a = nb::none(), "dropout_p"_a = 0.0,
           nb::sig("def can_implement(" CUTPLAN_BACKWARD CUTPLAN_OPTIONS ", " CUTPLAN_FURTHER_GRADIENTS ", " CUTPLAN_SCALARS
                   ") -> None"),
           "Raises what run() would raise for these operands; touches no device.");
  bind_plan_members(backward, "FmhaBackwardPlan");
}

void bind_registry(nb::module_& m) {
  nb::class_<FmhaSupport>(m, "FmhaSupport", "One row of the support table: what a kernel family serves, both ways.")
      .def_ro("arch", &FmhaSupport::arch)
      .def_ro("operand", &FmhaSupport::operand, "Type of Q, K and V.")
      .def_ro("o", &FmhaSupport::o, "Output types, and those of dQ, dK and dV.")
      .def_ro("largest_dim", &FmhaSupport::largest_dim, "Largest head dimension.")
      .def_ro("minimum_compute_capability", &FmhaSupport::minimum_compute_capability, "0: none needed.")
      .def_ro("note", &FmhaSupport::note)
      .def("__repr__", [](const FmhaSupport& self) {
        nb::dict d;
        d["arch"] = name(self.arch);
        d["operand"] = name(self.operand);
        nb::list outputs;
        for (DType type : self.o) outputs.append(name(type));
        d["o"] = outputs;
        d["largest_dim"] = self.largest_dim;
        d["minimum_compute_capability"] = self.minimum_compute_capability;
        d["note"] = self.note;
        return print_call("FmhaSupport", d);
      });

  m.def("fmha_support", &fmha_support, "The rows of the support table that this build holds.");
  m.def("fmha_registry", &fmha_registry, "Every attention kernel of this build.");
  m.def(
      "fmha_kernels",
      [](const FmhaDescriptor& descriptor, const DeviceProperties& properties, std::optional<PlanPreference> preference) {
        return fmha_kernels(descriptor, properties, preference ? *preference : PlanPreference());
      },
      "descriptor"_a, "properties"_a, "preference"_a = nb::none(),
      nb::sig("def fmha_kernels(descriptor: cutplan.FmhaDescriptor, properties: cutplan.DeviceProperties, "
              "preference: cutplan.PlanPreference | None = None) -> list[cutplan.KernelSku]"),
      "The kernels that can serve `descriptor`, of either pass, on a device of these properties, best first. No device is\n"
      "touched.");
  m.def(
      "fmha_kernels",
      [](const FmhaBackwardDescriptor& descriptor, const DeviceProperties& properties,
         std::optional<PlanPreference> preference) {
        return fmha_kernels(descriptor, properties, preference ? *preference : PlanPreference());
      },
      "descriptor"_a, "properties"_a, "preference"_a = nb::none(),
      nb::sig("def fmha_kernels(descriptor: cutplan.FmhaBackwardDescriptor, properties: cutplan.DeviceProperties, "
              "preference: cutplan.PlanPreference | None = None) -> list[cutplan.KernelSku]"));
}

}  // namespace

void bind_fmha(nb::module_& m) {
  bind_descriptor(m);
  bind_plans(m);
  bind_registry(m);
}

}  // namespace cutplan::bindings
