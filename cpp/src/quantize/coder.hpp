// From the range of elements to their scale, and from a scale to what elements are multiplied by: the same on the host and on
// devices, to the bit.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"
#include "cutplan/dtype.hpp"

namespace cutplan::quantize {

/// Of integers, as data holds them.
struct Bounds {
  int first, last;

  CUTPLAN_HOST_DEVICE constexpr int steps() const { return last - first; }
};

CUTPLAN_HOST_DEVICE constexpr Bounds bounds_of(DType type, bool symmetric) {
  return type == DType::i4 ? (symmetric ? Bounds{-7, 7} : Bounds{0, 15})
                           : (symmetric ? Bounds{-127, 127} : Bounds{-128, 127});
}

/// What amax becomes.
CUTPLAN_HOST_DEVICE constexpr float largest_code(DType type) {
  return type == DType::fp8_e4m3 ? 448.0f : type == DType::fp8_e5m2 ? 57344.0f : type == DType::i4 ? 7.0f : 127.0f;
}

/// How far elements reach from 0. NaN does not count.
struct Range {
  float below, above;  // max(-x, 0), max(x, 0)

  CUTPLAN_HOST_DEVICE float amax() const { return below > above ? below : above; }
};

/// x times `inverse`, to nearest even; 0 for NaN, and beyond 2^22 whatever is beyond all bounds of integers. The product is exact.
CUTPLAN_HOST_DEVICE float nearest(float x, float inverse) {
#ifdef __CUDA_ARCH__
  constexpr float kOne = 0x1.8p23f;  // whose last bit is 1
  const float sum = fmaf(x, inverse, kOne);
  return sum == sum ? sum - kOne : 0.0f;
#else
  constexpr double kOne = 0x1.8p52;
  const double product = static_cast<double>(x) * inverse;
  if (!(product == product)) return 0;
  const double least = product < -0x1p22 ? -0x1p22 : product, within = least > 0x1p22 ? 0x1p22 : least;
  return static_cast<float>((within + kOne) - kOne);
#endif
}

/// x / n, for an n of these types, known at compile time: a quotient that is off by a unit at most, and what it left, make the right
/// one, but for some subnormal ones of float8, of which the least scale is made.
CUTPLAN_HOST_DEVICE float quotient(float x, float n) {
#ifdef __CUDA_ARCH__
  const float inverse = 1 / n, about = x * inverse;
  return fmaf(fmaf(-about, n, x), inverse, about);
#else
  return x / n;
#endif
}

/// What turns elements into data.
struct Coder {
  float inverse;      // 1 / scale
  std::int32_t zero;  // within the bounds
};

CUTPLAN_HOST_DEVICE Coder coder_of(float scale, std::int32_t zero, DType type, bool symmetric) {
  if (symmetric) return {1 / scale, 0};
  const Bounds b = bounds_of(type, false);
  return {1 / scale, zero < b.first ? b.first : zero > b.last ? b.last : zero};
}

/// `scale`: what the data is to be multiplied by.
CUTPLAN_HOST_DEVICE Coder coder_of(const Range& range, DType type, bool symmetric, float& scale) {
  const float amax = range.amax();
  if (symmetric) {
    scale = quotient(amax < FLT_MAX ? amax : FLT_MAX, largest_code(type));
  } else {
    const auto steps = static_cast<float>(bounds_of(type, false).steps());
    scale = quotient(range.above < FLT_MAX ? range.above : FLT_MAX, steps) +
            quotient(range.below < FLT_MAX ? range.below : FLT_MAX, steps);
  }
  scale = amax > 0 ? (scale > FLT_MIN ? scale : FLT_MIN) : 1.0f;  // whose inverse is finite
  const float inverse = 1 / scale;
  if (symmetric) return {inverse, 0};
  const Bounds b = bounds_of(type, false);
  const int zero = b.first + static_cast<int>(nearest(range.below < FLT_MAX ? range.below : FLT_MAX, inverse));
  return {inverse, zero < b.last ? zero : b.last};
}

}  // namespace cutplan::quantize
