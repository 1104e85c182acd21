#include "keywords.hpp"

#include <limits>
#include <optional>

#include "common.hpp"
#include "dlpack.hpp"

namespace cutplan::bindings {
namespace {

std::string shown(nb::handle given) { return repr_of(given) + " (" + text_of(given.type().attr("__name__")) + ")"; }

/// Anything of 64 bits with __index__ but True and False, which are integers by accident.
std::optional<std::int64_t> find_integer(nb::handle given) {
  if (PyBool_Check(given.ptr()) || PyIndex_Check(given.ptr()) == 0) return std::nullopt;
  const nb::object index = nb::steal(PyNumber_Index(given.ptr()));
  if (!index.is_valid()) throw nb::python_error();
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) return std::nullopt;
  return value;
}

/// What find_integer() wants, for one who gave something else.
const char* wanted_for(nb::handle given) { return PyLong_CheckExact(given.ptr()) ? "an integer of 64 bits" : "an integer"; }

bool is_small(std::int64_t value) {
  return value >= std::numeric_limits<int>::min() && value <= std::numeric_limits<int>::max();
}

}  // namespace

std::string_view utf8_of(nb::handle text) {
  Py_ssize_t size = 0;
  const char* const found = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (found == nullptr) PyErr_Clear();
  return {found, static_cast<std::size_t>(size)};
}

std::string text_of(nb::handle object) {
  const nb::object text = nb::str(object),
                   bytes = nb::steal(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace"));
  if (!bytes.is_valid()) throw nb::python_error();
  return nb::borrow<nb::bytes>(bytes).c_str();
}

std::string repr_of(nb::handle object) { return text_of(nb::repr(object)); }

void Where::refuse(const char* what, nb::handle given) const {
  throw nb::type_error((text() + ": " + what + " required, got " + shown(given)).c_str());
}

Keywords::Keywords(const char* type, nb::handle positionals, nb::handle keywords, const char* positional) : type_(type) {
  nb::dict given;
  const std::size_t most = positional == nullptr ? 0 : 1, count = nb::len(positionals);
  if (count > most) {
    throw nb::type_error((std::string(type) + "(): arguments are given by name" +
                          (most == 0 ? std::string() : std::string(", all but ") + positional) + ", got " +
                          std::to_string(count) + " without one")
                             .c_str());
  }
  for (auto [name, value] : nb::borrow<nb::dict>(keywords)) given[name] = value;
  if (count == 1) {
    if (given.contains(positional)) throw nb::type_error((std::string(type) + "(): " + positional + " given twice").c_str());
    given[positional] = positionals[0];
  }
  given_ = given;
}

nb::object Keywords::take(const char* name) {
  known_.push_back(name);
  PyObject* const found = PyDict_GetItemString(given_.ptr(), name);
  return found == nullptr ? nb::none() : nb::borrow(found);
}

bool Keywords::has(const char* name) const {
  PyObject* const found = PyDict_GetItemString(given_.ptr(), name);
  return found != nullptr && found != Py_None;
}

void Keywords::refuse_missing(const char* name, const std::string& what) const {
  std::string names;
  for (nb::handle key : nb::borrow<nb::dict>(given_).keys()) names += (names.empty() ? "; given are " : ", ") + text_of(key);
  throw nb::type_error((Where{type_, name}.text() + ": required, not given; it is " + what + names).c_str());
}

void Keywords::finish() const {
  for (auto [name, value] : nb::borrow<nb::dict>(given_)) {
    const auto text = text_of(name);
    std::string known;
    bool taken = false;
    for (const char* one : known_) {
      taken = taken || text == one;
      known += std::string(known.empty() ? "" : ", ") + one;
    }
    if (!taken) throw nb::type_error((std::string(type_) + "(): no argument " + text + "; there are " + known).c_str());
  }
}

void refuse_other_calls(nb::handle scope, const char* name, bool is_method) {
  const nb::object signature = scope.attr(name).attr("__nb_signature__")[0][0];
  std::string function = name;
  if (nb::isinstance<nb::type_object>(scope)) function = nb::cast<std::string>(scope.attr("__name__")) + "." + function;
  const auto refuse = [signature, function, is_method](const nb::args& given, const nb::kwargs& named) {
    nb::module_::import_("cutplan._calls").attr("refuse")(function, signature, is_method, given, named);
  };
  const std::string stub = std::string("def ") + name + "(*args, **kwargs) -> typing.NoReturn";
  if (is_method) {
    nb::cpp_function(refuse, nb::scope(scope), nb::is_method(), nb::sig(stub.c_str()));
  } else {
    nb::cpp_function(refuse, nb::scope(scope), nb::sig(stub.c_str()));
  }
}

std::optional<std::pair<int, int>> find_integers(nb::handle given) {
  if (PySequence_Check(given.ptr()) == 0 || nb::len(given) != 2) return std::nullopt;
  const std::optional<std::int64_t> first = find_integer(given[0]), second = find_integer(given[1]);
  if (!first || !second || !is_small(*first) || !is_small(*second)) return std::nullopt;
  return std::pair(static_cast<int>(*first), static_cast<int>(*second));
}

bool to_flag(const Where& where, nb::handle given) {
  if (given.ptr() == Py_True) return true;
  if (given.ptr() == Py_False || given.is_none()) return false;
  const nb::handle type = given.type();
  const std::string name = text_of(type.attr("__name__"));
  if (text_of(type.attr("__module__")) != "numpy" || (name != "bool" && name != "bool_"))
    where.refuse("True or False", given);
  return PyObject_IsTrue(given.ptr()) == 1;
}

std::int64_t to_integer(const Where& where, nb::handle given) {
  const std::optional<std::int64_t> value = find_integer(given);
  if (!value) where.refuse(wanted_for(given), given);
  return *value;
}

int to_small_integer(const Where& where, nb::handle given) {
  const std::int64_t value = to_integer(where, given);
  if (!is_small(value)) where.refuse("an integer of 32 bits", given);
  return static_cast<int>(value);
}

double to_number(const Where& where, nb::handle given) {
  if (!PyFloat_Check(given.ptr()) && !PyLong_Check(given.ptr()) && !find_attribute(given, "__dlpack__").is_none()) {
    // Its value would be read without its gradient, and the call would wait for its device.
    throw nb::type_error((where.text() + ": a number required, got a tensor (" + text_of(given.type().attr("__name__")) +
                          "); pass float(x), the value of a tensor x")
                             .c_str());
  }
  const double value = PyFloat_AsDouble(given.ptr());
  if (value != -1.0 || PyErr_Occurred() == nullptr) return value;
  if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
    nb::chain_error(PyExc_OverflowError, "%s: a number that a float holds required", where.text().c_str());
    throw nb::python_error();
  }
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
  PyErr_Clear();
  where.refuse("a number", given);
}

std::pair<std::int64_t, std::int64_t> to_integers(const Where& where, nb::handle given) {
  if (PySequence_Check(given.ptr()) != 0 && PySequence_Size(given.ptr()) == 2) {
    const nb::object first = given[0], second = given[1];
    if (PyIndex_Check(first.ptr()) != 0 && PyIndex_Check(second.ptr()) != 0) {
      const std::string name = where.name, of_first = name + "[0]", of_second = name + "[1]";
      return {to_integer({where.type, of_first.c_str()}, first), to_integer({where.type, of_second.c_str()}, second)};
    }
  }
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  where.refuse("two integers", given);
}

std::string print_call(const char* type, nb::handle fields) {
  std::string out;
  for (auto [name, value] : nb::borrow<nb::dict>(fields)) {
    out += (out.empty() ? "" : ", ") + text_of(name) + "=" + repr_of(value);
  }
  return std::string(type) + "(" + out + ")";
}

}  // namespace cutplan::bindings
