// What units make their tables of: the kernels of a tile in several layouts, and tables joined.
#pragma once

#include <cutlass/numeric_types.h>

#include <array>
#include <cstdint>
#include <type_traits>

#include "gemm/kernel.hpp"

namespace cutplan::gemm {

/// Of A and B in memory: what is multiplied as TF32 is float32 there.
template <typename Element>
constexpr DType dtype_of() = delete;
template <>
constexpr DType dtype_of<cutlass::half_t>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<cutlass::bfloat16_t>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<cutlass::tfloat32_t>() {
  return DType::f32;
}

template <>
constexpr DType dtype_of<std::int8_t>() {
  return DType::i8;
}
template <>
constexpr DType dtype_of<cutlass::float_e4m3_t>() {
  return DType::fp8_e4m3;
}
template <>
constexpr DType dtype_of<cutlass::float_e5m2_t>() {
  return DType::fp8_e5m2;
}

/// In place of one element type: A's and B's.
template <typename A, typename B>
struct Mixed;
template <typename Element>
struct ElementsOf {
  using A = Element;
  using B = Element;
};
template <typename A_, typename B_>
struct ElementsOf<Mixed<A_, B_>> {
  using A = A_;
  using B = B_;
};

/// What products are summed in.
template <typename Element>
using SumOf = std::conditional_t<std::is_same_v<Element, std::int8_t>, std::int32_t, float>;

template <GemmLayout... kLayouts>
struct Layouts {};
/// Those with a row-major D: canonical() makes one of them of every other.
inline constexpr Layouts<GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr> all_layouts{};

template <typename... Tables>
constexpr auto join(const Tables&... tables) {
  std::array<Kernel, (std::tuple_size_v<Tables> + ...)> joined{};
  std::size_t size = 0;
  const auto append = [&](const auto& table) {
    for (const Kernel& kernel : table) joined[size++] = kernel;
  };
  (append(tables), ...);
  return joined;
}

}  // namespace cutplan::gemm
