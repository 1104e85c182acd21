// Values in Python: classes that are made of keyword arguments, equal and hashed by their fields, picklable, and printed as the
// call that makes them again; and records, which are only read. Both are tables of fields; everything else follows from a
// field's type.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common.hpp"
#include "keywords.hpp"
#include "options.hpp"

namespace cutplan::bindings {

// ---- how Python spells a member, by its type ----

/// A type with a table of fields.
template <typename T>
inline constexpr int fields = 0;
template <typename T>
inline constexpr bool is_value = !std::is_same_v<std::decay_t<decltype(fields<T>)>, int>;

/// `argument` and `property`: annotations in the stubs. parse() raises TypeError, or ValueError, that names the argument;
/// shown() is what repr() and a pickle have, a builtin; property() what an attribute gives.
template <typename M, typename = void>
struct As;

template <typename M>
struct AsShown {
  static nb::object shown(const M& value) { return nb::cast(value); }
  static nb::object property(const M& value) { return nb::cast(value); }
};

template <>
struct As<std::int64_t> : AsShown<std::int64_t> {
  static std::string what() { return "an integer"; }
  static std::string argument() { return "int"; }
  static std::string property_type() { return "int"; }
  static std::int64_t parse(const Where& where, nb::handle given) { return to_integer(where, given); }
};
template <>
struct As<int> : AsShown<int> {
  static std::string what() { return "an integer of 32 bits"; }
  static std::string argument() { return "int"; }
  static std::string property_type() { return "int"; }
  static int parse(const Where& where, nb::handle given) { return to_small_integer(where, given); }
};
template <>
struct As<bool> : AsShown<bool> {
  static std::string what() { return "True or False"; }
  static std::string argument() { return "bool"; }
  static std::string property_type() { return "bool"; }
  static bool parse(const Where& where, nb::handle given) { return to_flag(where, given); }
};
template <>
struct As<double> : AsShown<double> {
  static std::string what() { return "a number"; }
  static std::string argument() { return "float"; }
  static std::string property_type() { return "float"; }
  static double parse(const Where& where, nb::handle given) { return to_number(where, given); }
};
template <>
struct As<std::size_t> : AsShown<std::size_t> {
  static std::string what() { return "an integer"; }
  static std::string argument() { return "int"; }
  static std::string property_type() { return "int"; }
  static std::size_t parse(const Where& where, nb::handle given) {
    const std::int64_t value = to_integer(where, given);
    if (value < 0) throw nb::value_error((where.text() + ": at least 0 required, got " + std::to_string(value)).c_str());
    return static_cast<std::size_t>(value);
  }
};
template <>
struct As<std::string> : AsShown<std::string> {
  static std::string what() { return "a string"; }
  static std::string argument() { return "str"; }
  static std::string property_type() { return "str"; }
  static std::string parse(const Where& where, nb::handle given) {
    if (!nb::isinstance<nb::str>(given)) where.refuse(what().c_str(), given);
    const std::string_view text = utf8_of(given);
    if (text.empty() && nb::len(given) != 0)
      throw nb::value_error((where.text() + ": a string that UTF-8 can hold required, got " + repr_of(given)).c_str());
    return std::string(text);
  }
};
template <>
struct As<DType> {
  static std::string what() { return "an element type, such as \"float16\""; }
  static std::string argument() { return "cutplan._typing.DTypeLike"; }
  static std::string property_type() { return "cutplan.DType"; }
  static DType parse(const Where& where, nb::handle given) { return to_dtype(given, where.name); }
  static nb::object shown(DType value) { return value == DType::none ? nb::none() : nb::object(nb::str(name(value))); }
  static nb::object property(DType value) { return value == DType::none ? nb::none() : nb::cast(value); }
};
template <typename M>
struct As<M, std::enable_if_t<std::is_enum_v<M> && !std::is_same_v<M, DType>>> {
  static constexpr const auto& spelt = spelling<M>;
  static constexpr bool may_be_none() { return spelt.absent && !spelt.is_member(*spelt.absent); }
  static std::string argument() { return std::string("cutplan._typing.") + spelt.argument; }
  static std::string property_type() {
    const std::string own =
        spelt.type != nullptr ? std::string("cutplan.") + spelt.type : "typing.Literal[" + names_of<M>() + "]";
    return own + (may_be_none() ? " | None" : "");
  }
  static std::string what() { return "one of " + names_of<M>(); }
  static M parse(const Where& where, nb::handle given) { return to_option<M>(given, where.name); }
  static nb::object shown(M value) {
    return may_be_none() && value == *spelt.absent ? nb::none() : nb::object(nb::str(name(value)));
  }
  static nb::object property(M value) {
    if (may_be_none() && value == *spelt.absent) return nb::none();
    if constexpr (spelt.type != nullptr) {
      return nb::cast(value);
    } else {
      return nb::str(name(value));
    }
  }
};
template <typename M>
struct As<std::optional<M>> {
  static std::string argument() { return As<M>::argument(); }
  static std::string property_type() { return As<M>::property_type() + " | None"; }
  static std::string what() { return As<M>::what(); }
  static std::optional<M> parse(const Where& where, nb::handle given) { return As<M>::parse(where, given); }
  static nb::object shown(const std::optional<M>& value) { return value ? As<M>::shown(*value) : nb::none(); }
  static nb::object property(const std::optional<M>& value) { return value ? As<M>::property(*value) : nb::none(); }
};
/// Columns of several outputs: those that are not 0, as a tuple.
template <>
struct As<OutColumns> {
  static std::string what() { return "up to four integers"; }
  static std::string argument() { return "collections.abc.Sequence[int]"; }
  static std::string property_type() { return "tuple[int, ...]"; }
  static OutColumns parse(const Where& where, nb::handle given) {
    OutColumns columns = {};
    if (!PySequence_Check(given.ptr()) || nb::isinstance<nb::str>(given)) where.refuse(what().c_str(), given);
    const std::size_t count = nb::len(given);
    if (count > columns.size()) {
      throw nb::value_error(
          (where.text() + ": columns of at most four outputs required, got " + std::to_string(count)).c_str());
    }
    for (std::size_t i = 0; i < count; ++i) {
      columns[i] = to_integer(where, nb::object(given[i]));
      if (columns[i] < 1) {
        throw nb::value_error(
            (where.text() + ": at least 1 column required of each output, got " + std::to_string(columns[i])).c_str());
      }
    }
    return columns;
  }
  static nb::object shown(const OutColumns& columns) {
    nb::list all;
    for (const std::int64_t x : columns) {
      if (x != 0) all.append(x);
    }
    return nb::tuple(all);
  }
  static nb::object property(const OutColumns& columns) { return shown(columns); }
};
template <typename M>
struct As<std::vector<M>> : AsShown<std::vector<M>> {
  static std::string property_type() { return "list[" + As<M>::property_type() + "]"; }
  static nb::object shown(const std::vector<M>& values) {
    nb::list list;
    for (const M& value : values) list.append(As<M>::shown(value));
    return nb::object(list);
  }
};
/// A value within a value.
template <typename M>
struct As<M, std::enable_if_t<is_value<M>>> : AsShown<M> {
  static std::string class_name() { return nb::cast<std::string>(nb::type<M>().attr("__name__")); }
  static std::string what() {
    const std::string name = class_name();
    return (name[0] == 'E' || name[0] == 'F' ? "an " : "a ") + name;
  }
  static std::string argument() { return property_type(); }
  static std::string property_type() { return "cutplan." + class_name(); }
  static M parse(const Where& where, nb::handle given) {
    if (!nb::isinstance<M>(given)) where.refuse(what().c_str(), given);
    return nb::cast<M>(given);
  }
};

// ---- fields ----

/// settled: may be left out, and yet is there in every value.
enum class Given : std::uint8_t { optional, settled, required, positional };

template <typename T, typename M>
struct Field {
  using Member = M;
  const char* name;
  M T::* member;
  const char* doc;
  Given given;

  bool is_required() const { return given == Given::required || given == Given::positional; }
};

template <typename T, typename M>
constexpr Field<T, M> field(const char* name, M T::* member, const char* doc = "") {
  return {name, member, doc, Given::optional};
}
template <typename T, typename M>
constexpr Field<T, M> settled(const char* name, M T::* member, const char* doc = "") {
  return {name, member, doc, Given::settled};
}
template <typename T, typename M>
constexpr Field<T, M> required(const char* name, M T::* member, const char* doc = "") {
  return {name, member, doc, Given::required};
}

template <typename T, typename Visit>
constexpr void for_each_field(const Visit& visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, fields<T>);
}

/// A type that has more to say of its fields than each says alone, once all are parsed: overloaded.
template <typename T>
void settle(T&, const Keywords&) {}

template <typename T>
T make_value(Keywords& arguments) {
  T value;
  for_each_field<T>([&](const auto& f) {
    using M = typename std::decay_t<decltype(f)>::Member;
    const nb::object given = arguments.take(f.name);
    const Where where{arguments.type(), f.name};
    if (!given.is_none()) {
      value.*f.member = As<M>::parse(where, given);
    } else if (f.is_required()) {
      arguments.refuse_missing(f.name, As<M>::what());
    }
  });
  settle(value, arguments);
  return value;
}

template <typename M>
bool same(const M& x, const M& y) {
  if constexpr (is_value<M>) {
    bool equal = true;
    for_each_field<M>([&](const auto& f) { equal = equal && same(x.*f.member, y.*f.member); });
    return equal;
  } else {
    return x == y;
  }
}

/// What makes the value again: required fields, and those that are not as they would be without being given.
template <typename T>
nb::dict arguments_of(const T& value) {
  nb::dict d;
  const T without;
  for_each_field<T>([&](const auto& f) {
    using M = typename std::decay_t<decltype(f)>::Member;
    if (f.is_required() || !same(value.*f.member, without.*f.member)) d[f.name] = As<M>::shown(value.*f.member);
  });
  return d;
}

template <typename M>
void mix(Hash& h, const M& x) {
  if constexpr (is_value<M>) {
    for_each_field<M>([&](const auto& f) { mix(h, x.*f.member); });
  } else if constexpr (std::is_same_v<M, double>) {
    std::int64_t bits;
    const double value = x + 0.0;  // of the two zeros, which are equal, one
    std::memcpy(&bits, &value, sizeof bits);
    h << bits;
  } else if constexpr (std::is_same_v<M, std::string>) {
    h << std::hash<std::string>()(x);
  } else if constexpr (std::is_integral_v<M> || std::is_enum_v<M>) {
    h << x;
  } else if constexpr (std::is_same_v<M, OutColumns>) {
    for (const std::int64_t columns : x) h << columns;
  } else {
    h << x.has_value();
    if (x) mix(h, *x);
  }
}

template <typename M>
nb::object default_of(const M& value) {
  if constexpr (is_value<M>) {
    return nb::none();
  } else {
    return As<M>::shown(value);
  }
}

/// "name: annotation = default"
template <typename T>
std::string signature_of_init() {
  std::string positional, named;
  const T without;
  for_each_field<T>([&](const auto& f) {
    using M = typename std::decay_t<decltype(f)>::Member;
    std::string one = std::string(f.name) + ": " + As<M>::argument();
    if (!f.is_required()) one += " | None = " + repr_of(default_of(without.*f.member));
    (f.given == Given::positional ? positional : named) += ", " + one;
  });
  return "def __init__(self" + positional + (named.empty() ? "" : ", *" + named) + ") -> None";
}
template <typename T, typename M>
void bind_field(nb::class_<T>& type, const Field<T, M>& f) {
  // A type that is there in every value is told as it is, not as what may be absent.
  const char* const signature = keep(std::string("def ") + f.name + "(self) -> " + As<M>::property_type() +
                                     (std::is_same_v<M, DType> && f.given == Given::optional ? " | None" : ""));
  const auto get = [member = f.member](const T& self) { return As<M>::property(self.*member); };
  if (*f.doc != '\0') {
    type.def_prop_ro(f.name, get, nb::sig(signature), f.doc);
  } else {
    type.def_prop_ro(f.name, get, nb::sig(signature));
  }
}

/// Of an object that __init__ has been called for; null, with Python's error set, of one that it has not.
template <typename T>
T* made(PyObject* object) {
  if (nb::inst_ready(nb::handle(object))) return nb::inst_ptr<T>(nb::handle(object));
  PyErr_SetString(PyExc_TypeError, "an object whose __init__ has not been called has no value");
  return nullptr;
}

/// In type slots, where nothing stands between a dict and these.
template <typename T>
nb::type_slots value_slots() {
  static PyType_Slot slots[] = {
      {Py_tp_hash, reinterpret_cast<void*>(+[](PyObject* self) -> Py_hash_t {
         const T* value = made<T>(self);
         if (value == nullptr) return -1;
         Hash h;
         mix(h, *value);
         return h.value();
       })},
      {Py_tp_richcompare, reinterpret_cast<void*>(+[](PyObject* self, PyObject* other, int operation) -> PyObject* {
         if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE)) {
           Py_INCREF(Py_NotImplemented);
           return Py_NotImplemented;
         }
         const T *mine = made<T>(self), *others = mine == nullptr ? nullptr : made<T>(other);
         if (others == nullptr) return nullptr;
         return PyBool_FromLong(same(*mine, *others) == (operation == Py_EQ));
       })},
      {0, nullptr}};
  return nb::type_slots(slots);
}

/// A value. `init_doc` is the constructor's.
template <typename T>
void bind_value(nb::module_& m, const char* name, const char* doc, const char* init_doc) {
  nb::class_<T> type(m, name, value_slots<T>(), doc);
  const char* positional = nullptr;
  for_each_field<T>([&](const auto& f) {
    if (f.given == Given::positional) positional = f.name;
  });
  const auto construct = [name, positional](T* self, nb::handle positionals, nb::handle keywords) {
    Keywords arguments(name, positionals, keywords, positional);
    T value = make_value<T>(arguments);
    arguments.finish();
    new (self) T(std::move(value));
  };
  type.def(
          "__init__",
          [construct](T* self, nb::args positionals, nb::kwargs keywords) { construct(self, positionals, keywords); },
          nb::sig(keep(signature_of_init<T>())), init_doc)
      .def("__getstate__", &arguments_of<T>, nb::sig("def __getstate__(self) -> dict[str, object]"))
      .def(
          "__setstate__", [construct](T* self, nb::dict state) { construct(self, nb::tuple(), state); },
          nb::sig("def __setstate__(self, state: dict[str, object], /) -> None"))
      .def("__repr__", [name](const T& self) { return print_call(name, arguments_of(self)); });
  for_each_field<T>([&](const auto& f) { bind_field(type, f); });
}

/// What is only read: printed with all of its fields.
template <typename T>
nb::class_<T> bind_record(nb::module_& m, const char* name, const char* doc) {
  nb::class_<T> type(m, name, doc);
  for_each_field<T>([&](const auto& f) { bind_field(type, f); });
  type.def("__repr__", [name](const T& self) {
    nb::dict d;
    for_each_field<T>([&](const auto& f) {
      using M = typename std::decay_t<decltype(f)>::Member;
      d[f.name] = As<M>::shown(self.*f.member);
    });
    return print_call(name, d);
  });
  return type;
}

}  // namespace cutplan::bindings
