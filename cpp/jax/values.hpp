// Values as the text of a call spells them.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "cutplan/attention_ops.hpp"
#include "cutplan/dtype.hpp"
#include "cutplan/fmha.hpp"

namespace cutplan::jax {

/// Takes what lies before the first `separator` off the text.
inline std::string_view next(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

/// The package writes these texts: one that cannot be read is of another version, or was changed.
[[noreturn]] inline void refuse_text(const char* what, std::string_view text) {
  throw std::invalid_argument(std::string("cutplan.jax: no ") + what + ": '" + std::string(text) + "'");
}

template <typename T>
std::enable_if_t<std::is_arithmetic_v<T> && !std::is_same_v<T, bool>> parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) refuse_text("number", text);
}

inline void parse(std::string_view text, bool& value) { value = text == "True"; }

inline void parse(std::string_view text, std::string& value) { value = text; }

/// Of a type whose values have names.
template <typename T>
std::enable_if_t<std::is_enum_v<T>> parse(std::string_view text, T& value) {
  constexpr int more_than_any_has = 32;
  for (int i = 0; i < more_than_any_has; ++i) {
    value = static_cast<T>(i);
    if (text == name(value)) return;
  }
  refuse_text("name of a value", text);
}

inline void parse(std::string_view text, Window& value) {
  parse(next(text, ','), value.left);
  parse(text, value.right);
}

template <typename T>
void parse(std::string_view text, std::optional<T>& value) {
  parse(text, value.emplace());
}

/// "2,3", or "" for none; returns how many there are.
inline int parse(std::string_view text, std::int64_t (&values)[max_rank]) {
  int count = 0;
  while (!text.empty()) {
    if (count == max_rank) refuse_text("list that short", text);
    parse(next(text, ','), values[count++]);
  }
  return count;
}

}  // namespace cutplan::jax
