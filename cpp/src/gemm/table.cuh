// What units make their tables of: the kernels of a tile in several layouts, and tables joined.
#pragma once

#include <cutlass/numeric_types.h>

#include <array>

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
