// The two 16-bit floating-point formats in plain C++: exact widening, round-to-nearest-even narrowing. Written on the bits
// and without branches that depend on data order, so that compilers vectorise loops over them; none of it leans on subnormal
// float arithmetic, so a caller's flush-to-zero mode changes nothing.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.hpp"

namespace cutplan {

namespace detail {

CUTPLAN_HOST_DEVICE std::uint32_t float_bits(float x) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

CUTPLAN_HOST_DEVICE float bits_float(std::uint32_t bits) noexcept {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace detail

/// IEEE binary16: 5 exponent bits, 10 mantissa bits.
struct Half {
  std::uint16_t bits;

  Half() = default;

  CUTPLAN_HOST_DEVICE explicit Half(float x) noexcept {
    const std::uint32_t all = detail::float_bits(x);
    const std::uint32_t magnitude = all & 0x7fffffffu;
    // Below 2^-14 the result is subnormal: its last bit, 2^-24, is the last bit of a float in [0.5, 1), so adding 0.5
    // rounds.
    const std::uint32_t subnormal = detail::float_bits(detail::bits_float(magnitude) + 0.5f) - 0x3f000000u;
    // Rebias the exponent by -112 and round to the kept bits; a carry moves into the exponent and, at the top, to infinity.
    const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
    const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    bits = static_cast<std::uint16_t>((magnitude >= 0x47800000u ? special : finite) | ((all >> 16) & 0x8000u));
  }

  CUTPLAN_HOST_DEVICE operator float() const noexcept {
    const std::uint32_t all = bits;
    const std::uint32_t shifted = (all & 0x7fffu) << 13;
    const std::uint32_t exponent = shifted & 0x0f800000u;
    const std::uint32_t normal = shifted + (exponent == 0x0f800000u ? 0x70000000u : 0x38000000u);
    // A subnormal is mantissa * 2^-24: put the mantissa under the exponent of 2^-14 and take 2^-14 off again, exactly.
    const std::uint32_t subnormal =
        detail::float_bits(detail::bits_float(shifted + 0x38800000u) - detail::bits_float(0x38800000u));
    return detail::bits_float((exponent == 0 ? subnormal : normal) | ((all & 0x8000u) << 16));
  }
};

/// bfloat16: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;

  CUTPLAN_HOST_DEVICE explicit BFloat16(float x) noexcept {
    const std::uint32_t all = detail::float_bits(x);
    const std::uint32_t rounded = (all + 0x7fffu + ((all >> 16) & 1u)) >> 16;
    const std::uint32_t quiet = (all >> 16) | 0x40u;  // a NaN stays one even when its payload is cut off
    bits = static_cast<std::uint16_t>((all & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }

  CUTPLAN_HOST_DEVICE operator float() const noexcept { return detail::bits_float(static_cast<std::uint32_t>(bits) << 16); }
};

static_assert(sizeof(Half) == 2 && sizeof(BFloat16) == 2, "arrays of these are read as the formats they name");

}  // namespace cutplan
