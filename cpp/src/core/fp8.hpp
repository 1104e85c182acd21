// The two 8-bit floating-point formats in plain C++ (Micikevicius et al. 2022): narrowing, to nearest even, that saturates.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/half.hpp"

namespace cutplan {

/// kMantissa bits of mantissa, an exponent biased by kBias, kLargest the bits of the largest finite number, kNan those of NaN.
template <int kMantissa, int kBias, std::uint8_t kLargest, std::uint8_t kNan>
struct Float8 {
  std::uint8_t bits;

  Float8() = default;

  /// What is beyond the largest number, infinity too, becomes that.
  explicit Float8(float x) noexcept {
    const std::uint32_t all = detail::float_bits(x), magnitude = all & 0x7fffffffu;
    const auto sign = static_cast<std::uint8_t>(all >> 24 & 0x80u);
    if (magnitude > 0x7f800000u) {
      bits = static_cast<std::uint8_t>(sign | kNan);
      return;
    }
    constexpr int kDropped = 23 - kMantissa;
    constexpr std::uint32_t kLeastNormal = static_cast<std::uint32_t>(127 - kBias + 1) << 23;
    std::uint32_t rounded;
    if (magnitude < kLeastNormal) {
      // Steps of the subnormal numbers, counted: the largest count is the least normal number.
      rounded = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(detail::bits_float(magnitude), kBias - 1 + kMantissa)));
    } else {
      const std::uint32_t last = magnitude >> kDropped & 1u;
      rounded = ((magnitude + (1u << (kDropped - 1)) - 1 + last) >> kDropped) -
                (static_cast<std::uint32_t>(127 - kBias) << kMantissa);
    }
    bits = static_cast<std::uint8_t>(sign | (rounded > kLargest ? kLargest : rounded));
  }
};

using E4M3 = Float8<3, 7, 0x7e, 0x7f>;
using E5M2 = Float8<2, 15, 0x7b, 0x7f>;

}  // namespace cutplan
