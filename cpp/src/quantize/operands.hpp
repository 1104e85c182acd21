// The operands of quantisation, both ways: what each plan asks of them.
#pragma once

#include "core/operands.hpp"
#include "cutplan/quantize.hpp"

namespace cutplan::quantize {

using Q = QuantizeDescriptor;
using QA = QuantizeArguments;
using D = DequantizeDescriptor;
using DA = DequantizeArguments;

/// Rows and columns that share a scale, of a resolved descriptor.
template <typename G>
constexpr std::int64_t group_rows(const G& g) {
  switch (g.granularity) {
    case Granularity::row: return 1;
    case Granularity::group: return g.axis == -1 ? 1 : g.group_size;
    case Granularity::block: return g.group_size;
    default: return g.rows > 0 ? g.rows : 1;
  }
}
template <typename G>
constexpr std::int64_t group_columns(const G& g) {
  switch (g.granularity) {
    case Granularity::column: return 1;
    case Granularity::group: return g.axis == -1 ? g.group_size : 1;
    case Granularity::block: return g.group_size;
    default: return g.columns > 0 ? g.columns : 1;
  }
}

/// A batch of one may be left out, and nobody speaks of it. `words`, of the shape, begin with it.
template <typename G>
constexpr Rule of_batch(const G& g, const Rule& rule, const char* words) {
  constexpr char batch[] = "batch, ";
  return rule.may_drop(g.batch == 1 ? 1 : 0).means(g.batch == 1 ? words + sizeof batch - 1 : words);
}

template <typename G>
constexpr Rule elements(const G& g, DType type) {
  return of_batch(g, tensor(type, -1, g.batch, g.rows, g.columns), "batch, rows, columns");
}
template <typename G>
constexpr Rule codes(const G& g) {
  if (g.dtype != DType::i4) return elements(g, g.dtype);
  return of_batch(g, tensor(DType::u8, -1, g.batch, g.rows, g.columns / 2).fixed(), "batch, rows, pairs of columns");
}

/// One for each scale.
template <typename G>
constexpr Rule for_each_scale(const G& g, DType type) {
  const auto groups = [](std::int64_t n, std::int64_t size) { return (n + size - 1) / size; };
  const std::int64_t rows = groups(g.rows, group_rows(g)), columns = groups(g.columns, group_columns(g));
  switch (g.granularity) {
    case Granularity::tensor: return tensor(type, any_strides, 1).fixed().means("one of all");
    case Granularity::row: return of_batch(g, tensor(type, any_strides, g.batch, rows).fixed(), "batch, rows");
    case Granularity::column: return of_batch(g, tensor(type, any_strides, g.batch, columns).fixed(), "batch, columns");
    default: break;
  }
  return of_batch(g, tensor(type, any_strides, g.batch, rows, columns).fixed(),
                  g.granularity == Granularity::block ? "batch, blocks of rows, blocks of columns"
                  : g.axis == -1                      ? "batch, rows, groups of columns"
                                                      : "batch, groups of rows, columns");
}

inline constexpr Operand<Q, QA> quantize_operands[] = {
    {"x", &QA::x, [](const Q& g) { return elements(g, g.x); }, "", true},
    {"data", &QA::data, [](const Q& g) { return codes(g).as(Role::output); }, "", true},
    {"scale", &QA::scale,
     [](const Q& g) { return for_each_scale(g, DType::f32).as(g.static_scale ? Role::input : Role::output); }, "", true},
    {"zero", &QA::zero,
     [](const Q& g) {
       return for_each_scale(g, DType::i32).as(g.static_scale ? Role::input : Role::output).when(!g.symmetric);
     },
     "QuantizeDescriptor(symmetric=False)"},
    {"amax", &QA::amax, [](const Q& g) { return for_each_scale(g, DType::f32).as(Role::output).when(g.amax); },
     "QuantizeDescriptor(amax=True)"},
};

inline constexpr Operand<D, DA> dequantize_operands[] = {
    {"data", &DA::data, [](const D& g) { return codes(g); }, "", true},
    {"scale", &DA::scale, [](const D& g) { return for_each_scale(g, DType::f32); }, "", true},
    {"out", &DA::out, [](const D& g) { return elements(g, g.out).as(Role::output); }, "", true},
    {"zero", &DA::zero, [](const D& g) { return for_each_scale(g, DType::i32).when(!g.symmetric); },
     "DequantizeDescriptor(symmetric=False)"},
};

}  // namespace cutplan::quantize
