#include "keywords.hpp"

#include <limits>
#include <optional>

#include "common.hpp"

namespace cutplan::bindings {
namespace {

std::string shown(nb::handle given) {
  return nb::cast<std::string>(nb::repr(given)) + " (" + nb::cast<std::string>(nb::str(given.type().attr("__name__"))) + ")";
}

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

}  // namespace

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
  for (nb::handle key : nb::borrow<nb::dict>(given_).keys())
    names += (names.empty() ? "; given are " : ", ") + nb::cast<std::string>(nb::str(key));
  throw nb::type_error((Where{type_, name}.text() + ": required, not given; it is " + what + names).c_str());
}

void Keywords::finish() const {
  for (auto [name, value] : nb::borrow<nb::dict>(given_)) {
    const auto text = nb::cast<std::string>(nb::str(name));
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

std::int64_t to_integer(const Where& where, nb::handle given) {
  const std::optional<std::int64_t> value = find_integer(given);
  if (!value) where.refuse(wanted_for(given), given);
  return *value;
}

int to_small_integer(const Where& where, nb::handle given) {
  const std::int64_t value = to_integer(where, given);
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    where.refuse("an integer of 32 bits", given);
  return static_cast<int>(value);
}

double to_number(const Where& where, nb::handle given) {
  const double value = PyFloat_AsDouble(given.ptr());
  if (value != -1.0 || PyErr_Occurred() == nullptr) return value;
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
  PyErr_Clear();
  where.refuse("a number", given);
}

std::pair<std::int64_t, std::int64_t> to_integers(const Where& where, nb::handle given) {
  if (PySequence_Check(given.ptr()) != 0 && PySequence_Size(given.ptr()) == 2) {
    const std::optional<std::int64_t> first = find_integer(given[0]), second = find_integer(given[1]);
    if (first && second) return {*first, *second};
  }
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  where.refuse("two integers", given);
}

std::string print_call(const char* type, nb::handle fields) {
  std::string out;
  for (auto [name, value] : nb::borrow<nb::dict>(fields)) {
    out += (out.empty() ? "" : ", ") + nb::cast<std::string>(nb::str(name)) + "=" + nb::cast<std::string>(nb::repr(value));
  }
  return std::string(type) + "(" + out + ")";
}

}  // namespace cutplan::bindings
