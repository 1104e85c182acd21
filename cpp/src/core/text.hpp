// Error text: values joined into one sentence. Only cold paths build strings.
#pragma once

#include <sstream>
#include <string>

#include "cutplan/tensor.hpp"

namespace cutplan {

template <typename... Parts>
[[gnu::noinline, gnu::cold]] std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// "[2, 3]"
[[gnu::noinline, gnu::cold]] inline std::string extents(const std::int64_t* values, int count) {
  std::string s = "[";
  for (int i = 0; i < count; ++i) s += (i ? ", " : "") + std::to_string(values[i]);
  return s + "]";
}

[[gnu::noinline, gnu::cold]] inline std::string describe(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(device.id);
}

}  // namespace cutplan
