// Which elements of a matrix share a scale.
#pragma once

#include <cstdint>

namespace cutplan {

/// All; those of a row, of a column; groups of a row or of a column, one after the other; squares. Groups and squares at an edge
/// may be smaller.
enum class Granularity : std::uint8_t { tensor, row, column, group, block };

constexpr const char* name(Granularity g) noexcept {
  switch (g) {
    case Granularity::tensor: return "tensor";
    case Granularity::row: return "row";
    case Granularity::column: return "column";
    case Granularity::group: return "group";
    case Granularity::block: return "block";
  }
  return "";
}

}  // namespace cutplan
