// The arguments of a value's constructor, taken one by one: what is missing, of a wrong type or unknown is refused in one line
// that names it, where nanobind's own parser would print every signature. And the way back: a value as its arguments, which
// are what repr() prints and what a pickle holds.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cutplan/dtype.hpp"

namespace cutplan::bindings {

namespace nb = nanobind;

class Keywords {
 public:
  /// `type`: whose constructor it is. `positional`: name of the one argument that may be given without it, or null.
  Keywords(const char* type, nb::handle positionals, nb::handle keywords, const char* positional = nullptr);

  /// None where the argument is not given. Each argument is taken once, in the order of the signature.
  nb::object take(const char* name);
  bool flag(const char* name);  // false unless given
  std::int64_t integer(const char* name);
  std::int64_t integer(const char* name, std::int64_t otherwise);
  int small(const char* name, int otherwise);  // an integer that fits an int
  double number(const char* name, double otherwise);
  DType dtype(const char* name);
  DType dtype(const char* name, DType otherwise);
  std::pair<std::int64_t, std::int64_t> integers(const char* name, std::pair<std::int64_t, std::int64_t> otherwise);
  std::optional<std::string> string(const char* name);
  template <typename T>
  T value(const char* name, T otherwise, const char* what) {
    const nb::object given = take(name);
    if (given.is_none()) return otherwise;
    if (!nb::isinstance<T>(given)) refuse(name, what, given);
    return nb::cast<T>(given);
  }

  /// Raises TypeError naming an argument, what it has to be, and what was given (nothing: it is missing).
  [[noreturn]] void refuse(const char* name, const char* what, nb::handle given) const;

  /// Refuses what nobody has taken.
  void finish() const;

 private:
  nb::object require(const char* name, const char* what);

  const char* type_;
  nb::object given_;  // a dict
  std::vector<const char*> known_;
};

/// Calls that no overload of a function takes end in a line of their own (python/cutplan/_calls.py) and not in nanobind's page
/// of signatures: a last overload takes them all. `scope`: a module, or the class of a method.
void refuse_other_calls(nb::handle scope, const char* name, bool is_method = false);

/// A scalar of a call. Raises TypeError naming it.
double to_number(nb::handle object, const char* argument);

/// Two integers, such as a window. Raises TypeError naming the argument.
std::pair<std::int64_t, std::int64_t> to_integers(nb::handle object, const char* argument);

/// "Type(name=value, ...)".
std::string print_call(const char* type, nb::handle fields);

/// Makes a class a value: made of keyword arguments, picklable as these, printed as the call that makes it again.
/// `make(Keywords&)` is the constructor, `fields(value)` the dict that it makes the value of.
template <typename T>
void bind_keywords(nb::class_<T>& type, const char* name, T (*make)(Keywords&), nb::dict (*fields)(const T&),
                   const char* signature, const char* doc, const char* positional = nullptr) {
  const auto construct = [name, make, positional](T* self, nb::handle positionals, nb::handle keywords) {
    Keywords arguments(name, positionals, keywords, positional);
    T value = make(arguments);
    arguments.finish();
    new (self) T(std::move(value));
  };
  type.def(
          "__init__",
          [construct](T* self, nb::args positionals, nb::kwargs keywords) { construct(self, positionals, keywords); },
          nb::sig(signature), doc)
      .def(
          "__getstate__", [fields](const T& self) { return fields(self); },
          nb::sig("def __getstate__(self) -> dict[str, object]"))
      .def(
          "__setstate__", [construct](T* self, nb::dict state) { construct(self, nb::tuple(), state); },
          nb::sig("def __setstate__(self, state: dict[str, object], /) -> None"))
      .def("__repr__", [name, fields](const T& self) { return print_call(name, fields(self)); });
}

}  // namespace cutplan::bindings
