// Packed weights as products see them.
#pragma once

#include <cstdint>
#include <optional>

#include "cutplan/dtype.hpp"

namespace cutplan {

/// What the codes of a weight, unsigned integers, stand for. The numbers are those that packed weights hold.
///     int4   u - 8                 uint4  u
///     int8   u - 128               e4m3   the float8 of these bits
///     nf4    one of 16 quantiles of the normal distribution (Dettmers et al. 2023, QLoRA, appendix E)
///     e2m1   0, 0.5, 1, 1.5, 2, 3, 4, 6, and these negated from 8 on (OCP microscaling formats, FP4)
enum class WeightFormat : std::uint8_t { int4 = 0, uint4 = 1, int8 = 2, e4m3 = 3, nf4 = 4, e2m1 = 5 };

constexpr const char* name(WeightFormat f) noexcept {
  switch (f) {
    case WeightFormat::int4: return "int4";
    case WeightFormat::uint4: return "uint4";
    case WeightFormat::int8: return "int8";
    case WeightFormat::e4m3: return "e4m3";
    case WeightFormat::nf4: return "nf4";
    case WeightFormat::e2m1: return "e2m1";
  }
  return "";
}

/// Of a code.
constexpr int bits(WeightFormat f) noexcept { return f == WeightFormat::int8 || f == WeightFormat::e4m3 ? 8 : 4; }

/// What packed weights hold: of their header what a product of them has to know.
struct WeightPacking {
  std::optional<WeightFormat> format;  // none: B is no packed weight
  std::int64_t n = 0;                  // columns
  std::int64_t group_size = 128;       // as PackWeightsDescriptor has it
  DType scale = DType::none;
  bool zero = false;
  bool permutation = false;
};

}  // namespace cutplan
