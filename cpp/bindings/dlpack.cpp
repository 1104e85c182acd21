#include "dlpack.hpp"

#include <dlpack/dlpack.h>

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common.hpp"
#include "core/operands.hpp"
#include "gil.hpp"
#include "keywords.hpp"

namespace cutplan::bindings {
namespace {

// Names of capsules, which the standard gives and its header does not define.
constexpr char exchange_capsule[] = "dlpack_exchange_api";
constexpr char capsule_name[] = "dltensor";
constexpr char used_capsule_name[] = "used_dltensor";
constexpr char versioned_capsule_name[] = "dltensor_versioned";
constexpr char used_versioned_capsule_name[] = "used_dltensor_versioned";

/// What has to be known of a Python type before one of its objects can be imported.
struct Producer {
  const DLPackExchangeAPI* api = nullptr;
  Framework framework = Framework::other;
  bool is_view = false;           // a TensorViewObject
  bool is_info = false;           // a TensorInfo
  const char* refusal = nullptr;  // why no tensor of this type is read
};

std::string operand(const char* name) { return std::string("operand ") + name + ": "; }

std::string type_of(nb::handle object) {
  const nb::handle type = object.type();
  const auto module = text_of(type.attr("__module__"));
  const auto qualified = text_of(type.attr("__qualname__"));
  return module == "builtins" ? qualified : module + "." + qualified;
}

const DLPackExchangeAPI* find_exchange_api(nb::handle type) {
  const nb::object capsule = find_attribute(type, "__dlpack_c_exchange_api__");
  if (!PyCapsule_IsValid(capsule.ptr(), exchange_capsule)) return nullptr;
  auto* header = static_cast<DLPackExchangeAPIHeader*>(PyCapsule_GetPointer(capsule.ptr(), exchange_capsule));
  while (header != nullptr && header->version.major != DLPACK_MAJOR_VERSION) header = header->prev_api;
  return reinterpret_cast<const DLPackExchangeAPI*>(header);  // the table begins with its header
}

std::string module_of(nb::handle type) { return text_of(find_attribute(type, "__module__")); }

bool is_torch_tensor(nb::handle type) {
  const nb::object tensor = nb::module_::import_("torch").attr("Tensor");
  const int answer = PyObject_IsSubclass(type.ptr(), tensor.ptr());
  if (answer < 0) throw nb::python_error();
  return answer == 1;
}

/// Types whose memory is not what they stand for; null for others. What follows is the operand's name.
const char* find_refusal(nb::handle type, Framework framework) {
  if (framework == Framework::jax) {
    for (nb::handle base : nb::borrow<nb::tuple>(type.attr("__mro__"))) {
      if (text_of(base.attr("__name__")) == "Tracer")
        return "a tracer, which has no memory; call outside of jax.jit, jax.grad and jax.vmap";
    }
  }
  if (framework == Framework::numpy) {
    for (nb::handle base : nb::borrow<nb::tuple>(type.attr("__mro__"))) {
      const std::string module = module_of(base);
      if (module == "numpy.ma" || module.rfind("numpy.ma.", 0) == 0)
        return "a masked array, whose mask a plan would not see; fill it, x.filled(value), or pass x.data to read what is "
               "masked";
    }
  }
  if (framework != Framework::torch) return nullptr;
  // What handles every operation of torch itself stands for more, or for less, than the memory that it shows.
  const nb::object own = find_attribute(type, "__torch_dispatch__");
  const nb::object plain = find_attribute(nb::module_::import_("torch").attr("Tensor"), "__torch_dispatch__");
  if (own.is(plain)) return nullptr;
  if (text_of(type.attr("__name__")) == "FakeTensor")
    return "a fake tensor, which has a shape and no memory; call outside of tracing, or make the call a custom operator";
  return "a tensor that stands for others (its type handles operations by __torch_dispatch__), so that its memory is not "
         "its "
         "value; pass the plain tensor inside it, such as x.to_local() of a DTensor";
}

/// By the module of the type or of one of its bases, so that subclasses are treated as what they derive from.
Framework find_framework(nb::handle type) {
  for (nb::handle base : nb::borrow<nb::tuple>(type.attr("__mro__"))) {
    const std::string module = module_of(base), root = module.substr(0, module.find('.'));
    // Modules, dtypes and generators are torch's too, and no tensors.
    if (root == "torch") return is_torch_tensor(type) ? Framework::torch : Framework::other;
    if (root == "numpy") return Framework::numpy;
    if (root == "cupy") return Framework::cupy;
    if (root == "jax" || root == "jaxlib") return Framework::jax;
  }
  return Framework::other;
}

/// The GIL guards the cache. It holds its types strongly, so that an address in it is never another type's; a program meets
/// few tensor types, and one that makes them without end only loses the oldest entries.
const Producer& producer_of(nb::handle object) {
  struct Entry {
    PyObject* type;
    Producer producer;
  };
  constexpr int capacity = 32;
  static Entry cache[capacity];
  static int size = 0, next = 0;

  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  for (int i = 0; i < size; ++i) {
    if (cache[i].type == type) return cache[i].producer;
  }
  Producer producer;
  producer.is_view = nb::isinstance<TensorViewObject>(object);
  producer.is_info = nb::isinstance<TensorInfo>(object);
  producer.api = find_exchange_api(type);
  producer.framework = find_framework(type);
  producer.refusal = find_refusal(type, producer.framework);

  nb::object evicted = size == capacity ? nb::steal(cache[next].type) : nb::object();
  Py_INCREF(type);
  Entry& entry = cache[next];
  entry = {type, producer};
  if (size < capacity) ++size;
  next = (next + 1) % capacity;
  return entry.producer;
}

/// What is known of a tensor that may be seen through a view; `object` becomes the tensor itself.
Producer unwrap(nb::handle& object) {
  Producer producer = producer_of(object);
  if (!producer.is_view) return producer;
  object = nb::cast<const TensorViewObject&>(object).tensor;
  return producer_of(object);
}

/// The type code's element type; none where cutplan has none.
constexpr DType decode(DLDataType t) noexcept {
  switch (t.code) {
    case kDLFloat: return t.bits == 32 ? DType::f32 : t.bits == 16 ? DType::f16 : t.bits == 64 ? DType::f64 : DType::none;
    case kDLBfloat: return t.bits == 16 ? DType::bf16 : DType::none;
    case kDLFloat8_e4m3fn: return t.bits == 8 ? DType::fp8_e4m3 : DType::none;
    case kDLFloat8_e5m2: return t.bits == 8 ? DType::fp8_e5m2 : DType::none;
    case kDLInt:
      return t.bits == 8    ? DType::i8
             : t.bits == 32 ? DType::i32
             : t.bits == 64 ? DType::i64
             : t.bits == 4  ? DType::i4
                            : DType::none;
    case kDLUInt: return t.bits == 8 ? DType::u8 : t.bits == 4 ? DType::u4 : DType::none;
    case kDLBool: return t.bits == 8 ? DType::boolean : DType::none;
    default: return DType::none;
  }
}

DLDataType encode(DType dtype) {
  const auto width = static_cast<std::uint8_t>(bits(dtype));
  switch (dtype) {
    case DType::bf16: return {kDLBfloat, width, 1};
    case DType::fp8_e4m3: return {kDLFloat8_e4m3fn, width, 1};
    case DType::fp8_e5m2: return {kDLFloat8_e5m2, width, 1};
    case DType::i64:
    case DType::i32:
    case DType::i8: return {kDLInt, width, 1};
    case DType::u8: return {kDLUInt, width, 1};
    case DType::boolean: return {kDLBool, width, 1};
    default: return {kDLFloat, width, 1};
  }
}

std::string describe(DLDataType t) {
  static constexpr const char* names[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  std::string text = t.code < std::size(names)
                         ? names[t.code] + std::to_string(t.bits)
                         : "DLPack type code " + std::to_string(t.code) + " of " + std::to_string(t.bits) + " bits";
  if (t.lanes != 1) text += " in vectors of " + std::to_string(t.lanes);
  return text;
}

[[noreturn]] void refuse_dtype(const char* name, DLDataType t, DType wanted) {
  if (t.lanes != 1) {
    throw DTypeMismatch(operand(name) + "elements must be scalars, got " + describe(t) +
                        "; view the tensor as its scalar type with one more dimension");
  }
  if (wanted == DType::none) {
    throw DTypeMismatch(operand(name) + "got elements of type " + describe(t) +
                        ", which no plan knows; supported are float64, float32, " +
                        "float16, bfloat16, float8_e4m3fn, float8_e5m2, int64, int32, int8, uint8, int4, uint4 and bool; " +
                        "cutplan.as_dtype() names the type of raw bytes");
  }
  const int width = bits(wanted);
  throw DTypeMismatch(operand(name) + "raw elements that stand for " + cutplan::name(wanted) + " must be integers of " +
                      (width < 8 ? "8 bits, two elements in each" : std::to_string(width) + " bits") + ", got " +
                      describe(t));
}

/// Reads packed 4-bit elements out of bytes: the last dimension, which must be contiguous, holds twice as many.
void unpack_nibbles(const char* name, DType dtype, TensorView& view) {
  const int last = view.rank - 1;
  if (last < 0)
    throw ShapeMismatch(operand(name) + "packed " + cutplan::name(dtype) + " needs at least one dimension, got none");
  if (view.shape[last] > 1 && view.strides[last] != 1) {
    throw LayoutMismatch(operand(name) + "packed " + cutplan::name(dtype) +
                         " needs a last dimension of stride 1, got stride " + std::to_string(view.strides[last]));
  }
  for (int i = 0; i < last; ++i) view.strides[i] *= 2;
  view.shape[last] *= 2;
  view.strides[last] = 1;
}

/// No step within memory is as long, in bytes or elements.
constexpr std::int64_t end_of_memory = std::int64_t{1} << 56;

/// CuPy divides a step in bytes by the size of an element, and without a sign: a negative one comes as a step beyond any
/// memory, of as many bytes modulo 2^64.
std::int64_t signed_stride(std::int64_t stride, int element_bits) {
  if (stride < end_of_memory || element_bits < 8) return stride;
  const std::int64_t bytes = element_bits / 8;
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(stride) * static_cast<std::uint64_t>(bytes)) / bytes;
}

/// `wanted`: the type that raw bytes stand for, or none to take the producer's word.
void decode(const DLTensor& t, std::uint64_t flags, Framework framework, const char* name, DType wanted, TensorView& view) {
  DType dtype = decode(t.dtype);
  bool nibbles = false;
  if (t.dtype.lanes != 1) refuse_dtype(name, t.dtype, wanted);
  if (wanted != DType::none && wanted != dtype) {
    const bool raw = t.dtype.code == kDLInt || t.dtype.code == kDLUInt || t.dtype.code == kDLOpaqueHandle;
    nibbles = bits(wanted) == 4;
    if (!raw || t.dtype.bits != (nibbles ? 8 : bits(wanted))) refuse_dtype(name, t.dtype, wanted);
    dtype = wanted;
  } else if (dtype == DType::none) {
    refuse_dtype(name, t.dtype, wanted);
  }
  if (t.dtype.bits < 8 && (flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0) {
    throw DTypeMismatch(operand(name) + cutplan::name(dtype) + " elements must be packed two to a byte, got one per byte");
  }
  if (t.ndim < 0 || t.ndim > max_rank) {
    throw ShapeMismatch(operand(name) + "must have at most " + std::to_string(max_rank) + " dimensions, got " +
                        std::to_string(t.ndim));
  }

  if (t.device.device_type == kDLCPU) {
    view.device = {DeviceType::cpu, 0};
  } else if (t.device.device_type == kDLCUDA) {
    view.device = {DeviceType::cuda, t.device.device_id};
  } else {
    view.device = to_device(t.device.device_type, t.device.device_id, operand(name));
  }
  view.data = t.data == nullptr ? nullptr : static_cast<char*>(t.data) + t.byte_offset;
  view.dtype = dtype;
  view.read_only = framework == Framework::jax || (flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
  view.rank = t.ndim;
  for (int i = 0; i < t.ndim; ++i) {
    if (t.shape[i] < 0)
      throw ShapeMismatch(operand(name) + "extents of at least 0 required, got " + std::to_string(t.shape[i]));
    view.shape[i] = t.shape[i];
  }
  if (t.strides != nullptr) {
    for (int i = 0; i < t.ndim; ++i) {
      const std::int64_t stride = framework == Framework::cupy ? signed_stride(t.strides[i], t.dtype.bits) : t.strides[i];
      if ((stride >= end_of_memory || stride <= -end_of_memory) && t.shape[i] > 1)
        throw LayoutMismatch(operand(name) + "strides below 2^56 elements required, got " + std::to_string(stride));
      view.strides[i] = stride;
    }
  } else {
    std::int64_t stride = 1;
    for (int i = t.ndim - 1; i >= 0; --i) {
      view.strides[i] = stride;
      stride *= view.shape[i];
    }
  }
  if (nibbles) unpack_nibbles(name, dtype, view);
}

/// Calls a method without arguments.
bool ask(nb::handle object, PyObject* method) {
  PyObject* arguments[] = {object.ptr()};
  const nb::object answer = nb::steal(nb::detail::vectorcall_method(method, arguments, 1, nullptr));
  if (!answer.is_valid()) throw nb::python_error();
  return answer.ptr() == Py_True;
}

/// Where torch keeps the bit that says that a tensor's memory holds the negated values. Any tensor may have it, whatever its
/// strides, and to ask by is_neg() takes 57 ns a tensor, even by the C function in it, for torch gives up the GIL to answer.
struct NegativeBit {
  std::size_t tensor = 0;  // bytes from the Python object to the pointer to torch's own
  std::size_t keys = 0;    // bytes from there to the set of dispatch keys
  std::uint64_t mask = 0;  // the key; 0: not found

  bool is_set(nb::handle object) const {
    return (word(reinterpret_cast<const void*>(word(object.ptr(), tensor)), keys) & mask) != 0;
  }

  static std::uint64_t word(const void* object, std::size_t offset) {
    std::uint64_t value;
    std::memcpy(&value, static_cast<const char*>(object) + offset, sizeof value);
    return value;
  }
};

/// By what torch says itself of two tensors that differ in this bit alone.
NegativeBit find_negative_bit(nb::handle torch) {
  constexpr std::size_t step = sizeof(std::uint64_t), least_size = 192;  // bytes of torch's own tensor
  try {
    const nb::object plain = torch.attr("ones")(1, nb::arg("device") = "cpu"), negative = torch.attr("_neg_view")(plain);
    const auto keys = [&](const nb::object& tensor) {
      return nb::cast<std::uint64_t>(torch.attr("_C").attr("_dispatch_keys")(tensor).attr("raw_repr")());
    };
    const auto address = [](const nb::object& tensor) { return nb::cast<std::uint64_t>(tensor.attr("_cdata")); };
    const auto find = [](std::size_t end, const void* x, std::uint64_t in_x, const void* y, std::uint64_t in_y) {
      std::size_t at = 0;
      while (at < end && (NegativeBit::word(x, at) != in_x || NegativeBit::word(y, at) != in_y)) at += step;
      return at;
    };
    const std::uint64_t in_plain = keys(plain), in_negative = keys(negative);
    const std::uint64_t at_plain = address(plain), at_negative = address(negative);
    const auto size = nb::cast<std::size_t>(plain.type().attr("__basicsize__"));
    NegativeBit bit;
    bit.tensor = find(size, plain.ptr(), at_plain, negative.ptr(), at_negative);
    bit.keys = find(least_size, reinterpret_cast<const void*>(at_plain), in_plain,
                    reinterpret_cast<const void*>(at_negative), in_negative);
    bit.mask = in_plain ^ in_negative;
    if (bit.tensor < size && bit.keys < least_size && (bit.mask & (bit.mask - 1)) == 0) return bit;
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
  } catch (const nb::cast_error&) {
  }
  return {};
}

/// What is used of torch in every call, found once.
struct Torch {
  PyObject* forward_ad;            // namespace of torch.autograd.forward_ad
  PyObject* requires_grad;         // the descriptor
  descrgetfunc get_requires_grad;  // its own function: a look-up by name takes as long again
  PyObject* is_grad_enabled;
  PyObject* increment_version;  // None before torch 2.1
  PyCFunction bare_increment;   // the C function in it, which the way through a vectorcall takes a quarter longer to reach
  bool increments_many;         // since torch 2.6; before, one tensor
  NegativeBit negative_bit;
};

/// Not a static with an initialiser: to look around in Python may let another thread have the GIL, which would then wait for
/// the initialiser with the GIL held.
const Torch& torch_parts() {
  static Torch parts;
  static bool found = false;
  if (found) return parts;
  const nb::object torch = nb::module_::import_("torch");
  const nb::object requires_grad = torch.attr("Tensor").attr("requires_grad");
  const nb::object increment = find_attribute(torch.attr("_C"), "_increment_version");
  Torch made{};
  if (!increment.is_none()) {
    try {
      increment(nb::tuple());
      made.increments_many = true;
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    if (PyCFunction_Check(increment.ptr()) != 0 && PyCFunction_GetFlags(increment.ptr()) == METH_O)
      made.bare_increment = PyCFunction_GetFunction(increment.ptr());
  }
  made.forward_ad = PyModule_GetDict(nb::object(nb::module_::import_("torch.autograd.forward_ad")).release().ptr());
  made.get_requires_grad = reinterpret_cast<descrgetfunc>(PyType_GetSlot(Py_TYPE(requires_grad.ptr()), Py_tp_descr_get));
  made.requires_grad = nb::object(requires_grad).release().ptr();
  made.is_grad_enabled = nb::object(torch.attr("is_grad_enabled")).release().ptr();
  made.negative_bit = find_negative_bit(torch);
  made.increment_version = nb::object(increment).release().ptr();
  parts = made;
  found = true;
  return parts;
}

bool is_functorch_wrapper(nb::handle object) {
  const nb::object functorch = find_attribute(nb::module_::import_("torch").attr("_C"), "_functorch");
  return !functorch.is_none() && nb::cast<bool>(functorch.attr("is_functorch_wrapped_tensor")(object));
}

[[noreturn]] void refuse_functorch_wrapper(const char* name) {
  raise_export_refused(operand(name) +
                       "a tensor that torch.func transforms (vmap, grad, jvp and their kin) has no memory of its own to "
                       "read; call outside of the transform, or make the call a custom operator with rules for it");
}

/// The level of torch's forward-mode differentiation, -1 outside of it: no tensor has a tangent then.
bool may_have_tangents() {
  static PyObject* const level_name = PyUnicode_InternFromString("_current_level");
  PyObject* const level = PyDict_GetItemWithError(torch_parts().forward_ad, level_name);
  return level == nullptr || PyLong_AsLong(level) >= 0;
}

void check_tangent(nb::handle object, const char* name) {
  const nb::object dual = nb::module_::import_("torch.autograd.forward_ad").attr("unpack_dual")(object);
  if (nb::object(dual.attr("tangent")).is_none()) return;
  raise_export_refused(operand(name) + "the tensor has a forward-mode tangent, and a plan's result carries none; pass " +
                       "torch.autograd.forward_ad.unpack_dual(" + name + ").primal");
}

/// Memory that is not there, as of tensors under torch.func.functionalize and torch's own zeros that were never written.
void check_memory(nb::handle object, const char* name, const TensorView& view) {
  if (view.data != nullptr) return;
  for (int i = 0; i < view.rank; ++i) {
    if (view.shape[i] == 0) return;
  }
  if (is_functorch_wrapper(object)) refuse_functorch_wrapper(name);
  raise_export_refused(operand(name) + type_of(object) +
                       " has no memory to read, as tensors that torch traces or that stand " +
                       "for zeros have none; pass a copy, " + name + ".clone(), made outside of tracing");
}

/// What torch's exchange functions do not look at: a gradient that the result would silently drop. It does not matter where
/// torch itself records no gradients, so that parameters can be used under torch.no_grad(). Returns whether the tensor
/// requires grad.
bool check_gradient(nb::handle object, const char* name) {
  const Torch& torch = torch_parts();
  const nb::object requires_grad = nb::steal(
      torch.get_requires_grad(torch.requires_grad, object.ptr(), reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()))));
  if (!requires_grad.is_valid()) throw nb::python_error();
  if (requires_grad.ptr() != Py_True) return false;
  const nb::object is_enabled = nb::steal(PyObject_CallNoArgs(torch.is_grad_enabled));
  if (!is_enabled.is_valid()) throw nb::python_error();
  if (is_enabled.ptr() == Py_True) {
    if (is_functorch_wrapper(object)) refuse_functorch_wrapper(name);
    raise_export_refused(operand(name) +
                         "the tensor requires grad, and a plan's result carries no gradient; call the function " +
                         "of cutplan.torch, whose result does, pass " + name + ".detach(), or call under torch.no_grad()");
  }
  return true;
}

/// And a pending negation. (The conjugation itself is met by the refusal of complex types.)
void check_negation(nb::handle object, const char* name) {
  static PyObject* const is_neg_name = PyUnicode_InternFromString("is_neg");
  const NegativeBit& bit = torch_parts().negative_bit;
  if (!(bit.mask != 0 ? bit.is_set(object) : ask(object, is_neg_name))) return;
  raise_export_refused(operand(name) +
                       "the tensor has torch's negative bit set, so its memory holds the negated values; pass " + name +
                       ".resolve_neg()");
}

/// The pending Python error, raised again as ExportRefused with the operand's name; what is no refusal passes unchanged.
[[noreturn]] void refuse(nb::python_error& cause, nb::handle object, const char* name) {
  if (!cause.matches(PyExc_Exception) || cause.matches(PyExc_MemoryError)) {  // KeyboardInterrupt and its kin
    cause.restore();
    throw nb::python_error();
  }
  if (producer_of(object).framework == Framework::torch && is_functorch_wrapper(object)) {
    cause.restore();
    refuse_functorch_wrapper(name);
  }
  const std::string text = text_of(cause.value());
  const std::string message = operand(name) + type_of(object) + " refused to lend its memory through DLPack: " +
                              text.substr(0, text.find('\n'));  // torch appends its C++ stack
  cause.restore();
  raise_export_refused(message);
}

/// After an exchange function has failed, which should have left an error.
[[noreturn]] void refuse_pending(nb::handle object, const char* name) {
  if (PyErr_Occurred() == nullptr) {
    raise_export_refused(operand(name) + type_of(object) + " refused to lend its memory through DLPack and gave no reason");
  }
  nb::python_error cause;
  refuse(cause, object, name);
}

/// NumPy cannot put ml_dtypes' element types into DLPack. Their bits, viewed as unsigned integers of the same width, can be.
/// Returns an invalid object where `array` is not of such a type.
nb::object view_as_bits(nb::handle array, const char* name, DType& dtype) {
  const std::optional<DType> found = find_dtype(array.attr("dtype"));
  if (!found) return {};
  switch (*found) {
    case DType::bf16: dtype = *found; return array.attr("view")("uint16");
    case DType::fp8_e4m3:
    case DType::fp8_e5m2: dtype = *found; return array.attr("view")("uint8");
    case DType::i4:
    case DType::u4:
      throw DTypeMismatch(
          operand(name) + cutplan::name(*found) +
          " elements must be packed two to a byte, and NumPy keeps one per byte; pack them into a uint8 array x and " +
          "pass cutplan.as_dtype(x, \"" + cutplan::name(*found) + "\")");
    default: return {};
  }
}

}  // namespace

const char* name(Framework framework) noexcept {
  switch (framework) {
    case Framework::torch: return "torch";
    case Framework::numpy: return "numpy";
    case Framework::cupy: return "cupy";
    case Framework::jax: return "jax";
    case Framework::other: break;
  }
  return "other";
}

nb::object to_python(Framework framework) {
  static PyObject* names[5] = {};
  PyObject*& found = names[static_cast<int>(framework)];
  if (found == nullptr) found = PyUnicode_InternFromString(name(framework));
  return nb::borrow(found);
}

nb::object find_attribute(nb::handle object, const char* attribute) {
  PyObject* const found = PyObject_GetAttrString(object.ptr(), attribute);
  if (found != nullptr) return nb::steal(found);
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw nb::python_error();
  PyErr_Clear();
  return nb::none();
}

const ExchangeApi* exchange_api_of(nb::handle tensor) {
  const ExchangeApi* const api = unwrap(tensor).api;
  return api != nullptr && api->managed_tensor_allocator != nullptr && api->managed_tensor_to_py_object_no_sync != nullptr
             ? api
             : nullptr;
}

void* allocate_managed(const ExchangeApi& api, const std::int64_t* shape, int rank, DType dtype, Device device) {
  DLTensor prototype{};
  prototype.device = {device.type == DeviceType::cpu ? kDLCPU : kDLCUDA, device.id};
  prototype.ndim = rank;
  prototype.dtype = encode(dtype);
  prototype.shape = const_cast<std::int64_t*>(shape);
  DLManagedTensorVersioned* managed = nullptr;
  std::string problem;
  const auto note = [](void* context, const char* kind, const char* message) {
    *static_cast<std::string*>(context) = std::string(kind) + ": " + message;
  };
  if (api.managed_tensor_allocator(&prototype, &managed, &problem, note) != 0 || managed == nullptr) {
    if (PyErr_Occurred() != nullptr) throw nb::python_error();
    const std::string line = "allocating a result: " + problem.substr(0, problem.find('\n'));
    if (problem.rfind("MemoryError", 0) != 0) throw DeviceError(line);
    PyErr_SetString(PyExc_MemoryError, line.c_str());
    throw nb::python_error();
  }
  return managed;
}

TensorView view_of_managed(const void* managed) {
  TensorView view;
  decode(static_cast<const DLManagedTensorVersioned*>(managed)->dl_tensor, 0, Framework::other, "result", DType::none, view);
  return view;
}

nb::object allocate(const ExchangeApi& api, const std::int64_t* shape, int rank, DType dtype, Device device,
                    TensorView& view) {
  auto* const managed = static_cast<DLManagedTensorVersioned*>(allocate_managed(api, shape, rank, dtype, device));
  view = view_of_managed(managed);
  void* object = nullptr;
  if (api.managed_tensor_to_py_object_no_sync(managed, &object) != 0) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(object));
}

void mark_written(const nb::handle* outputs, int given) {
  nb::handle tensors[most_operands];
  int count = 0;
  for (int i = 0; i < given; ++i) {
    nb::handle output = outputs[i];
    if (unwrap(output).framework == Framework::torch) tensors[count++] = output;
  }
  if (count == 0) return;
  const Torch& torch = torch_parts();
  const nb::object increment = nb::borrow(torch.increment_version);
  if (increment.is_none()) return;
  if (!torch.increments_many) {
    for (int i = 0; i < count; ++i) increment(tensors[i]);
    return;
  }
  const nb::object all = nb::steal(PyTuple_New(count));
  if (!all.is_valid()) throw nb::python_error();
  for (int i = 0; i < count; ++i) PyTuple_SetItem(all.ptr(), i, tensors[i].inc_ref().ptr());
  const nb::object done = torch.bare_increment == nullptr
                              ? increment(all)
                              : nb::steal(torch.bare_increment(PyCFunction_GetSelf(increment.ptr()), all.ptr()));
  if (!done.is_valid()) throw nb::python_error();
}

Framework framework_of(nb::handle object) { return unwrap(object).framework; }

bool stands_in(nb::handle object) { return unwrap(object).is_info; }

Importer::Importer(Device device, nb::handle stream, nb::handle first, const char* first_name) {
  if (device.type == DeviceType::cpu) {
    order_ = Order::host;
    if (!stream.is_none()) {
      throw InvalidProblem("stream: a plan on the cpu runs on no stream, got " + repr_of(stream) + "; pass stream=None");
    }
    return;
  }
  order_ = Order::on_stream;
  if (!stream.is_none()) {
    explicit_stream_ = true;
    nb::object handle = nb::borrow(stream);
    if (!PyLong_Check(stream.ptr())) {
      nb::object protocol = find_attribute(stream, "__cuda_stream__");
      if (protocol.is_none()) {
        throw nb::type_error(
            ("stream: must be None, an integer (cudaStream_t) or an object with __cuda_stream__, got " + type_of(stream))
                .c_str());
      }
      handle = protocol()[1];
    }
    stream_ = PyLong_AsVoidPtr(handle.ptr());
    if (stream_ == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
    return;
  }
  const Producer producer = unwrap(first);
  stream_framework_ = producer.framework;
  if (producer.api != nullptr) {
    if (producer.api->current_work_stream(kDLCUDA, device.id, &stream_) != 0) refuse_pending(first, first_name);
    stream_api_ = producer.api;
  } else if (producer.framework == Framework::cupy) {
    const nb::object current = nb::module_::import_("cupy").attr("cuda").attr("get_current_stream")(device.id);
    stream_ = PyLong_AsVoidPtr(nb::object(current.attr("ptr")).ptr());
    if (stream_ == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  }
}

Importer::~Importer() {
  for (int i = 0; i < loan_count_; ++i) loans_[i].give_back();
}

void* Importer::current_stream(Device device) const {
  void* stream = nullptr;
  if (device.type == DeviceType::cuda && api_->current_work_stream(kDLCUDA, device.id, &stream) != 0)
    throw nb::python_error();
  return stream;
}

void Importer::enqueued(Device device) {
  if (kept_ == 0) return;
  std::optional<StreamEvent> event;
  {
    const GilRelease release;
    event = StreamEvent::record(device, stream_);
  }
  if (!event) return;
  std::vector<Loan> kept;
  int rest = 0;
  for (int i = 0; i < loan_count_; ++i) {
    if (kept_ >> i & 1) {
      kept.push_back(loans_[i]);
    } else {
      loans_[rest++] = loans_[i];
    }
  }
  loan_count_ = rest;
  kept_ = 0;
  keep_loans(*std::move(event), std::move(kept));
}

void Importer::import(nb::handle object, const char* name, TensorView& view) {
  if (!object.is_none()) import_as(object, name, DType::none, view);
}

void Importer::import_as(nb::handle object, const char* name, DType dtype, TensorView& view) {
  const Producer producer = producer_of(object);
  if (producer.refusal != nullptr) raise_export_refused(operand(name) + "got " + producer.refusal);
  // Without synchronisation an operand is in order only on its producer's own stream, or on one that the caller vouches for.
  const bool in_order = order_ != Order::on_stream || explicit_stream_ || producer.api == stream_api_;
  if (producer.api != nullptr && in_order) {
    if (producer.framework == Framework::torch) {
      check_torch(object, name);
      // A DLTensor says nothing of read-only memory, which torch does not have.
      if (producer.api->dltensor_from_py_object_no_sync != nullptr) {
        DLTensor tensor;
        if (producer.api->dltensor_from_py_object_no_sync(object.ptr(), &tensor) != 0) refuse_pending(object, name);
        decode(tensor, 0, Framework::torch, name, dtype, view);
        check_memory(object, name, view);
        borrowed_ = borrowed_ && (api_ == nullptr || api_ == producer.api);
        api_ = producer.api;
        torch_seen_ = true;
        return check_negation(object, name);
      }
    }
    borrowed_ = false;
    stale_ = stale_ || torch_seen_;
    DLManagedTensorVersioned* managed = nullptr;
    if (producer.api->managed_tensor_from_py_object_no_sync(object.ptr(), &managed) != 0 || managed == nullptr)
      refuse_pending(object, name);
    lend(managed, true, outlasts_call(producer.framework));
    decode(managed->dl_tensor, managed->flags, producer.framework, name, dtype, view);
    if (producer.framework == Framework::torch) {
      check_memory(object, name, view);
      check_negation(object, name);
    }
    return;
  }
  if (producer.is_view) return import_view(nb::cast<const TensorViewObject&>(object), name, view);
  borrowed_ = false;
  stale_ = stale_ || torch_seen_;
  if (producer.is_info && order_ == Order::unordered) {
    view = nb::cast<const TensorInfo&>(object).view;
    return;
  }
  if (producer.framework == Framework::torch && check_torch(object, name)) {
    const nb::object detached = object.attr("detach")();  // __dlpack__ would refuse; the capsule keeps it alive
    import_capsule(detached, producer.framework, name, dtype, view);
  } else {
    import_capsule(object, producer.framework, name, dtype, view);
  }
  if (producer.framework == Framework::torch) {
    torch_seen_ = true;
    check_memory(object, name, view);
    check_negation(object, name);
  }
}

/// Whether the tensor requires grad. Refuses derivatives that the result would silently drop.
bool Importer::check_torch(nb::handle object, const char* name) {
  if (tangents_ == Tangents::not_asked) tangents_ = may_have_tangents() ? Tangents::possible : Tangents::none;
  if (tangents_ == Tangents::possible) check_tangent(object, name);
  return check_gradient(object, name);
}

void Importer::import_view(const TensorViewObject& object, const char* name, TensorView& view) {
  import_as(object.tensor, name, object.dtype, view);
  if (object.rank < 0) return;
  if (view.data != nullptr) view.data = static_cast<char*>(view.data) + object.offset * bits(view.dtype) / 8;
  view.rank = object.rank;
  std::memcpy(view.shape, object.shape, sizeof object.shape);
  std::memcpy(view.strides, object.strides, sizeof object.strides);
}

nb::object Importer::export_capsule(nb::handle object, Framework framework, const char* name) {
  const nb::object method = find_attribute(object, "__dlpack__");
  if (method.is_none()) {
    raise_export_refused(operand(name) + type_of(object) + " does not speak DLPack (it has no __dlpack__); pass an array " +
                         "of NumPy, torch, CuPy, JAX or any other library that does");
  }
  // A stream is an integer for memory on a CUDA device and None for memory on the host, whatever the plan runs on.
  nb::object stream = nb::none();
  if (order_ != Order::host && framework != Framework::numpy) {
    const nb::object device = object.attr("__dlpack_device__")();
    const auto pair = find_integers(device);
    if (!pair) {
      raise_export_refused(operand(name) + "__dlpack_device__ of " + type_of(object) +
                           " must return a pair of integers, got " + repr_of(device));
    }
    const int type = pair->first;
    if (type == kDLCUDA || type == kDLCUDAManaged) {
      if (order_ == Order::on_stream) {
        // 1 names the legacy default stream; 0 is ambiguous to every producer
        stream = nb::steal(PyLong_FromVoidPtr(stream_ == nullptr ? reinterpret_cast<void*>(1) : stream_));
      } else {
        // -1 asks for no ordering, but JAX would take it for the address of a stream
        stream = nb::int_(framework == Framework::jax ? 1 : -1);
      }
    }
  }
  try {
    return method(nb::arg("stream") = stream, nb::arg("max_version") = nb::make_tuple(1, 1));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method(nb::arg("stream") = stream);  // before DLPack 1.0 there was no max_version
}

void Importer::import_capsule(nb::handle object, Framework framework, const char* name, DType dtype, TensorView& view) {
  nb::object capsule, bits;
  try {
    capsule = export_capsule(object, framework, name);
  } catch (nb::python_error& error) {
    if (error.type().is(export_refused_type())) throw;
    if (framework == Framework::numpy && dtype == DType::none) bits = view_as_bits(object, name, dtype);
    if (!bits.is_valid()) refuse(error, object, name);
  }
  if (bits.is_valid()) return import_capsule(bits, framework, name, dtype, view);

  if (PyCapsule_IsValid(capsule.ptr(), versioned_capsule_name)) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), versioned_capsule_name));
    if (PyCapsule_SetName(capsule.ptr(), used_versioned_capsule_name) != 0) throw nb::python_error();
    lend(managed, true, outlasts_call(framework));
    if (managed->version.major != DLPACK_MAJOR_VERSION) {
      raise_export_refused(operand(name) + type_of(object) + " exported DLPack " + std::to_string(managed->version.major) +
                           "." + std::to_string(managed->version.minor) + "; cutplan reads 1.x and asked for 1.1");
    }
    decode(managed->dl_tensor, managed->flags, framework, name, dtype, view);
  } else if (PyCapsule_IsValid(capsule.ptr(), capsule_name)) {
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), capsule_name));
    if (PyCapsule_SetName(capsule.ptr(), used_capsule_name) != 0) throw nb::python_error();
    lend(managed, false, outlasts_call(framework));
    decode(managed->dl_tensor, 0, framework, name, dtype, view);
  } else {
    raise_export_refused(operand(name) + "__dlpack__ of " + type_of(object) + " must return a fresh DLPack capsule, got " +
                         repr_of(capsule));
  }
}

/// torch and CuPy reuse memory in the order of the stream that it was allocated on: on their own current stream nothing can
/// go wrong, and who passes a stream answers for it, as with their own functions. Of others nothing is known.
bool Importer::outlasts_call(Framework framework) const noexcept {
  if (order_ != Order::on_stream) return false;
  const bool by_stream = framework == Framework::torch || framework == Framework::cupy;
  return !(by_stream && (explicit_stream_ || framework == stream_framework_));
}

void Importer::lend(void* managed, bool versioned, bool kept) {
  if (loan_count_ == max_loans) throw std::length_error("cutplan: internal error: more operands than a call has");
  kept_ |= static_cast<std::uint64_t>(kept) << loan_count_;
  loans_[loan_count_++] = {managed, versioned};
}

}  // namespace cutplan::bindings
