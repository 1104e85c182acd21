// What the bytes of quantised tensors stand for.
#pragma once

#include <cmath>
#include <limits>

#include "core/fp8.hpp"
#include "cutplan/dtype.hpp"

namespace cutplan {

/// By the byte; of 4-bit types by its low half.
struct CodeValues {
  float of[256];
};

/// Of kMantissa bits of mantissa; kSpecial: the magnitude from which on there are no finite numbers.
template <int kMantissa, int kBias, int kSpecial>
CodeValues values_of_float8() {
  CodeValues values;
  for (int code = 0; code < 256; ++code) {
    const int magnitude = code & 0x7f, exponent = magnitude >> kMantissa, fraction = magnitude & ((1 << kMantissa) - 1);
    const bool normal = exponent > 0;
    float x = std::ldexp(static_cast<float>(fraction + (normal ? 1 << kMantissa : 0)),
                         (normal ? exponent : 1) - kBias - kMantissa);
    if (magnitude == kSpecial && kSpecial == 0x7c) x = std::numeric_limits<float>::infinity();
    if (magnitude > kSpecial || (kSpecial == 0x7f && magnitude == kSpecial)) x = std::numeric_limits<float>::quiet_NaN();
    values.of[code] = code < 128 ? x : -x;
  }
  return values;
}

/// `is_signed`: of i4.
inline CodeValues values_of_codes(DType type, bool is_signed = true) {
  if (type == DType::fp8_e4m3) return values_of_float8<3, 7, 0x7f>();
  if (type == DType::fp8_e5m2) return values_of_float8<2, 15, 0x7c>();
  CodeValues values;
  for (int code = 0; code < 256; ++code) {
    const int nibble = code & 15;
    values.of[code] = static_cast<float>(type == DType::i8         ? (code < 128 ? code : code - 256)
                                         : is_signed && nibble > 7 ? nibble - 16
                                                                   : nibble);
  }
  return values;
}

}  // namespace cutplan
