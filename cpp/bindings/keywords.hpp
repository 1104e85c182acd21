// The arguments of a value's constructor, taken one by one: what is missing, of a wrong type or unknown is refused in one line
// that names it, where nanobind's own parser would print every signature.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cutplan::bindings {

namespace nb = nanobind;

/// What a string holds; nothing where that is half a surrogate pair, which UTF-8 has none of.
std::string_view utf8_of(nb::handle text);
/// str() and repr(), with such halves escaped.
std::string text_of(nb::handle object);
std::string repr_of(nb::handle object);

/// Which argument of what a refusal names.
struct Where {
  const char* type;  // whose constructor it is; null: a function's
  const char* name;

  std::string text() const { return (type == nullptr ? std::string() : std::string(type) + "(): ") + name; }

  /// Raises TypeError: what the argument has to be, and what was given.
  [[noreturn]] void refuse(const char* what, nb::handle given) const;
};

class Keywords {
 public:
  /// `type`: whose constructor it is. `positional`: name of the one argument that may be given without it, or null.
  Keywords(const char* type, nb::handle positionals, nb::handle keywords, const char* positional = nullptr);

  const char* type() const { return type_; }

  /// None where the argument is not given. Each argument is taken once, in the order of the signature.
  nb::object take(const char* name);
  bool has(const char* name) const;

  [[noreturn]] void refuse_missing(const char* name, const std::string& what) const;

  /// Refuses what nobody has taken.
  void finish() const;

 private:
  const char* type_;
  nb::object given_;  // a dict
  std::vector<const char*> known_;
};

/// Calls that no overload of a function takes end in a line of their own (python/cutplan/_calls.py) and not in nanobind's page
/// of signatures: a last overload takes them all. `scope`: a module, or the class of a method.
void refuse_other_calls(nb::handle scope, const char* name, bool is_method = false);

/// Two integers of 32 bits in a sequence.
std::optional<std::pair<int, int>> find_integers(nb::handle given);

// These raise TypeError naming the argument.
/// True, False or NumPy's; None: false.
bool to_flag(const Where& where, nb::handle given);
std::int64_t to_integer(const Where& where, nb::handle given);
int to_small_integer(const Where& where, nb::handle given);
double to_number(const Where& where, nb::handle given);
std::pair<std::int64_t, std::int64_t> to_integers(const Where& where, nb::handle given);

/// "Type(name=value, ...)".
std::string print_call(const char* type, nb::handle fields);

}  // namespace cutplan::bindings
