// The two 8-bit floating-point formats (Micikevicius et al. 2022): narrowing, to nearest even, that saturates.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.hpp"

namespace cutplan {

/// kMantissa bits of mantissa, an exponent biased by kBias, kLargest the bits of the largest finite number, kNan those of NaN.
template <int kMantissa, int kBias, std::uint8_t kLargest, std::uint8_t kNan>
struct Float8 {
  std::uint8_t bits;

  Float8() = default;

  /// What is beyond the largest number, infinity too, becomes that.
  CUTPLAN_HOST_DEVICE explicit Float8(float x) noexcept {
    std::uint32_t all, counted;
    std::memcpy(&all, &x, 4);
    const std::uint32_t magnitude = all & 0x7fffffffu, sign = all >> 24 & 0x80u;
    constexpr int kDropped = 23 - kMantissa;
    constexpr std::uint32_t kLeastNormal = static_cast<std::uint32_t>(127 - kBias + 1) << 23;
    // Subnormal: steps are counted by a sum whose last bit is one; the largest count is the least normal number.
    constexpr float kCounter = static_cast<float>(1 << (24 - kBias - kMantissa));
    const float sum = (x < 0 ? -x : x) + kCounter;
    std::memcpy(&counted, &sum, 4);
    const std::uint32_t few = counted & 0x7fffffu, last = magnitude >> kDropped & 1u,
                        many = ((magnitude + (1u << (kDropped - 1)) - 1 + last) >> kDropped) -
                               (static_cast<std::uint32_t>(127 - kBias) << kMantissa),
                        rounded = magnitude < kLeastNormal ? few : many, finite = rounded > kLargest ? kLargest : rounded;
    bits = static_cast<std::uint8_t>(magnitude > 0x7f800000u ? kNan : sign | finite);
  }
};

using E4M3 = Float8<3, 7, 0x7e, 0x7f>;
using E5M2 = Float8<2, 15, 0x7b, 0x7f>;

}  // namespace cutplan
