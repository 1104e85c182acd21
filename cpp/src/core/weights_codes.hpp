// What the codes of packed weights stand for, on the host and on devices.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/half.hpp"
#include "core/host_device.hpp"
#include "core/weights_layout.hpp"

namespace cutplan::weights {

/// At an address that is a multiple of its size on devices; on the host at any.
template <typename T>
CUTPLAN_HOST_DEVICE T load(const void* from) {
#ifdef __CUDA_ARCH__
  return *static_cast<const T*>(from);
#else
  T x;
  std::memcpy(&x, from, sizeof x);
  return x;
#endif
}
template <typename T>
CUTPLAN_HOST_DEVICE void store(void* to, T x) {
#ifdef __CUDA_ARCH__
  *static_cast<T*>(to) = x;
#else
  std::memcpy(to, &x, sizeof x);
#endif
}

CUTPLAN_HOST_DEVICE float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
CUTPLAN_HOST_DEVICE std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// f16, bf16 or f32, from its bits, and back.
CUTPLAN_HOST_DEVICE float widened(DType type, std::uint32_t bits) {
  if (type == DType::f32) return float_of(bits);
  if (type == DType::bf16) return float_of(bits << 16);
  Half x;
  x.bits = static_cast<std::uint16_t>(bits);
  return static_cast<float>(x);
}
CUTPLAN_HOST_DEVICE std::uint32_t narrowed(DType type, float x) {
  return type == DType::f32 ? bits_of(x) : type == DType::bf16 ? BFloat16(x).bits : Half(x).bits;
}

CUTPLAN_HOST_DEVICE float float_at(DType type, const void* data, std::int64_t index) {
  return type == DType::f32 ? widened(type, load<std::uint32_t>(static_cast<const std::uint32_t*>(data) + index))
                            : widened(type, load<std::uint16_t>(static_cast<const std::uint16_t*>(data) + index));
}

/// The entries of nf4, as Dettmers et al. (2023) list them.
CUTPLAN_HOST_DEVICE float nf4_value(std::uint32_t code) {
  static constexpr float kValues[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
  return kValues[code];
}

CUTPLAN_HOST_DEVICE float e2m1_value(std::uint32_t code) {
  const std::uint32_t exponent = code >> 1 & 3, mantissa = code & 1;
  const float x =
      exponent == 0 ? 0.5f * static_cast<float>(mantissa) : 0.5f * static_cast<float>((2 + mantissa) << (exponent - 1));
  return (code & 8) != 0 ? -x : x;
}

CUTPLAN_HOST_DEVICE float e4m3_value(std::uint32_t code) {
  const std::uint32_t sign = (code & 0x80) << 24, exponent = code >> 3 & 15, mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return float_of(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float x = static_cast<float>(mantissa) * 0x1p-9f;
    return sign != 0 ? -x : x;
  }
  return float_of(sign | (exponent + 120) << 23 | mantissa << 20);
}

CUTPLAN_HOST_DEVICE float decode(WeightFormat format, std::uint32_t code) {
  switch (format) {
    case WeightFormat::int4: return static_cast<float>(static_cast<int>(code) - 8);
    case WeightFormat::uint4: return static_cast<float>(code);
    case WeightFormat::int8: return static_cast<float>(static_cast<int>(code) - 128);
    case WeightFormat::e4m3: return e4m3_value(code);
    case WeightFormat::nf4: return nf4_value(code);
    case WeightFormat::e2m1: return e2m1_value(code);
  }
  return 0;
}

}  // namespace cutplan::weights
