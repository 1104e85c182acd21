// GemmDescriptor and GemmPlan.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "gemm.hpp"
#include "gil.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

bool operator_equal(const Epilogue& x, const Epilogue& y) {
  return x.bias == y.bias && x.c == y.c && x.residual == y.residual && x.row_scale == y.row_scale &&
         x.column_scale == y.column_scale && x.activation == y.activation && x.aux == y.aux && x.gate == y.gate;
}

Hash& operator<<(Hash& h, const Epilogue& e) {
  const bool flags[] = {e.c, e.residual, e.row_scale, e.column_scale};
  int packed = 0;  // eight fields in one step of the hash
  for (bool flag : flags) packed = 2 * packed + flag;
  packed = 4 * packed + static_cast<int>(e.bias);
  packed = 4 * packed + static_cast<int>(e.aux);
  packed = 4 * packed + static_cast<int>(e.gate);
  return h << 256 * packed + static_cast<int>(e.activation);
}

static Epilogue make_epilogue(Keywords& arguments) {
  Epilogue e;
  e.bias = to_bias_over(arguments.take("bias"));
  e.c = arguments.flag("c");
  e.residual = arguments.flag("residual");
  e.row_scale = arguments.flag("row_scale");
  e.column_scale = arguments.flag("column_scale");
  e.activation = to_activation(arguments.take("activation"));
  e.aux = to_auxiliary(arguments.take("aux"), "aux");
  e.gate = to_gate(arguments.take("gate"));
  return e;
}

static nb::dict fields(const Epilogue& e) {
  nb::dict d;
  if (e.bias != BiasOver::none) d["bias"] = name(e.bias);
  const std::pair<const char*, bool> flags[] = {
      {"c", e.c}, {"residual", e.residual}, {"row_scale", e.row_scale}, {"column_scale", e.column_scale}};
  for (const auto& [flag, set] : flags) {
    if (set) d[flag] = true;
  }
  if (e.activation != Activation::none) d["activation"] = name(e.activation);
  if (e.aux != Auxiliary::none) d["aux"] = name(e.aux);
  if (e.gate != Gate::none) d["gate"] = name(e.gate);
  return d;
}

static bool operator_equal(const GemmDescriptor& x, const GemmDescriptor& y) {
  return x.m == y.m && x.n == y.n && x.k == y.k && x.batch == y.batch && x.a == y.a && x.b == y.b && x.d == y.d &&
         x.c == y.c && x.bias == y.bias && x.residual == y.residual && x.aux == y.aux && x.layout == y.layout &&
         operator_equal(x.epilogue, y.epilogue) && x.alignment == y.alignment;
}

static Hash& operator<<(Hash& h, const GemmDescriptor& d) {
  std::int64_t types = 0;  // seven types of a byte each in one step of the hash
  for (DType type : {d.a, d.b, d.d, d.c, d.bias, d.residual, d.aux}) types = types << 8 | static_cast<int>(type);
  return h << d.m << d.n << d.k << d.batch << types << d.layout << d.epilogue << d.alignment;
}

static GemmDescriptor make_descriptor(Keywords& arguments) {
  GemmDescriptor g;
  g.m = arguments.integer("m");
  g.n = arguments.integer("n");
  g.k = arguments.integer("k");
  g.a = arguments.dtype("a");
  g.b = arguments.dtype("b", g.a);
  g.d = arguments.dtype("d", g.a);
  if (const nb::object layout = arguments.take("layout"); !layout.is_none()) g.layout = to_layout(layout);
  g.epilogue = arguments.value("epilogue", g.epilogue, "an Epilogue");
  g.batch = arguments.integer("batch", 1);
  g.c = arguments.dtype("c", DType::none);
  g.bias = arguments.dtype("bias", DType::none);
  g.residual = arguments.dtype("residual", DType::none);
  g.aux = arguments.dtype("aux", DType::none);
  g.alignment = arguments.small("alignment", 0);
  return g;
}

static nb::dict fields(const GemmDescriptor& g) {
  nb::dict d;
  d["m"] = g.m;
  d["n"] = g.n;
  d["k"] = g.k;
  d["a"] = name(g.a);
  d["b"] = name(g.b);
  d["d"] = name(g.d);
  d["layout"] = name(g.layout);
  d["epilogue"] = g.epilogue;
  d["batch"] = g.batch;
  const std::pair<const char*, DType> types[] = {{"c", g.c}, {"bias", g.bias}, {"residual", g.residual}, {"aux", g.aux}};
  for (const auto& [operand, type] : types) {
    if (type != DType::none) d[operand] = name(type);
  }
  if (g.alignment != 0) d["alignment"] = g.alignment;
  return d;
}

namespace {

// Pieces of signatures, as the stubs show them; more in plans.hpp.
#define CUTPLAN_OPERANDS                                                                                             \
  "a: " CUTPLAN_TENSOR ", b: " CUTPLAN_TENSOR ", d: " CUTPLAN_TENSOR ", *, c: " CUTPLAN_OPTIONAL                     \
  ", bias: " CUTPLAN_OPTIONAL ", b2: " CUTPLAN_OPTIONAL ", bias2: " CUTPLAN_OPTIONAL ", residual: " CUTPLAN_OPTIONAL \
  ", aux: " CUTPLAN_OPTIONAL ", row_scale: " CUTPLAN_OPTIONAL ", column_scale: " CUTPLAN_OPTIONAL
#define CUTPLAN_OPERAND_ARGUMENTS                                                                                           \
  "a"_a = nb::none(), "b"_a = nb::none(), "d"_a = nb::none(), nb::kw_only(), "c"_a = nb::none(), "bias"_a = nb::none(),     \
  "b2"_a = nb::none(), "bias2"_a = nb::none(), "residual"_a = nb::none(), "aux"_a = nb::none(), "row_scale"_a = nb::none(), \
  "column_scale"_a = nb::none()
#define CUTPLAN_SCALARS "alpha: float = 1.0, beta: float | None = None"

struct Operands {
  nb::handle a, b, d, c, bias, b2, bias2, residual, aux, row_scale, column_scale;
};

void import(Importer& importer, const Operands& operands, GemmArguments& arguments) {
  importer.import(operands.a, "a", arguments.a);
  importer.import(operands.b, "b", arguments.b);
  importer.import(operands.d, "d", arguments.d);
  importer.import(operands.c, "c", arguments.c);
  importer.import(operands.bias, "bias", arguments.bias);
  importer.import(operands.b2, "b2", arguments.b2);
  importer.import(operands.bias2, "bias2", arguments.bias2);
  importer.import(operands.residual, "residual", arguments.residual);
  importer.import(operands.aux, "aux", arguments.aux);
  importer.import(operands.row_scale, "row_scale", arguments.row_scale);
  importer.import(operands.column_scale, "column_scale", arguments.column_scale);
}

/// beta is 1 where there is a C, as in numpy's `a @ b + c`, unless the caller says otherwise.
double to_beta(nb::handle beta, nb::handle c) {
  if (beta.is_none()) return c.is_none() ? 0.0 : 1.0;
  return to_number(beta, "beta");
}

void import(Importer& importer, const Operands& operands, nb::handle alpha, nb::handle beta, GemmArguments& arguments) {
  import(importer, operands, arguments);
  arguments.alpha = to_number(alpha, "alpha");
  arguments.beta = to_beta(beta, operands.c);
}

void run(const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias, nb::handle b2,
         nb::handle bias2, nb::handle residual, nb::handle aux, nb::handle row_scale, nb::handle column_scale,
         nb::handle alpha, nb::handle beta, nb::handle stream, nb::handle workspace) {
  Importer importer(plan.device(), stream, d, "d");
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias, b2, bias2, residual, aux, row_scale, column_scale}, alpha, beta, arguments);
  run_plan(plan, arguments, importer, workspace);
  mark_written({d, plan.descriptor().epilogue.aux == Auxiliary::store ? aux : nb::handle(Py_None)});
}

void can_implement(const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias,
                   nb::handle b2, nb::handle bias2, nb::handle residual, nb::handle aux, nb::handle row_scale,
                   nb::handle column_scale, nb::handle alpha, nb::handle beta) {
  Importer importer;
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias, b2, bias2, residual, aux, row_scale, column_scale}, alpha, beta, arguments);
  plan.can_implement(arguments);
}

double measure_launch(const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias,
                      nb::handle b2, nb::handle bias2, nb::handle residual, nb::handle aux, nb::handle row_scale,
                      nb::handle column_scale, nb::handle alpha, nb::handle beta, int launches, nb::handle stream,
                      nb::handle workspace) {
  Importer importer(plan.device(), stream, d, "d");
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias, b2, bias2, residual, aux, row_scale, column_scale}, alpha, beta, arguments);
  const Workspace scratch = to_workspace(importer, workspace, plan.device());
  const double seconds = [&] {
    const GilRelease release;
    return plan.measure_launch(arguments, launches, importer.stream(), scratch);
  }();
  mark_written({d, plan.descriptor().epilogue.aux == Auxiliary::store ? aux : nb::handle(Py_None)});
  return seconds;
}

GemmDescriptor describe_operands(nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias, nb::handle b2,
                                 nb::handle bias2, nb::handle residual, nb::handle aux, nb::handle row_scale,
                                 nb::handle column_scale, nb::handle activation, nb::handle aux_mode, nb::handle gate) {
  Importer importer;
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias, b2, bias2, residual, aux, row_scale, column_scale}, arguments);
  Epilogue epilogue;
  epilogue.activation = to_activation(activation);
  epilogue.aux = to_auxiliary(aux_mode, "aux_mode");
  epilogue.gate = to_gate(gate);
  return describe(arguments, epilogue);
}

void bind_epilogue(nb::module_& m) {
  nb::class_<Epilogue> epilogue(
      m, "Epilogue", value_slots<Epilogue, &operator_equal, &operator<< >(),
      "What is done to A B before it is stored.\n\n"
      "    x = alpha row_scale_i column_scale_j (A B)_ij + beta C_ij + bias\n"
      "    D = activation(x) + residual                                  aux=\"store\": also writes x to aux\n"
      "    D = x activation'(aux) + residual                             aux=\"gradient\", for a backward pass\n"
      "    D = activation(x) x2 + residual                               gated: x2 is x of b2 and bias2");
  bind_keywords(
      epilogue, "Epilogue", &make_epilogue, &fields,
      "def __init__(self, *, bias: cutplan._typing.BiasLike | None = False, c: bool = False, residual: bool = False, "
      "row_scale: bool = False, column_scale: bool = False, activation: cutplan._typing.ActivationLike = 'none', "
      "aux: cutplan._typing.AuxLike | None = None, gate: cutplan._typing.GateLike | None = None) -> None",
      "`bias` is True or \"n\" for one value per column of D, \"m\" for one per row. `aux` is \"store\" or "
      "\"gradient\". `gate`\n"
      "is \"separate\", with B and b2 two matrices, or \"interleaved\", with the columns of both taking turns in one B "
      "[k, 2 n].");
  epilogue
      .def_prop_ro(
          "bias", [](const Epilogue& self) { return name_or_none(self.bias, BiasOver::none); },
          nb::sig("def bias(self) -> typing.Literal['n', 'm'] | None"),
          "\"n\": one value per column of D; \"m\": one per row.")
      .def_ro("c", &Epilogue::c, "A matrix of D's shape, scaled by beta.")
      .def_ro("residual", &Epilogue::residual, "A matrix of D's shape, added last.")
      .def_ro("row_scale", &Epilogue::row_scale, "A float32 factor per row of D.")
      .def_ro("column_scale", &Epilogue::column_scale, "A float32 factor per column of D.")
      .def_ro("activation", &Epilogue::activation)
      .def_prop_ro(
          "aux", [](const Epilogue& self) { return name_or_none(self.aux, Auxiliary::none); },
          nb::sig("def aux(self) -> typing.Literal['store', 'gradient'] | None"),
          "\"store\": the value before the activation is written; \"gradient\": the activation's derivative there is a "
          "factor.")
      .def_prop_ro(
          "gate", [](const Epilogue& self) { return name_or_none(self.gate, Gate::none); },
          nb::sig("def gate(self) -> typing.Literal['separate', 'interleaved'] | None"), "\"separate\" or \"interleaved\".");
}

void bind_descriptor(nb::module_& m) {
  nb::class_<GemmDescriptor> descriptor(
      m, "GemmDescriptor", value_slots<GemmDescriptor, &operator_equal, &operator<< >(),
      "One problem: D [m, n] = epilogue(A [m, k] B [k, n]), `batch` times. Epilogue has the formula.");
  bind_keywords(
      descriptor, "GemmDescriptor", &make_descriptor, &fields,
      "def __init__(self, *, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, "
      "b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, "
      "layout: cutplan._typing.GemmLayoutLike = 'rcr', epilogue: cutplan.Epilogue | None = None, batch: int = 1, "
      "c: cutplan._typing.DTypeLike | None = None, bias: cutplan._typing.DTypeLike | None = None, "
      "residual: cutplan._typing.DTypeLike | None = None, aux: cutplan._typing.DTypeLike | None = None, "
      "alignment: int | None = None) -> None",
      "B's and D's types are A's unless given; those of C, bias, residual and aux are D's. `alignment` is in bytes and\n"
      "covers A's and B's addresses, leading dimensions and batch strides; None takes what contiguous operands have, 16 at\n"
      "most.");
  descriptor.def_ro("m", &GemmDescriptor::m)
      .def_ro("n", &GemmDescriptor::n)
      .def_ro("k", &GemmDescriptor::k)
      .def_ro("batch", &GemmDescriptor::batch)
      .def_prop_ro(
          "a", [](const GemmDescriptor& self) { return optional(self.a); }, nb::sig("def a(self) -> cutplan.DType"))
      .def_prop_ro(
          "b", [](const GemmDescriptor& self) { return optional(self.b); }, nb::sig("def b(self) -> cutplan.DType"))
      .def_prop_ro(
          "d", [](const GemmDescriptor& self) { return optional(self.d); }, nb::sig("def d(self) -> cutplan.DType"))
      .def_prop_ro(
          "c", [](const GemmDescriptor& self) { return optional(self.c); }, "None: D's type.")
      .def_prop_ro(
          "bias", [](const GemmDescriptor& self) { return optional(self.bias); }, "None: D's type.")
      .def_prop_ro(
          "residual", [](const GemmDescriptor& self) { return optional(self.residual); }, "None: D's type.")
      .def_prop_ro(
          "aux", [](const GemmDescriptor& self) { return optional(self.aux); }, "None: D's type.")
      .def_ro("layout", &GemmDescriptor::layout)
      .def_ro("epilogue", &GemmDescriptor::epilogue)
      .def_ro("alignment", &GemmDescriptor::alignment,
              "Bytes; 0: what contiguous operands of these extents have, 16 at most.");

  m.def("describe", &describe_operands, CUTPLAN_OPERAND_ARGUMENTS, "activation"_a.none() = "none", "aux_mode"_a = nb::none(),
        "gate"_a = nb::none(),
        nb::sig("def describe(" CUTPLAN_OPERANDS
                ", activation: cutplan._typing.ActivationLike = 'none', aux_mode: cutplan._typing.AuxLike | None = None, "
                "gate: cutplan._typing.GateLike | None = None) -> cutplan.GemmDescriptor"),
        "The descriptor that these operands fit: extents, layout, types and alignment read off the tensors.\n\n"
        "A bias [n] is one value per column of D, a bias [m, 1] one per row. `aux_mode` says what aux is for, \"store\" or\n"
        "\"gradient\"; b2 makes the gate \"separate\"; a b that holds the columns of both needs gate=\"interleaved\".");
}

void bind_plan(nb::module_& m) {
  nb::class_<GemmPlan> plan(
      m, "GemmPlan",
      "A kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.");
  plan.def_static(
          "select", &select<GemmPlan>, CUTPLAN_SELECT_ARGUMENTS,
          nb::sig("def select(descriptor: cutplan.GemmDescriptor, device: cutplan._typing.DeviceLike, "
                  "preference: cutplan.PlanPreference | None = None) -> cutplan.GemmPlan"),
          "Chooses a kernel for `descriptor` on `device` (\"cpu\", \"cuda:0\", a DLPack pair, or a tensor on it).\n\n"
          "Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.")
      .def(
          "run", &run, CUTPLAN_OPERAND_ARGUMENTS, "alpha"_a = 1.0, "beta"_a = nb::none(), "stream"_a = nb::none(),
          "workspace"_a = nb::none(),
          nb::sig("def run(self, " CUTPLAN_OPERANDS ", " CUTPLAN_SCALARS ", " CUTPLAN_LAUNCH ") -> None"),
          "D = epilogue(A B), written into `d`; Epilogue has the formula.\n\n"
          "Shapes: a [m, k], b and b2 [k, n] (an interleaved b [k, 2 n]), c, d, residual and aux [m, n]; bias and bias2 [n] "
          "(an\n"
          "interleaved bias [2 n]), a bias over m [m, 1]; row_scale [m] and column_scale [n], float32. With batch > 1 "
          "matrices\n"
          "have a leading dimension of `batch`, which all but d and a stored aux may leave out or give stride 0; vectors "
          "are\n"
          "shared by the batch. beta is 1 if c is given.\n\n"
          "Enqueues on `stream` (None: the current stream of d's library) and returns; on the host it computes before it\n"
          "returns. With an explicit stream the caller has ordered the operands before it. `workspace` is any contiguous "
          "tensor\n"
          "of at least workspace_size bytes, 256-byte aligned.\n\n"
          "Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,\n"
          "ShapeMismatch, LayoutMismatch, DeviceMismatch, Misaligned, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem "
          "(NaN\n"
          "alpha), ExportRefused (a tensor that requires grad), DeviceError.")
      .def("can_implement", &can_implement, CUTPLAN_OPERAND_ARGUMENTS, "alpha"_a = 1.0, "beta"_a = nb::none(),
           nb::sig("def can_implement(self, " CUTPLAN_OPERANDS ", " CUTPLAN_SCALARS ") -> None"),
           "Raises what run() would raise for these operands; touches no device.")
      .def("measure_launch", &measure_launch, CUTPLAN_OPERAND_ARGUMENTS, "alpha"_a = 1.0, "beta"_a = nb::none(),
           "launches"_a, "stream"_a = nb::none(), "workspace"_a = nb::none(),
           nb::sig("def measure_launch(self, " CUTPLAN_OPERANDS ", " CUTPLAN_SCALARS ", launches: int, " CUTPLAN_LAUNCH
                   ") -> float"),
           "Host seconds that one bare launch of the plan's kernel takes: the operands are imported, checked and packed "
           "once, the\n"
           "kernel is enqueued `launches` times. What run() costs beyond this is cutplan's own.");
  bind_plan_members(plan, "GemmPlan");
}

void bind_registry(nb::module_& m) {
  nb::class_<GemmSupport>(m, "GemmSupport", "One row of the support table: what a kernel family serves.")
      .def_ro("arch", &GemmSupport::arch)
      .def_ro("operand", &GemmSupport::operand, "Type of A and B.")
      .def_ro("d", &GemmSupport::d, "Output types.")
      .def_ro("layouts", &GemmSupport::layouts)
      .def_ro("minimum_compute_capability", &GemmSupport::minimum_compute_capability, "0: none needed.")
      .def_ro("note", &GemmSupport::note)
      .def("__repr__", [](const GemmSupport& self) {
        nb::dict d;
        d["arch"] = name(self.arch);
        d["operand"] = name(self.operand);
        nb::list outputs, layouts;
        for (DType type : self.d) outputs.append(name(type));
        for (GemmLayout layout : self.layouts) layouts.append(name(layout));
        d["d"] = outputs;
        d["layouts"] = layouts;
        d["minimum_compute_capability"] = self.minimum_compute_capability;
        d["note"] = self.note;
        return print_call("GemmSupport", d);
      });

  m.def("gemm_support", &gemm_support, "The rows of the support table that this build holds.");
  m.def("gemm_registry", &gemm_registry, "Every GEMM kernel of this build.");
  m.def(
      "gemm_kernels",
      [](const GemmDescriptor& descriptor, const DeviceProperties& properties, std::optional<PlanPreference> preference) {
        return gemm_kernels(descriptor, properties, preference ? *preference : PlanPreference());
      },
      "descriptor"_a, "properties"_a, "preference"_a = nb::none(),
      nb::sig("def gemm_kernels(descriptor: cutplan.GemmDescriptor, properties: cutplan.DeviceProperties, "
              "preference: cutplan.PlanPreference | None = None) -> list[cutplan.KernelSku]"),
      "The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.");
}

}  // namespace

void bind_gemm(nb::module_& m) {
  bind_epilogue(m);
  bind_descriptor(m);
  bind_plan(m);
  bind_registry(m);
}

}  // namespace cutplan::bindings
