// cutplan's exceptions in Python: one class per cause, each also a kind of the built-in exception that fits it.
#include <nanobind/nanobind.h>

#include <exception>
#include <string>

#include "common.hpp"

namespace cutplan::bindings {
namespace {

struct ErrorClass {
  ErrorCode code;
  const char* name;
  PyObject* builtin;
  const char* doc;
};

PyObject* classes[static_cast<int>(ErrorCode::device_error) + 1];
PyObject* export_refused = nullptr;

PyObject* define(nb::module_& m, const char* name, nb::handle bases, const char* doc) {
  const std::string qualified = nb::cast<std::string>(m.attr("__name__")) + "." + name;
  PyObject* type = PyErr_NewExceptionWithDoc(qualified.c_str(), doc, bases.ptr(), nullptr);
  if (type == nullptr) throw nb::python_error();
  m.attr(name) = nb::borrow(type);
  return type;  // lives as long as the process: the translator needs it
}

}  // namespace

void bind_errors(nb::module_& m) {
  const nb::object base =
      nb::borrow(define(m, "Error", nb::handle(PyExc_Exception), "What every error of cutplan derives from."));

  const ErrorClass table[] = {
      {ErrorCode::invalid_problem, "InvalidProblem", PyExc_ValueError,
       "A descriptor or scalar that no kernel could ever serve: a negative extent, a NaN alpha."},
      {ErrorCode::unsupported, "Unsupported", PyExc_NotImplementedError,
       "A legal problem that no kernel of this build serves, or a preference that cannot be honoured."},
      {ErrorCode::missing_operand, "MissingOperand", PyExc_TypeError,
       "An operand that the descriptor asks for is absent, or one that it does not know is present."},
      {ErrorCode::dtype_mismatch, "DTypeMismatch", PyExc_TypeError, "An operand's element type is not the descriptor's."},
      {ErrorCode::shape_mismatch, "ShapeMismatch", PyExc_ValueError,
       "An operand's rank or extents are not the descriptor's."},
      {ErrorCode::layout_mismatch, "LayoutMismatch", PyExc_ValueError,
       "An operand's strides are not of the descriptor's layout."},
      {ErrorCode::device_mismatch, "DeviceMismatch", PyExc_ValueError, "An operand lives on another device than the plan."},
      {ErrorCode::misaligned, "Misaligned", PyExc_ValueError,
       "An operand's address or strides are less aligned than the kernel reads."},
      {ErrorCode::read_only, "ReadOnly", PyExc_BufferError, "An output may not be written."},
      {ErrorCode::overlap, "Overlap", PyExc_ValueError, "An output shares memory with an input, or with itself."},
      {ErrorCode::workspace_too_small, "WorkspaceTooSmall", PyExc_ValueError,
       "The workspace is missing, short or misaligned."},
      {ErrorCode::device_error, "DeviceError", PyExc_RuntimeError, "The CUDA runtime reported a failure."},
  };
  for (const ErrorClass& error : table) {
    classes[static_cast<int>(error.code)] =
        define(m, error.name, nb::make_tuple(base, nb::handle(error.builtin)), error.doc);
  }
  export_refused =
      define(m, "ExportRefused", nb::make_tuple(base, nb::handle(PyExc_BufferError)),
             "An operand's library would not, or could not safely, lend its memory. Its own error is the __cause__.");

  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      PyErr_SetString(classes[static_cast<int>(error.code())], error.what());
    }
  });
}

void raise_error(ErrorCode code, const std::string& message) {
  PyErr_SetString(classes[static_cast<int>(code)], message.c_str());
  throw nb::python_error();
}

void raise_export_refused(const std::string& message) {
  if (PyErr_Occurred() != nullptr) {
    nb::chain_error(export_refused, "%s", message.c_str());
  } else {
    PyErr_SetString(export_refused, message.c_str());
  }
  throw nb::python_error();
}

nb::handle export_refused_type() noexcept { return export_refused; }

}  // namespace cutplan::bindings
