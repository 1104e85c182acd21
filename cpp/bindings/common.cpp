// Element types, devices, preferences and what plans say of themselves.
#include "common.hpp"

#include <dlpack/dlpack.h>
#include <nanobind/operators.h>

#include <algorithm>
#include <deque>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "dlpack.hpp"
#include "fields.hpp"
#include "functions.hpp"
#include "gil.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

template <>
inline constexpr auto fields<DeviceProperties> = std::make_tuple(
    field("name", &DeviceProperties::name),
    field("compute_capability", &DeviceProperties::compute_capability, "10 * major + minor; 0 for the host."),
    field("sm_count", &DeviceProperties::sm_count, "Streaming multiprocessors; hardware threads on the host."),
    field("shared_memory", &DeviceProperties::shared_memory, "Bytes that one thread block may opt in to."),
    field("l2_bytes", &DeviceProperties::l2_bytes),
    field("clock_hz", &DeviceProperties::clock_hz, "Highest of the SMs; 0: not known."),
    field("memory_bandwidth", &DeviceProperties::memory_bandwidth, "Bytes a second at the memory's pins; 0: not known."));

template <>
inline constexpr auto fields<KernelSku> = std::make_tuple(
    field("name", &KernelSku::name, "Selects the same kernel again through PlanPreference(kernel=...)."),
    field("category", &KernelSku::category), field("op", &KernelSku::op), settled("a", &KernelSku::a),
    settled("b", &KernelSku::b), settled("accumulator", &KernelSku::accumulator),
    field("d", &KernelSku::d, "None in a list of kernels that serve several output types."),
    field("layout", &KernelSku::layout), field("epilogue", &KernelSku::epilogue), field("arch", &KernelSku::arch),
    field("backend", &KernelSku::backend), field("stages", &KernelSku::stages), field("schedule", &KernelSku::schedule),
    field("split_k", &KernelSku::split_k),
    field("alignment", &KernelSku::alignment, "Bytes to which A's and B's rows must be aligned."),
    field("threads", &KernelSku::threads, "Threads of a block; 0 on the host."),
    field("shared_memory", &KernelSku::shared_memory, "Bytes of dynamic shared memory of a block; 0 on the host."));

template <>
inline constexpr auto fields<PrecisionGuarantee> =
    std::make_tuple(settled("math", &PrecisionGuarantee::math, "Type that the multiplier reads."),
                    settled("accumulator", &PrecisionGuarantee::accumulator, "Type that products are summed in."),
                    field("deterministic", &PrecisionGuarantee::deterministic),
                    field("bit_stable_on_same_hardware", &PrecisionGuarantee::bit_stable_on_same_hardware),
                    field("batch_invariant", &PrecisionGuarantee::batch_invariant),
                    field("accumulation", &PrecisionGuarantee::accumulation,
                          "Error of the sum before the activation, relative to the magnitude."),
                    field("lipschitz", &PrecisionGuarantee::lipschitz, "How much the activation can stretch an error."),
                    field("evaluation", &PrecisionGuarantee::evaluation,
                          "Error of evaluating the activation or the softmax, relative to the magnitude."),
                    field("scores", &PrecisionGuarantee::scores,
                          "Attention: the error that a score carries into its weight, per unit of score_magnitude."),
                    field("rounding", &PrecisionGuarantee::rounding, "Unit roundoff of D."),
                    field("smallest", &PrecisionGuarantee::smallest, "Absolute error where D underflows."),
                    field("largest", &PrecisionGuarantee::largest, "Beyond this magnitude D overflows and no bound holds."));

namespace {

constexpr DType dtypes[] = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::fp8_e4m3, DType::fp8_e5m2, DType::i64,
                            DType::i32, DType::i8,  DType::u8,  DType::i4,   DType::u4,       DType::boolean};

std::optional<DType> dtype_of_name(std::string_view text) {
  for (DType dtype : dtypes) {
    if (text == name(dtype)) return dtype;
  }
  return std::nullopt;
}

/// What Enum(value) says of a value that is none.
[[noreturn]] void refuse_member(nb::handle value, const char* type, const std::string& names) {
  throw nb::value_error((repr_of(value) + " is not a valid " + type + "; must be one of " + names).c_str());
}

/// An enum whose members are found by name, so that Enum("name") works; str() gives the name.
template <typename Option>
void bind_option(nb::module_& m, const char* doc) {
  constexpr const char* type = spelling<Option>.type;
  nb::enum_<Option> binding(m, type, doc);
  for (Option option : spelling<Option>.members) binding.value(name(option), option);
  binding.def_static(
      "_missing_",
      [](nb::handle value) {
        if (const std::optional<Option> option = find_option<Option>(value)) return *option;
        refuse_member(value, type, names_of<Option>());
      },
      "value"_a.none());
  binding.def("__str__", [](Option option) { return name(option); });
}

std::string dtype_names() {
  std::string all;
  for (DType dtype : dtypes) all += std::string(all.empty() ? "'" : ", '") + name(dtype) + "'";
  return all;
}

nb::object text_attribute(nb::handle object, const char* attribute) {
  nb::object value = find_attribute(object, attribute);
  return nb::isinstance<nb::str>(value) ? value : nb::none();
}

double bound(const PrecisionGuarantee& guarantee, double magnitude, double exact, double score_magnitude) {
  for (const auto& [name, given] : {std::pair("magnitude", magnitude), std::pair("score_magnitude", score_magnitude)}) {
    if (given < 0)
      throw nb::value_error((std::string(name) + ": at least 0 required, got " + repr_of(nb::float_(given))).c_str());
  }
  return guarantee.error_bound(magnitude, exact, score_magnitude);
}

void check_scores_given(const PrecisionGuarantee& guarantee, bool given) {
  if (given || guarantee.scores == 0) return;
  throw nb::type_error(
      "score_magnitude: required of attention, not given; it is the largest |scale| sum_d |q_id k_jd| and more "
      "that the output depends on (docs/numerics.md)");
}

double error_bound(const PrecisionGuarantee& guarantee, double magnitude, double exact,
                   std::optional<double> score_magnitude) {
  check_scores_given(guarantee, score_magnitude.has_value());
  return bound(guarantee, magnitude, exact, score_magnitude.value_or(0));
}

/// The formula is the C++ library's; arrays go through it element by element, broadcast against each other as NumPy does.
nb::object error_bounds(const PrecisionGuarantee& guarantee, nb::object magnitude, nb::object exact,
                        nb::object score_magnitude) {
  check_scores_given(guarantee, !score_magnitude.is_none());
  if (score_magnitude.is_none()) score_magnitude = nb::float_(0.0);
  const nb::module_ numpy = nb::module_::import_("numpy");
  const nb::object shaped = numpy.attr("broadcast_arrays")(magnitude, exact, score_magnitude);
  nb::object arrays[3];
  TensorView views[3], to;
  Importer importer;
  for (int i = 0; i < 3; ++i) {
    arrays[i] = numpy.attr("ascontiguousarray")(shaped[i], "dtype"_a = "float64");
    importer.import(arrays[i], "magnitude", views[i]);
  }
  const nb::object bounds = numpy.attr("empty")(nb::object(shaped[0].attr("shape")), "dtype"_a = "float64");
  importer.import(bounds, "bounds", to);
  std::int64_t size = 1;
  for (int i = 0; i < to.rank; ++i) size *= to.shape[i];
  const auto value = [&](int i, std::int64_t at) { return static_cast<const double*>(views[i].data)[at]; };
  auto* out = static_cast<double*>(to.data);
  for (std::int64_t i = 0; i < size; ++i) out[i] = bound(guarantee, value(0, i), value(1, i), value(2, i));
  return bounds;
}

nb::tuple extents(const std::int64_t* values, int rank) {
  const nb::object tuple = nb::steal(PyTuple_New(rank));
  if (!tuple.is_valid()) throw nb::python_error();
  for (int i = 0; i < rank; ++i) PyTuple_SetItem(tuple.ptr(), i, nb::int_(values[i]).release().ptr());
  return nb::borrow<nb::tuple>(tuple);
}

void bind_dtype(nb::module_& m) {
  nb::enum_<DType> dtype(
      m, "DType",
      "Type of a tensor's elements. DType(x) accepts names (\"bfloat16\") and the dtypes of NumPy, torch, JAX, CuPy "
      "and ml_dtypes.");
  // `bool` would hide the built-in inside the class
  for (DType member : dtypes) dtype.value(member == DType::boolean ? "boolean" : name(member), member);
  dtype.def_static(
      "_missing_",
      [](nb::handle value) {
        if (const std::optional<DType> found = find_dtype(value)) return *found;
        refuse_member(value, "DType", dtype_names());
      },
      "value"_a.none());
  dtype.def("__str__", [](DType self) { return name(self); });
  dtype.def_prop_ro("bits", [](DType self) { return bits(self); }, "Width of one element.");
}

void bind_tensor(nb::module_& m) {
  // A tensor may hold a view of itself.
  static PyType_Slot collected[] = {
      {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
         Py_VISIT(Py_TYPE(self));
         if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<TensorViewObject>(self)->tensor.ptr());
         return 0;
       })},
      {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
         if (nb::inst_ready(self)) nb::inst_ptr<TensorViewObject>(self)->tensor = nb::none();
         return 0;
       })},
      {0, nullptr}};
  nb::class_<TensorViewObject>(
      m, "TensorView", nb::type_slots(collected),
      "A tensor whose memory is read with another element type, or with other extents and strides. It can be "
      "passed wherever a tensor can; as_dtype() makes one.")
      .def(
          "__init__",
          [](TensorViewObject* self, nb::object tensor, nb::handle dtype, std::optional<std::vector<std::int64_t>> shape,
             std::optional<std::vector<std::int64_t>> strides, std::int64_t offset) {
            TensorViewObject view;
            view.tensor = std::move(tensor);
            // Of a view it is another view of the same tensor.
            if (nb::isinstance<TensorViewObject>(view.tensor))
              view = TensorViewObject(nb::cast<const TensorViewObject&>(view.tensor));
            if (!dtype.is_none()) view.dtype = to_dtype(dtype, "dtype");
            if (!dtype.is_none() && bits(view.dtype) < 8 && view.rank >= 0)
              throw nb::value_error(
                  "dtype: packed elements are named before a shape: TensorView(as_dtype(x, dtype), shape=...)");
            if (shape.has_value() != strides.has_value() || (shape && shape->size() != strides->size())) {
              throw nb::value_error("shape and strides: must be given together and be of one length");
            }
            if (shape) {
              if (shape->size() > static_cast<std::size_t>(max_rank)) {
                throw nb::value_error(("shape: must have at most " + std::to_string(max_rank) + " dimensions, got " +
                                       std::to_string(shape->size()))
                                          .c_str());
              }
              view.rank = static_cast<int>(shape->size());
              std::copy(shape->begin(), shape->end(), view.shape);
              std::copy(strides->begin(), strides->end(), view.strides);
            }
            view.offset += offset;
            new (self) TensorViewObject(std::move(view));
          },
          "tensor"_a, nb::kw_only(), "dtype"_a = nb::none(), "shape"_a = nb::none(), "strides"_a = nb::none(),
          "offset"_a = 0,
          nb::sig(
              "def __init__(self, tensor: cutplan._typing.Tensor, *, dtype: cutplan._typing.DTypeLike | None = None, "
              "shape: collections.abc.Sequence[int] | None = None, strides: collections.abc.Sequence[int] | None = None, "
              "offset: int = 0) -> None"),
          "Strides and offset count elements. Extents are not checked against the memory: a view is as trusted as a "
          "pointer.")
      .def_ro("tensor", &TensorViewObject::tensor, nb::sig("def tensor(self) -> cutplan._typing.Tensor"))
      .def_prop_ro(
          "dtype",
          [](const TensorViewObject& self) {
            return As<std::optional<DType>>::property(self.dtype == DType::none ? std::nullopt : std::optional(self.dtype));
          },
          nb::sig("def dtype(self) -> cutplan.DType | None"))
      .def("__repr__", [](const TensorViewObject& self) {
        return "TensorView(" + text_of(self.tensor.type().attr("__name__")) +
               ", dtype=" + repr_of(As<DType>::shown(self.dtype)) +
               (self.rank < 0 ? std::string()
                              : ", shape=" + repr_of(extents(self.shape, self.rank)) +
                                    ", strides=" + repr_of(extents(self.strides, self.rank))) +
               (self.offset == 0 ? std::string() : ", offset=" + std::to_string(self.offset)) + ")";
      });

  nb::class_<TensorInfo>(m, "TensorInfo", "What DLPack says of a tensor. Strides count elements.")
      .def_prop_ro(
          "shape", [](const TensorInfo& self) { return extents(self.view.shape, self.view.rank); },
          nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro(
          "strides", [](const TensorInfo& self) { return extents(self.view.strides, self.view.rank); },
          nb::sig("def strides(self) -> tuple[int, ...]"))
      .def_prop_ro("dtype", [](const TensorInfo& self) { return self.view.dtype; })
      .def_prop_ro(
          "device", [](const TensorInfo& self) { return to_python(self.view.device); }, nb::sig("def device(self) -> str"),
          "\"cpu\" or \"cuda:N\".")
      .def_prop_ro("read_only", [](const TensorInfo& self) { return self.view.read_only; })
      .def_prop_ro(
          "data", [](const TensorInfo& self) { return reinterpret_cast<std::uintptr_t>(self.view.data); },
          "Address of element [0, ..., 0].")
      .def_prop_ro(
          "framework", [](const TensorInfo& self) { return to_python(self.framework); },
          nb::sig("def framework(self) -> typing.Literal['torch', 'numpy', 'cupy', 'jax', 'other']"),
          "\"torch\", \"numpy\", \"cupy\", \"jax\" or \"other\".")
      .def("__repr__", [](const TensorInfo& self) {
        const TensorView& view = self.view;
        return "TensorInfo(shape=" + repr_of(extents(view.shape, view.rank)) +
               ", strides=" + repr_of(extents(view.strides, view.rank)) +
               ", dtype=" + repr_of(As<DType>::shown(view.dtype)) + ", device='" + to_string(view.device) +
               "', read_only=" + (view.read_only ? "True" : "False") + ", framework='" + name(self.framework) + "')";
      });

  m.def(
      "inspect",
      [](nb::handle tensor, const char* name) {
        TensorInfo info;
        Importer importer;
        importer.import(tensor, name, info.view);
        if (!info.view.present()) throw MissingOperand(std::string("operand ") + name + ": a tensor is required, got None");
        info.framework = framework_of(tensor);
        return info;
      },
      "tensor"_a.none(), "name"_a = "tensor",
      nb::sig("def inspect(tensor: cutplan._typing.Tensor, name: str = 'tensor') -> cutplan.TensorInfo"),
      "Imports a tensor as a plan would, without ordering it with any stream, and says what was found. `name` is used in "
      "errors.");
}

void bind_device(nb::module_& m) {
  bind_value<DeviceProperties>(m, "DeviceProperties", "What decides which kernels a device can run, and how fast.",
                               "Fields are those of the same names.");

  m.def(
      "device_properties",
      [](nb::handle device) {
        const Device where = to_device(device);
        const GilRelease release;  // the first of these starts the driver
        return device_properties(where);
      },
      "device"_a, nb::sig("def device_properties(device: cutplan._typing.DeviceLike) -> cutplan.DeviceProperties"),
      "Properties of \"cpu\", \"cuda:0\", a DLPack pair or a tensor's device. Raises DeviceError for a device that does not "
      "exist.");
  m.def("cuda_device_count", &cuda_device_count, nb::call_guard<GilRelease>(),
        "Number of CUDA devices; 0 where there is no GPU, no driver, or the build has no CUDA.");
  m.def("cuda_unavailable_reason", &cuda_unavailable_reason, nb::call_guard<GilRelease>(),
        "Why cuda_device_count() is 0, in one sentence; empty where there are devices.");
  m.def(
      "built_architectures",
      [] {
        nb::list list;
        const std::string_view text = built_architectures();
        for (std::size_t begin = 0; begin < text.size();) {
          const std::size_t end = std::min(text.find(',', begin), text.size());
          list.append(nb::str(text.data() + begin, end - begin));
          begin = end + 1;
        }
        return nb::tuple(list);
      },
      nb::sig("def built_architectures() -> tuple[str, ...]"),
      "Architectures whose kernels are built in, \"host\" among them.");
}

void bind_sku(nb::module_& m) {
  nb::class_<KernelSku> sku =
      bind_record<KernelSku>(m, "KernelSku", "The kernel that a plan runs. str() is the name that selects it again.");
  sku.def("__str__", [](const KernelSku& self) { return self.name; })
      .def_prop_ro(
          "tile", [](const KernelSku& self) { return nb::make_tuple(self.tile_m, self.tile_n, self.tile_k); },
          nb::sig("def tile(self) -> tuple[int, int, int]"), "Extents (M, N, K) that one thread block computes.")
      .def_prop_ro(
          "cluster", [](const KernelSku& self) { return nb::make_tuple(self.cluster_m, self.cluster_n); },
          nb::sig("def cluster(self) -> tuple[int, int]"), "Thread blocks (M, N) that share operands.");
}

void bind_precision(nb::module_& m) {
  bind_record<PrecisionGuarantee>(m, "PrecisionGuarantee", "How exact a plan's result is.")
      .def("error_bound", &error_bound, nb::arg("magnitude").noconvert(), nb::arg("exact").noconvert(),
           nb::arg("score_magnitude").noconvert() = nb::none(),
           "Bound on |computed - exact| of an element of an output.\n\n"
           "`exact` is the element in exact arithmetic on the operands as given. Matrix multiplication: `magnitude` is\n"
           "|alpha r_i s_j| sum_k |a_ik b_kj| + |beta c_ij| + |bias|; docs/numerics.md says what further operands add. "
           "Attention: docs/numerics.md gives `magnitude` for each "
           "output;\n"
           "`score_magnitude` is the largest |scale| sum_d |q_id k_jd| + |slope (i + off - j)| + |bias_ij| that the output "
           "depends\n"
           "on, and required. Arrays give a NumPy float64 array of their broadcast shape.")
      .def("error_bound", &error_bounds, "magnitude"_a, "exact"_a, "score_magnitude"_a = nb::none(),
           nb::sig("def error_bound(self, magnitude: cutplan._typing.Array | float, exact: cutplan._typing.Array | float, "
                   "score_magnitude: cutplan._typing.Array | float | None = None) -> typing.Any"));
}

}  // namespace

std::optional<DType> find_dtype(nb::handle object) {
  if (nb::isinstance<DType>(object)) return nb::cast<DType>(object);
  if (nb::isinstance<nb::str>(object)) return dtype_of_name(utf8_of(object));
  // numpy.dtype, and so ml_dtypes' and CuPy's; JAX's scalar types keep one in `dtype`
  if (const nb::object text = text_attribute(object, "name"); !text.is_none()) return dtype_of_name(utf8_of(text));
  const nb::object inner = find_attribute(object, "dtype");
  if (const nb::object text = text_attribute(inner, "name"); !text.is_none()) return dtype_of_name(utf8_of(text));
  // numpy.float16, ml_dtypes.bfloat16; Python's own float names no width and is not in the table
  if (PyType_Check(object.ptr())) {
    return dtype_of_name(utf8_of(object.attr("__name__")));
  }
  const nb::str shown(object);
  const std::string_view text = utf8_of(shown);
  constexpr std::string_view torch = "torch.";
  return text.compare(0, torch.size(), torch) == 0 ? dtype_of_name(text.substr(torch.size())) : std::nullopt;
}

DType to_dtype(nb::handle object, const char* argument) {
  if (const std::optional<DType> dtype = find_dtype(object)) return *dtype;
  std::string text = std::string(argument) + ": must be an element type, one of";
  for (DType dtype : dtypes) text += std::string(dtype == dtypes[0] ? " " : ", ") + name(dtype);
  throw nb::type_error((text + " or another library's dtype of that name; got " + repr_of(object)).c_str());
}

Device to_device(std::int32_t type, std::int32_t id, const std::string& what) {
  switch (type) {
    case kDLCPU:
    case kDLCUDAHost: return {DeviceType::cpu, 0};
    case kDLCUDA:
    case kDLCUDAManaged: return {DeviceType::cuda, id};
    default:
      throw DeviceMismatch(what + "must be in host memory (DLPack device type 1 or 3) or CUDA memory (2 or 13), got " +
                           "device type " + std::to_string(type));
  }
}

Device to_device(nb::handle object) {
  if (nb::isinstance<TensorViewObject>(object)) object = nb::cast<const TensorViewObject&>(object).tensor;
  const nb::object ask = find_attribute(object, "__dlpack_device__"), pair = ask.is_none() ? nb::borrow(object) : ask();
  if (!ask.is_none() || nb::isinstance<nb::tuple>(pair)) {
    const auto found = find_integers(pair);
    if (!found) Where{nullptr, "device"}.refuse("a DLPack pair (type, id) of integers of 32 bits", pair);
    return to_device(found->first, found->second, "device: ");
  }
  // also torch.device, whose str() is such a name
  const auto text = text_of(object);
  if (text == "cpu" || text == "cpu:0") return {DeviceType::cpu, 0};
  if (text == "cuda") return {DeviceType::cuda, 0};
  if (text.size() > 5 && text.size() <= 9 && text.compare(0, 5, "cuda:") == 0 &&
      text.find_first_not_of("0123456789", 5) == std::string::npos) {
    return {DeviceType::cuda, std::stoi(text.substr(5))};
  }
  throw nb::value_error(
      ("device: must be 'cpu', 'cuda', 'cuda:N', a DLPack (type, id) pair or a tensor, got " + repr_of(object)).c_str());
}

nb::object to_python(Device device) {
  constexpr int most = 64;
  static PyObject* names[most + 1] = {};
  if (device.type != DeviceType::cpu && (device.id < 0 || device.id >= most)) return nb::str(to_string(device).c_str());
  PyObject*& found = names[device.type == DeviceType::cpu ? most : device.id];
  if (found == nullptr) found = PyUnicode_InternFromString(to_string(device).c_str());
  return nb::borrow(found);
}

std::string to_string(Device device) { return device.type == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(device.id); }

const char* keep(std::string text) {
  static auto& kept = *new std::deque<std::string>;
  return kept.emplace_back(std::move(text)).c_str();
}

Workspace to_workspace(const TensorView& view, Device device) {
  if (!view.present()) return {};
  if (view.device != device) {
    throw DeviceMismatch("workspace: must be on " + to_string(device) + ", the plan's device, got " +
                         to_string(view.device));
  }
  if (view.read_only) throw ReadOnly("workspace: must be writable, got a read-only tensor");
  std::int64_t elements = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    if (view.shape[i] > 1 && view.strides[i] != elements) {
      throw LayoutMismatch("workspace: must be contiguous, got stride " + std::to_string(view.strides[i]) +
                           " in dimension " + std::to_string(i) + ", where " + std::to_string(elements) +
                           " is needed; pass a flat uint8 tensor");
    }
    elements *= view.shape[i];
  }
  return {view.data, static_cast<std::size_t>(elements) * static_cast<std::size_t>(bits(view.dtype)) / 8};
}

PlanPreference to_preference(nb::handle object) {
  if (object.is_none()) return {};
  if (nb::isinstance<PlanPreference>(object)) return nb::cast<PlanPreference>(object);
  throw nb::type_error(("preference: a PlanPreference or None required, got " + text_of(object.type().attr("__name__")) +
                        "; write it as cutplan.PlanPreference(math='strict')")
                           .c_str());
}

void bind_common(nb::module_& m) {
  bind_dtype(m);
  bind_option<GemmLayout>(m,
                          "Order of A, B and D: r row-major (last dimension contiguous), c column-major. C, residual and "
                          "aux are ordered as D is.");
  bind_option<Activation>(m, "gelu_erf: x/2 (1 + erf(x/sqrt 2)); gelu_tanh: its tanh approximation; silu: x sigmoid(x).");
  bind_option<Arch>(m, "Architecture that a kernel is built for. sm80 kernels also run on later GPUs.");
  bind_option<Backend>(m, "What a kernel is made with.");
  bind_option<Math>(
      m,
      "How float32 operands are multiplied, by growing accuracy: tf32 rounds them to 11 bits, tf32x3 takes three such\n"
      "products and is about as exact as float32, strict is IEEE float32.");
  bind_option<Tune>(
      m,
      "Whether measured times choose the kernel: off, the cost model alone does; cached, what was measured before on\n"
      "such a device; measure, candidates that were not are timed at select().");
  bind_option<FmhaLayout>(m, "Order of the dimensions of Q, K, V and O: b batch, h heads, s sequence, d head dimension.");
  bind_option<Causal>(
      m, "Causal masking: query i sees keys up to i + off, where off is 0 (top_left) or Sk - Sq (bottom_right).");
  bind_option<Align>(m, "Which corner of the scores the diagonal of window and ALiBi runs through.");
  bind_tensor(m);
  bind_device(m);
  bind_value<PlanPreference>(m, "PlanPreference",
                             "What the caller insists on. select() refuses a field that it cannot honour, by name.",
                             "Fields are those of the same names.");
  bind_sku(m);
  bind_precision(m);
}

}  // namespace cutplan::bindings
