// GroupedGemmDescriptor and GroupedGemmPlan.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <new>
#include <string>

#include "gemm.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

static bool operator_equal(const GroupedGemmDescriptor& x, const GroupedGemmDescriptor& y) {
  return x.groups == y.groups && x.m == y.m && x.n == y.n && x.k == y.k && x.over == y.over && x.a == y.a && x.b == y.b &&
         x.d == y.d && x.bias == y.bias && x.layout == y.layout && operator_equal(x.epilogue, y.epilogue) &&
         x.alignment == y.alignment;
}

static Hash& operator<<(Hash& h, const GroupedGemmDescriptor& d) {
  return h << d.groups << d.m << d.n << d.k << d.over << d.a << d.b << d.d << d.bias << d.layout << d.epilogue
           << d.alignment;
}

static GroupedGemmDescriptor make_descriptor(Keywords& arguments) {
  GroupedGemmDescriptor g;
  g.groups = arguments.integer("groups");
  g.m = arguments.integer("m");
  g.n = arguments.integer("n");
  g.k = arguments.integer("k");
  g.a = arguments.dtype("a");
  g.b = arguments.dtype("b", g.a);
  g.d = arguments.dtype("d", g.a);
  if (const nb::object over = arguments.take("over"); !over.is_none()) g.over = to_grouped_over(over);
  if (const nb::object layout = arguments.take("layout"); !layout.is_none()) g.layout = to_layout(layout);
  g.epilogue = arguments.value("epilogue", g.epilogue, "an Epilogue");
  g.bias = arguments.dtype("bias", DType::none);
  g.alignment = arguments.small("alignment", 0);
  return g;
}

static nb::dict fields(const GroupedGemmDescriptor& g) {
  nb::dict d;
  d["groups"] = g.groups;
  d["m"] = g.m;
  d["n"] = g.n;
  d["k"] = g.k;
  d["a"] = name(g.a);
  d["b"] = name(g.b);
  d["d"] = name(g.d);
  d["over"] = name(g.over);
  d["layout"] = name(g.layout);
  d["epilogue"] = g.epilogue;
  if (g.bias != DType::none) d["bias"] = name(g.bias);
  if (g.alignment != 0) d["alignment"] = g.alignment;
  return d;
}

namespace {

// Pieces of signatures, as the stubs show them; more in plans.hpp.
#define CUTPLAN_OPERANDS                                                                                                 \
  "a: " CUTPLAN_TENSOR ", b: " CUTPLAN_TENSOR ", d: " CUTPLAN_TENSOR ", offsets: " CUTPLAN_TENSOR                        \
  ", *, bias: " CUTPLAN_OPTIONAL ", b2: " CUTPLAN_OPTIONAL ", bias2: " CUTPLAN_OPTIONAL ", row_scale: " CUTPLAN_OPTIONAL \
  ", column_scale: " CUTPLAN_OPTIONAL
#define CUTPLAN_OPERAND_ARGUMENTS                                                                      \
  "a"_a = nb::none(), "b"_a = nb::none(), "d"_a = nb::none(), "offsets"_a = nb::none(), nb::kw_only(), \
  "bias"_a = nb::none(), "b2"_a = nb::none(), "bias2"_a = nb::none(), "row_scale"_a = nb::none(),      \
  "column_scale"_a = nb::none()

struct Operands {
  nb::handle a, b, d, offsets, bias, b2, bias2, row_scale, column_scale;
};

void import(Importer& importer, const Operands& operands, GroupedGemmArguments& arguments) {
  importer.import(operands.a, "a", arguments.a);
  importer.import(operands.b, "b", arguments.b);
  importer.import(operands.d, "d", arguments.d);
  importer.import(operands.offsets, "offsets", arguments.offsets);
  importer.import(operands.bias, "bias", arguments.bias);
  importer.import(operands.b2, "b2", arguments.b2);
  importer.import(operands.bias2, "bias2", arguments.bias2);
  importer.import(operands.row_scale, "row_scale", arguments.row_scale);
  importer.import(operands.column_scale, "column_scale", arguments.column_scale);
}

void run(const GroupedGemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle offsets, nb::handle bias,
         nb::handle b2, nb::handle bias2, nb::handle row_scale, nb::handle column_scale, nb::handle alpha, nb::handle stream,
         nb::handle workspace) {
  Importer importer(plan.device(), stream, d, "d");
  GroupedGemmArguments arguments;
  import(importer, {a, b, d, offsets, bias, b2, bias2, row_scale, column_scale}, arguments);
  arguments.alpha = to_number(alpha, "alpha");
  run_plan(plan, arguments, importer, workspace);
  mark_written({d});
}

void can_implement(const GroupedGemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle offsets,
                   nb::handle bias, nb::handle b2, nb::handle bias2, nb::handle row_scale, nb::handle column_scale,
                   nb::handle alpha) {
  Importer importer;
  GroupedGemmArguments arguments;
  import(importer, {a, b, d, offsets, bias, b2, bias2, row_scale, column_scale}, arguments);
  arguments.alpha = to_number(alpha, "alpha");
  plan.can_implement(arguments);
}

GroupedGemmDescriptor describe_operands(nb::handle a, nb::handle b, nb::handle d, nb::handle offsets, nb::handle bias,
                                        nb::handle b2, nb::handle bias2, nb::handle row_scale, nb::handle column_scale,
                                        nb::handle activation, nb::handle gate) {
  Importer importer;
  GroupedGemmArguments arguments;
  import(importer, {a, b, d, offsets, bias, b2, bias2, row_scale, column_scale}, arguments);
  Epilogue epilogue;
  epilogue.activation = to_activation(activation);
  epilogue.gate = to_gate(gate);
  return describe(arguments, epilogue);
}

void bind_descriptor(nb::module_& m) {
  nb::class_<GroupedGemmDescriptor> descriptor(
      m, "GroupedGemmDescriptor", value_slots<GroupedGemmDescriptor, &operator_equal, &operator<< >(),
      "`groups` products of different sizes, which lie in device memory: offsets, int32 [groups + 1].\n\n"
      "Over m: rows offsets[g] to offsets[g + 1] of A times B[g] are those rows of D; `m` counts the rows of all. Over k:\n"
      "columns offsets[g] to offsets[g + 1] of A times those rows of B are D[g]; `k` counts the columns of all.");
  bind_keywords(
      descriptor, "GroupedGemmDescriptor", &make_descriptor, &fields,
      "def __init__(self, *, groups: int, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, "
      "b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, "
      "over: cutplan._typing.GroupedOverLike = 'm', layout: cutplan._typing.GemmLayoutLike = 'rcr', "
      "epilogue: cutplan.Epilogue | None = None, bias: cutplan._typing.DTypeLike | None = None, "
      "alignment: int | None = None) -> None",
      "`over` is \"m\" or \"k\". Types and alignment are as in GemmDescriptor. Over m an epilogue may have a bias over n, "
      "scales,\n"
      "an activation and a gate; over k nothing. Over m A is row-major, over k the layout is crr.");
  descriptor.def_ro("groups", &GroupedGemmDescriptor::groups)
      .def_ro("m", &GroupedGemmDescriptor::m)
      .def_ro("n", &GroupedGemmDescriptor::n)
      .def_ro("k", &GroupedGemmDescriptor::k)
      .def_prop_ro(
          "over", [](const GroupedGemmDescriptor& self) { return name(self.over); },
          nb::sig("def over(self) -> typing.Literal['m', 'k']"), "\"m\" or \"k\": the extent that the groups share out.")
      .def_prop_ro(
          "a", [](const GroupedGemmDescriptor& self) { return self.a; }, nb::sig("def a(self) -> cutplan.DType"))
      .def_prop_ro(
          "b", [](const GroupedGemmDescriptor& self) { return self.b; }, nb::sig("def b(self) -> cutplan.DType"))
      .def_prop_ro(
          "d", [](const GroupedGemmDescriptor& self) { return self.d; }, nb::sig("def d(self) -> cutplan.DType"))
      .def_prop_ro(
          "bias", [](const GroupedGemmDescriptor& self) { return optional(self.bias); }, "None: D's type.")
      .def_ro("layout", &GroupedGemmDescriptor::layout)
      .def_ro("epilogue", &GroupedGemmDescriptor::epilogue)
      .def_ro("alignment", &GroupedGemmDescriptor::alignment,
              "Bytes; 0: what contiguous operands of these extents have, 16 at most.");

  m.def("describe_grouped", &describe_operands, CUTPLAN_OPERAND_ARGUMENTS, "activation"_a.none() = "none",
        "gate"_a = nb::none(),
        nb::sig("def describe_grouped(" CUTPLAN_OPERANDS
                ", activation: cutplan._typing.ActivationLike = 'none', gate: cutplan._typing.GateLike | None = None) -> "
                "cutplan.GroupedGemmDescriptor"),
        "The descriptor that these operands fit: over m where b has three dimensions, over k where d has.\n\n"
        "`offsets` are not read, only counted. b2 makes the gate \"separate\"; a b that holds the columns of both needs "
        "gate=\"interleaved\".");
}

void bind_plan(nb::module_& m) {
  nb::class_<GroupedGemmPlan> plan(
      m, "GroupedGemmPlan",
      "A kernel for products of different sizes, chosen for one descriptor and device. The host never reads the sizes.");
  plan.def_static("select", &select<GroupedGemmPlan>, CUTPLAN_SELECT_ARGUMENTS,
                  nb::sig("def select(descriptor: cutplan.GroupedGemmDescriptor, device: cutplan._typing.DeviceLike, "
                          "preference: cutplan.PlanPreference | None = None) -> cutplan.GroupedGemmPlan"),
                  "Chooses a kernel, as GemmPlan.select does.")
      .def(
          "run", &run, CUTPLAN_OPERAND_ARGUMENTS, "alpha"_a = 1.0, "stream"_a = nb::none(), "workspace"_a = nb::none(),
          nb::sig("def run(self, " CUTPLAN_OPERANDS ", alpha: float = 1.0, " CUTPLAN_LAUNCH ") -> None"),
          "One product per group, written into `d`.\n\n"
          "Shapes over m: a [m, k], b and b2 [groups, k, n] (an interleaved b [groups, k, 2 n]), d [m, n], bias and bias2\n"
          "[groups, n] (an interleaved bias [groups, 2 n]), row_scale [m] and column_scale [groups, n], float32. Over k: a "
          "[m, k],\n"
          "b [k, n], d [groups, m, n]. offsets: int32 [groups + 1], on the operands' device.\n\n"
          "Over m, rows of d outside the groups are not written; over k an empty group gives zeros. Offsets are not read by "
          "the\n"
          "host, so that a CUDA graph can replay with other sizes: they must not decrease, and lie within the extent. A "
          "kernel\n"
          "clamps what breaks that; the host backend raises InvalidProblem. Stream, workspace and other errors are "
          "GemmPlan.run's.")
      .def("can_implement", &can_implement, CUTPLAN_OPERAND_ARGUMENTS, "alpha"_a = 1.0,
           nb::sig("def can_implement(self, " CUTPLAN_OPERANDS ", alpha: float = 1.0) -> None"),
           "Raises what run() would raise for these operands; touches no device.");
  bind_plan_members(plan, "GroupedGemmPlan");

  m.def(
      "grouped_gemm_kernels",
      [](const GroupedGemmDescriptor& descriptor, const DeviceProperties& properties,
         std::optional<PlanPreference> preference) {
        return grouped_gemm_kernels(descriptor, properties, preference ? *preference : PlanPreference());
      },
      "descriptor"_a, "properties"_a, "preference"_a = nb::none(),
      nb::sig("def grouped_gemm_kernels(descriptor: cutplan.GroupedGemmDescriptor, properties: cutplan.DeviceProperties, "
              "preference: cutplan.PlanPreference | None = None) -> list[cutplan.KernelSku]"),
      "The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.");
}

}  // namespace

void bind_grouped_gemm(nb::module_& m) {
  bind_descriptor(m);
  bind_plan(m);
}

}  // namespace cutplan::bindings
