#pragma once

#include "cutplan/export.hpp"

namespace cutplan {

/// "major.minor.patch" of the library that is loaded.
CUTPLAN_API const char* version() noexcept;

/// Architectures built in, comma-separated: "host,sm80,sm90".
CUTPLAN_API const char* built_architectures() noexcept;

}  // namespace cutplan
