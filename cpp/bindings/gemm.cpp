// GemmDescriptor and GemmPlan.
#include <nanobind/nanobind.h>
#include <nanobind/operators.h>

#include <cstdint>
#include <new>
#include <string>

#include "common.hpp"
#include "dlpack.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

namespace {

bool operator_equal(const Epilogue& x, const Epilogue& y) {
  return x.bias == y.bias && x.c == y.c && x.activation == y.activation;
}

bool operator_equal(const GemmDescriptor& x, const GemmDescriptor& y) {
  return x.m == y.m && x.n == y.n && x.k == y.k && x.batch == y.batch && x.a == y.a && x.b == y.b && x.d == y.d &&
         x.c == y.c && x.bias == y.bias && x.layout == y.layout && operator_equal(x.epilogue, y.epilogue) &&
         x.alignment == y.alignment;
}

Hash& operator<<(Hash& h, const Epilogue& e) { return h << e.bias << e.c << e.activation; }

Py_hash_t hash(const GemmDescriptor& d) {
  Hash h;
  h << d.m << d.n << d.k << d.batch << d.a << d.b << d.d << d.c << d.bias << d.layout << d.epilogue << d.alignment;
  return h.value();
}

std::string repr(const Epilogue& e) {
  return "Epilogue(bias=" + text(e.bias) + ", c=" + text(e.c) + ", activation='" + name(e.activation) + "')";
}

std::string repr(const GemmDescriptor& d) {
  std::string out = "GemmDescriptor(m=" + std::to_string(d.m) + ", n=" + std::to_string(d.n) + ", k=" + std::to_string(d.k) +
                    ", a=" + text(d.a) + ", b=" + text(d.b) + ", d=" + text(d.d) + ", layout='" + name(d.layout) +
                    "', epilogue=" + repr(d.epilogue) + ", batch=" + std::to_string(d.batch);
  if (d.c != DType::none) out += ", c=" + text(d.c);
  if (d.bias != DType::none) out += ", bias=" + text(d.bias);
  if (d.alignment != 0) out += ", alignment=" + std::to_string(d.alignment);
  return out + ")";
}

struct Operands {
  nb::handle a, b, d, c, bias;
};

void import(Importer& importer, const Operands& operands, GemmArguments& arguments) {
  importer.import(operands.a, "a", arguments.a);
  importer.import(operands.b, "b", arguments.b);
  importer.import(operands.d, "d", arguments.d);
  importer.import(operands.c, "c", arguments.c);
  importer.import(operands.bias, "bias", arguments.bias);
}

/// beta is 1 where there is a C, as in numpy's `a @ b + c`, unless the caller says otherwise.
double to_beta(nb::handle beta, nb::handle c) {
  if (beta.is_none()) return c.is_none() ? 0.0 : 1.0;
  const double value = PyFloat_AsDouble(beta.ptr());
  if (value == -1.0 && PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

void run(const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias, double alpha,
         nb::handle beta, nb::handle stream, nb::handle workspace) {
  const Device device = plan.device();
  Importer importer(device, stream, d, "d");
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias}, arguments);
  arguments.alpha = alpha;
  arguments.beta = to_beta(beta, c);
  const Workspace scratch = to_workspace(importer, workspace, device);
  if (device.type == DeviceType::cpu) {
    // a launch takes less time than giving up the GIL does; a multiplication on the host does not
    nb::gil_scoped_release release;
    plan.run(arguments, nullptr, scratch);
  } else {
    plan.run(arguments, importer.stream(), scratch);
  }
}

void can_implement(const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias,
                   double alpha, nb::handle beta) {
  Importer importer;
  GemmArguments arguments;
  import(importer, {a, b, d, c, bias}, arguments);
  arguments.alpha = alpha;
  arguments.beta = to_beta(beta, c);
  plan.can_implement(arguments);
}

void bind_epilogue(nb::module_& m) {
  nb::class_<Epilogue>(m, "Epilogue", "What is done to A B before it is stored: activation(alpha A B + beta C + bias).")
      .def(
          "__init__",
          [](Epilogue* self, bool bias, bool c, nb::handle activation) {
            new (self) Epilogue{bias, c, to_activation(activation)};
          },
          nb::kw_only(), "bias"_a = false, "c"_a = false, "activation"_a = "none",
          nb::sig("def __init__(self, *, bias: bool = False, c: bool = False, activation: str | cutplan.Activation = "
                  "'none') -> None"))
      .def_ro("bias", &Epilogue::bias, "Adds one value per column of D.")
      .def_ro("c", &Epilogue::c, "Adds a matrix of D's shape, scaled by beta.")
      .def_ro("activation", &Epilogue::activation)
      .def(
          "__eq__", [](const Epilogue& x, const Epilogue& y) { return operator_equal(x, y); }, nb::is_operator(),
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__",
           [](const Epilogue& self) {
             Hash h;
             h << self;
             return h.value();
           })
      .def("__repr__", [](const Epilogue& self) { return repr(self); });
}

void bind_descriptor(nb::module_& m) {
  nb::class_<GemmDescriptor>(
      m, "GemmDescriptor",
      "One problem: D [m, n] = activation(alpha A [m, k] B [k, n] + beta C [m, n] + bias [n]), `batch` times.")
      .def(
          "__init__",
          [](GemmDescriptor* self, std::int64_t m, std::int64_t n, std::int64_t k, nb::handle a, nb::handle b, nb::handle d,
             nb::handle layout, std::optional<Epilogue> epilogue, std::int64_t batch, nb::handle c, nb::handle bias,
             std::optional<int> alignment) {
            GemmDescriptor descriptor;
            descriptor.m = m;
            descriptor.n = n;
            descriptor.k = k;
            descriptor.batch = batch;
            descriptor.a = to_dtype(a, "a");
            descriptor.b = b.is_none() ? descriptor.a : to_dtype(b, "b");
            descriptor.d = d.is_none() ? descriptor.a : to_dtype(d, "d");
            if (!c.is_none()) descriptor.c = to_dtype(c, "c");
            if (!bias.is_none()) descriptor.bias = to_dtype(bias, "bias");
            descriptor.layout = to_layout(layout);
            if (epilogue) descriptor.epilogue = *epilogue;
            if (alignment) descriptor.alignment = *alignment;
            new (self) GemmDescriptor(descriptor);
          },
          nb::kw_only(), "m"_a, "n"_a, "k"_a, "a"_a, "b"_a = nb::none(), "d"_a = nb::none(), "layout"_a = "rcr",
          "epilogue"_a = nb::none(), "batch"_a = 1, "c"_a = nb::none(), "bias"_a = nb::none(), "alignment"_a = nb::none(),
          nb::sig("def __init__(self, *, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, "
                  "b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, "
                  "layout: str | cutplan.GemmLayout = 'rcr', epilogue: cutplan.Epilogue | None = None, batch: int = 1, "
                  "c: cutplan._typing.DTypeLike | None = None, bias: cutplan._typing.DTypeLike | None = None, "
                  "alignment: int | None = None) -> None"),
          "B's and D's types are A's unless given; C's and the bias's are D's. `alignment` is in bytes and covers A's and "
          "B's\n"
          "addresses, leading dimensions and batch strides; None takes what contiguous operands have, 16 at most.")
      .def_ro("m", &GemmDescriptor::m)
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
      .def_ro("layout", &GemmDescriptor::layout)
      .def_ro("epilogue", &GemmDescriptor::epilogue)
      .def_ro("alignment", &GemmDescriptor::alignment,
              "Bytes; 0: what contiguous operands of these extents have, 16 at most.")
      .def(
          "__eq__", [](const GemmDescriptor& x, const GemmDescriptor& y) { return operator_equal(x, y); }, nb::is_operator(),
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", &hash)
      .def("__repr__", [](const GemmDescriptor& self) { return repr(self); });

  m.def(
      "describe",
      [](nb::handle a, nb::handle b, nb::handle d, nb::handle c, nb::handle bias, nb::handle activation) {
        Importer importer;
        GemmArguments arguments;
        import(importer, {a, b, d, c, bias}, arguments);
        return describe(arguments, to_activation(activation));
      },
      "a"_a.none(), "b"_a.none(), "d"_a.none(), nb::kw_only(), "c"_a = nb::none(), "bias"_a = nb::none(),
      "activation"_a = "none",
      nb::sig("def describe(a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, "
              "c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, "
              "activation: str | cutplan.Activation = 'none') -> cutplan.GemmDescriptor"),
      "The descriptor that these operands fit: extents, layout, types and alignment read off the tensors.");
}

void bind_plan(nb::module_& m) {
  nb::class_<GemmPlan>(
      m, "GemmPlan", "A kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.")
      .def_static(
          "select",
          [](const GemmDescriptor& descriptor, nb::handle device, std::optional<PlanPreference> preference) {
            const Device where = to_device(device);
            return GemmPlan::select(descriptor, where, preference ? *preference : PlanPreference());
          },
          "descriptor"_a, "device"_a, "preference"_a = nb::none(),
          nb::sig("def select(descriptor: cutplan.GemmDescriptor, device: cutplan._typing.DeviceLike, "
                  "preference: cutplan.PlanPreference | None = None) -> cutplan.GemmPlan"),
          "Chooses a kernel for `descriptor` on `device` (\"cpu\", \"cuda:0\", a DLPack pair, or a tensor on it).\n\n"
          "Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.")
      .def(
          "run", &run, "a"_a.none(), "b"_a.none(), "d"_a.none(), nb::kw_only(), "c"_a = nb::none(), "bias"_a = nb::none(),
          "alpha"_a = 1.0, "beta"_a = nb::none(), "stream"_a = nb::none(), "workspace"_a = nb::none(),
          nb::sig("def run(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, "
                  "c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, alpha: float = 1.0, "
                  "beta: float | None = None, stream: cutplan._typing.StreamLike | None = None, "
                  "workspace: cutplan._typing.Tensor | None = None) -> None"),
          "D = activation(alpha A B + beta C + bias), written into `d`.\n\n"
          "Shapes: a [m, k], b [k, n], c and d [m, n], bias [n]; with batch > 1 a leading dimension of `batch`, which a, b "
          "and\n"
          "c may leave out or give stride 0. beta is 1 if c is given. Enqueues on `stream` (None: the current stream of "
          "d's\n"
          "library) and returns; on the host it computes before it returns. With an explicit stream the caller has ordered "
          "the\n"
          "operands before it. `workspace` is any contiguous tensor of at least workspace_size bytes, 256-byte aligned.\n\n"
          "Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,\n"
          "ShapeMismatch, LayoutMismatch, DeviceMismatch, Misaligned, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem "
          "(NaN\n"
          "alpha), ExportRefused (a tensor that requires grad), DeviceError.")
      .def("can_implement", &can_implement, "a"_a.none(), "b"_a.none(), "d"_a.none(), nb::kw_only(), "c"_a = nb::none(),
           "bias"_a = nb::none(), "alpha"_a = 1.0, "beta"_a = nb::none(),
           nb::sig(
               "def can_implement(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, "
               "c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, alpha: float = 1.0, "
               "beta: float | None = None) -> None"),
           "Raises what run() would raise for these operands; touches no device.")
      .def(
          "measure_launch",
          [](const GemmPlan& plan, nb::handle a, nb::handle b, nb::handle d, int launches, nb::handle stream,
             nb::handle workspace) {
            Importer importer(plan.device(), stream, d, "d");
            GemmArguments arguments;
            import(importer, {a, b, d, nb::none(), nb::none()}, arguments);
            return plan.measure_launch(arguments, launches, importer.stream(),
                                       to_workspace(importer, workspace, plan.device()));
          },
          "a"_a.none(), "b"_a.none(), "d"_a.none(), nb::kw_only(), "launches"_a, "stream"_a = nb::none(),
          "workspace"_a = nb::none(),
          nb::sig(
              "def measure_launch(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, "
              "launches: int, stream: cutplan._typing.StreamLike | None = None, "
              "workspace: cutplan._typing.Tensor | None = None) -> float"),
          "Host seconds that one bare launch of the plan's kernel takes: the operands are imported, checked and packed "
          "once, the\n"
          "kernel is enqueued `launches` times. What run() costs beyond this is cutplan's own.")
      .def_prop_ro("workspace_size", &GemmPlan::workspace_size, "Bytes of scratch that run() needs, 256-byte aligned.")
      .def_prop_ro("sku", &GemmPlan::sku, nb::rv_policy::reference_internal, "The kernel that runs.")
      .def_prop_ro("precision_guarantee", &GemmPlan::precision_guarantee, nb::rv_policy::reference_internal,
                   "How exact the result is.")
      .def_prop_ro("descriptor", &GemmPlan::descriptor, nb::rv_policy::reference_internal)
      .def_prop_ro(
          "device", [](const GemmPlan& self) { return to_string(self.device()); }, "\"cpu\" or \"cuda:N\".")
      .def("__repr__", [](const GemmPlan& self) {
        return "GemmPlan(" + self.sku().name + " on " + to_string(self.device()) + " for " + repr(self.descriptor()) + ")";
      });
}

void bind_registry(nb::module_& m) {
  nb::class_<GemmSupport>(m, "GemmSupport", "One row of the support table: what a kernel family serves.")
      .def_ro("arch", &GemmSupport::arch)
      .def_ro("operand", &GemmSupport::operand, "Type of A and B.")
      .def_ro("d", &GemmSupport::d, "Output types.")
      .def_ro("layouts", &GemmSupport::layouts)
      .def_ro("minimum_compute_capability", &GemmSupport::minimum_compute_capability, "0: none needed.")
      .def_ro("note", &GemmSupport::note);

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
