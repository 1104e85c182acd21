// The operands of matrix products: what single and grouped plans ask of each. A new operand is a line here, and its use in
// problem() (operands.cpp) and in terms.hpp.
#pragma once

#include <algorithm>

#include "core/operands.hpp"
#include "core/weights_layout.hpp"
#include "cutplan/grouped_gemm.hpp"

namespace cutplan::gemm {

// GemmLayout has its letters in this order.
constexpr bool a_is_row_major(GemmLayout l) { return (static_cast<int>(l) & 3) < 2; }
constexpr bool b_is_row_major(GemmLayout l) { return ((static_cast<int>(l) + 3) & 3) < 2; }
constexpr bool d_is_row_major(GemmLayout l) { return l < GemmLayout::rcc; }

constexpr GemmLayout layout_of(bool a_row_major, bool b_row_major, bool d_row_major) {
  const GemmLayout l =
      a_row_major ? (b_row_major ? GemmLayout::rrr : GemmLayout::rcr) : (b_row_major ? GemmLayout::crr : GemmLayout::ccr);
  return d_row_major ? l : static_cast<GemmLayout>(static_cast<int>(l) + 4);
}

/// Columns of B to one of D, in B itself.
constexpr std::int64_t halves(const Epilogue& e) { return e.gate == Gate::interleaved ? 2 : 1; }
constexpr bool has_two_biases(const Epilogue& e) { return e.bias != BiasOver::none && e.gate == Gate::separate; }
constexpr bool has_two_scales(const Epilogue& e, std::optional<Granularity> of_b) {
  return of_b.has_value() && e.gate == Gate::separate;
}

/// Whether a scale is one factor of a row or a column of D, or of all of it: the epilogue has room for one.
constexpr bool is_factor_of_d(std::optional<Granularity> scale) {
  return scale && *scale != Granularity::group && *scale != Granularity::block;
}

constexpr bool has_several_outputs(const GemmDescriptor& g) { return g.out_columns[0] != 0; }
/// Of an output after the first; none in a descriptor: D's.
constexpr const char* further_names[] = {"d2", "d3", "d4"};
constexpr DType GemmDescriptor::* further_types[] = {&GemmDescriptor::d2, &GemmDescriptor::d3, &GemmDescriptor::d4};
constexpr TensorView GemmArguments::* further_views[] = {&GemmArguments::d2, &GemmArguments::d3, &GemmArguments::d4};
/// Columns of an output, counted from 0; 0: there is no such output.
constexpr std::int64_t columns_of(const GemmDescriptor& g, std::size_t output) {
  return output == 0 && !has_several_outputs(g) ? g.n : g.out_columns[output];
}

/// What a D of int32 sums cannot have beside it; null: nothing is asked for that it cannot.
template <typename Descriptor>
constexpr const char* beside_sums(const Descriptor& g) {
  const Epilogue& e = g.epilogue;
  return e.bias != BiasOver::none           ? "bias"
         : e.c                              ? "c"
         : e.residual                       ? "residual"
         : e.row_scale                      ? "row_scale"
         : e.column_scale                   ? "column_scale"
         : g.a_scale                        ? "a_scale"
         : g.b_scale                        ? "b_scale"
         : e.activation != Activation::none ? "an activation"
         : e.aux != Auxiliary::none         ? "aux"
         : e.gate != Gate::none             ? "a gate"
         : e.amax                           ? "amax"
                                            : nullptr;
}

/// The type of D where nothing says it: fp8 seldom leaves as what it came.
template <typename Descriptor>
constexpr DType default_result(const Descriptor& g) {
  if (g.a == DType::i8) return beside_sums(g) == nullptr ? DType::i32 : DType::bf16;
  return g.a == DType::fp8_e4m3 || g.a == DType::fp8_e5m2 ? DType::bf16 : g.a;
}
/// Of C, bias, residual and aux where nothing says it: D's, or float32 where D has one that nothing is added in.
constexpr DType default_beside(DType d) { return bits(d) < 16 || d == DType::i32 ? DType::f32 : d; }

/// Types whose elements are codes that scales go with.
constexpr bool is_quantized(DType t) { return t == DType::i8 || t == DType::fp8_e4m3 || t == DType::fp8_e5m2; }

// ---- rules ----

/// [batch, rows, columns], or without the batch where that is 1.
constexpr Rule matrices(DType type, std::int64_t batch, std::int64_t rows, std::int64_t columns, bool row_major) {
  return tensor(type, row_major ? 2 : 1, batch, rows, columns).may_drop(batch == 1 ? 1 : 0).ordered();
}
/// What kernels load in whole pieces.
constexpr Rule factor(DType type, std::int64_t batch, std::int64_t rows, std::int64_t columns, bool row_major) {
  return matrices(type, batch, rows, columns, row_major).shared().kernel_aligned();
}
/// B or b2: `halves` of packed columns to one of D.
constexpr Rule factor_b(const GemmDescriptor& g, std::int64_t halves) {
  if (g.weights.format) {
    return tensor(DType::u8, -1, weights::layout_of(g.weights, g.k).total)
        .fixed()
        .means("bytes of packed weights of these extents and this packing");
  }
  return factor(g.b, g.batch, g.k, halves * g.n, b_is_row_major(g.layout));
}
constexpr Rule like_d(const GemmDescriptor& g, DType type) {
  return matrices(type, g.batch, g.m, g.n, d_is_row_major(g.layout));
}
/// Read where D is written.
constexpr Rule beside_d(const GemmDescriptor& g, DType type) { return like_d(g, type).shared().repeating(); }
/// The same, and D itself may be what is read, unless that is several.
constexpr Rule in_place(const GemmDescriptor& g, DType type) {
  return beside_d(g, type).as(has_several_outputs(g) ? Role::input : Role::in_place);
}
constexpr Rule further_d(const GemmDescriptor& g, DType type, std::size_t output) {
  return matrices(type, g.batch, g.m, columns_of(g, output), true).as(Role::output).when(g.out_columns[output] != 0);
}
constexpr Rule vector(DType type, std::int64_t count) { return tensor(type, -1, count); }
constexpr Rule one_number() { return vector(DType::f32, 1).may_drop(1).fixed(); }

/// Scales or zeros of one operand: `lines` of A's rows or B's columns, `groups` of those along k. Which dimension comes first is as
/// in the operand: A's lines, B's groups.
constexpr Rule coding(DType type, std::optional<Granularity> of, std::int64_t batch, std::int64_t lines, std::int64_t k,
                      bool lines_first) {
  const std::int64_t groups = (k + scale_group - 1) / scale_group,
                     blocks = of == Granularity::block ? (lines + scale_group - 1) / scale_group : lines;
  const Rule whole =
      of == Granularity::tensor ? vector(type, 1).may_drop(1)
      : of == Granularity::row || of == Granularity::column
          ? tensor(type, any_strides, batch, lines).shared()
          : tensor(type, any_strides, batch, lines_first ? blocks : groups, lines_first ? groups : blocks).shared();
  return whole.fixed().when(of.has_value());
}
/// The same of groups of rows, whose A is one matrix.
constexpr Rule grouped_coding_of_a(const GroupedGemmDescriptor& g) {
  const std::int64_t groups = (g.k + scale_group - 1) / scale_group;
  const Rule whole = g.a_scale == Granularity::tensor ? vector(DType::f32, 1).may_drop(1)
                     : g.a_scale == Granularity::row  ? tensor(DType::f32, any_strides, g.m)
                                                      : tensor(DType::f32, any_strides, g.m, groups);
  return whole.fixed().when(g.a_scale.has_value());
}
constexpr Rule grouped_coding_of_b(const GroupedGemmDescriptor& g, std::int64_t columns) {
  const std::int64_t groups = (g.k + scale_group - 1) / scale_group,
                     blocks = g.b_scale == Granularity::block ? (columns + scale_group - 1) / scale_group : columns;
  const Rule whole = g.b_scale == Granularity::tensor   ? tensor(DType::f32, any_strides, g.groups)
                     : g.b_scale == Granularity::column ? tensor(DType::f32, any_strides, g.groups, columns)
                                                        : tensor(DType::f32, any_strides, g.groups, groups, blocks);
  return whole.fixed().when(g.b_scale.has_value());
}

/// A matrix of a grouped plan: of these dimensions alone.
constexpr Rule grouped_factor(DType type, std::int64_t rows, std::int64_t columns, bool row_major) {
  return tensor(type, row_major ? 1 : 0, rows, columns).ordered().kernel_aligned();
}
constexpr Rule of_groups(const GroupedGemmDescriptor& g, DType type, std::int64_t count) {
  return tensor(type, 1, g.groups, count);
}
constexpr Rule grouped_b(const GroupedGemmDescriptor& g, std::int64_t columns) {
  if (g.weights.format) {
    return tensor(DType::u8, 1, g.groups, weights::layout_of(g.weights, g.k).total)
        .fixed()
        .means("groups, and bytes of packed weights of these extents and this packing");
  }
  const bool rows_first = b_is_row_major(g.layout);
  return g.over == GroupedOver::m ? tensor(g.b, rows_first ? 2 : 1, g.groups, g.k, columns).ordered().kernel_aligned()
                                  : grouped_factor(g.b, g.k, columns, rows_first);
}

// ---- the tables ----

using G = GemmDescriptor;
using A = GemmArguments;

inline constexpr Operand<G, A> operands[] = {
    {"a", &A::a, [](const G& g) { return factor(g.a, g.batch, g.m, g.k, a_is_row_major(g.layout)); }, "", true},
    {"b", &A::b, [](const G& g) { return factor_b(g, halves(g.epilogue)); }, "", true},
    {"d", &A::d,
     [](const G& g) { return matrices(g.d, g.batch, g.m, columns_of(g, 0), d_is_row_major(g.layout)).as(Role::output); }, "",
     true},
    {"c", &A::c, [](const G& g) { return in_place(g, g.c).when(g.epilogue.c); }, "Epilogue(c=True)"},
    {"bias", &A::bias,
     [](const G& g) {
       return g.epilogue.bias == BiasOver::m ? tensor(g.bias, 0, g.m, 1).means("along the columns of D it has one dimension")
                                             : vector(g.bias, halves(g.epilogue) * g.n).when(g.epilogue.bias == BiasOver::n);
     },
     "Epilogue(bias=True)"},
    {"b2", &A::b2,
     [](const G& g) {
       const Rule b2 = factor_b(g, 1);
       return (g.weights.format ? b2 : b2.as_ordered("b")).when(g.epilogue.gate == Gate::separate);
     },
     "Epilogue(gate='separate')"},
    {"bias2", &A::bias2, [](const G& g) { return vector(g.bias, g.n).when(has_two_biases(g.epilogue)); },
     "Epilogue(bias=True, gate='separate')"},
    {"residual", &A::residual, [](const G& g) { return in_place(g, g.residual).when(g.epilogue.residual); },
     "Epilogue(residual=True)"},
    {"aux", &A::aux,
     [](const G& g) {
       return g.epilogue.aux == Auxiliary::store ? like_d(g, g.aux).as(Role::output)
                                                 : beside_d(g, g.aux).when(g.epilogue.aux == Auxiliary::gradient);
     },
     "Epilogue(aux='store') or Epilogue(aux='gradient')"},
    {"row_scale", &A::row_scale, [](const G& g) { return vector(DType::f32, g.m).fixed().when(g.epilogue.row_scale); },
     "Epilogue(row_scale=True)"},
    {"column_scale", &A::column_scale,
     [](const G& g) { return vector(DType::f32, g.n).fixed().when(g.epilogue.column_scale); },
     "Epilogue(column_scale=True)"},
    {"a_scale", &A::a_scale, [](const G& g) { return coding(DType::f32, g.a_scale, g.batch, g.m, g.k, true); }, "a_scale="},
    {"b_scale", &A::b_scale,
     [](const G& g) { return coding(DType::f32, g.b_scale, g.batch, halves(g.epilogue) * g.n, g.k, false); }, "b_scale="},
    {"b2_scale", &A::b2_scale,
     [](const G& g) {
       return coding(DType::f32, g.b_scale, g.batch, g.n, g.k, false).when(has_two_scales(g.epilogue, g.b_scale));
     },
     "b_scale= and Epilogue(gate='separate')"},
    {"a_zero", &A::a_zero, [](const G& g) { return coding(DType::i32, g.a_zero, g.batch, g.m, g.k, true); }, "a_zero="},
    {"b_zero", &A::b_zero, [](const G& g) { return coding(DType::i32, g.b_zero, g.batch, g.n, g.k, false); }, "b_zero="},
    {"out_scale", &A::out_scale, [](const G& g) { return one_number().when(g.epilogue.out_scale); },
     "Epilogue(out_scale=True)"},
    {"amax", &A::amax, [](const G& g) { return one_number().as(Role::output).when(g.epilogue.amax); },
     "Epilogue(amax=True)"},
    {"d2", &A::d2, [](const G& g) { return further_d(g, g.d2, 1); }, "out_columns= of two outputs"},
    {"d3", &A::d3, [](const G& g) { return further_d(g, g.d3, 2); }, "out_columns= of three outputs"},
    {"d4", &A::d4, [](const G& g) { return further_d(g, g.d4, 3); }, "out_columns= of four outputs"},
};

using GG = GroupedGemmDescriptor;
using GA = GroupedGemmArguments;

inline constexpr Operand<GG, GA> grouped_operands[] = {
    {"a", &GA::a, [](const GG& g) { return grouped_factor(g.a, g.m, g.k, a_is_row_major(g.layout)); }, "", true},
    {"b", &GA::b, [](const GG& g) { return grouped_b(g, halves(g.epilogue) * g.n); }, "", true},
    {"d", &GA::d,
     [](const GG& g) {
       return (g.over == GroupedOver::m ? tensor(g.d, 1, g.m, g.n) : tensor(g.d, 2, g.groups, g.m, g.n)).as(Role::output);
     },
     "", true},
    {"offsets", &GA::offsets,
     [](const GG& g) {
       return vector(DType::i32, g.groups + 1)
           .fixed()
           .filled(Sample::even_offsets, g.over == GroupedOver::m ? g.m : g.k)
           .means("groups + 1 offsets, starting with 0 and then the end of each group");
     },
     "", true},
    {"bias", &GA::bias,
     [](const GG& g) { return of_groups(g, g.bias, halves(g.epilogue) * g.n).when(g.epilogue.bias != BiasOver::none); },
     "Epilogue(bias=True)"},
    {"b2", &GA::b2,
     [](const GG& g) {
       const Rule b2 = grouped_b(g, g.n);
       return (g.weights.format ? b2 : b2.as_ordered("b")).when(g.epilogue.gate == Gate::separate);
     },
     "Epilogue(gate='separate')"},
    {"bias2", &GA::bias2, [](const GG& g) { return of_groups(g, g.bias, g.n).when(has_two_biases(g.epilogue)); },
     "Epilogue(bias=True, gate='separate')"},
    {"row_scale", &GA::row_scale, [](const GG& g) { return vector(DType::f32, g.m).fixed().when(g.epilogue.row_scale); },
     "Epilogue(row_scale=True)"},
    {"column_scale", &GA::column_scale,
     [](const GG& g) { return of_groups(g, DType::f32, g.n).fixed().when(g.epilogue.column_scale); },
     "Epilogue(column_scale=True)"},
    {"a_scale", &GA::a_scale, grouped_coding_of_a, "a_scale="},
    {"b_scale", &GA::b_scale, [](const GG& g) { return grouped_coding_of_b(g, halves(g.epilogue) * g.n); }, "b_scale="},
    {"b2_scale", &GA::b2_scale,
     [](const GG& g) { return grouped_coding_of_b(g, g.n).when(has_two_scales(g.epilogue, g.b_scale)); },
     "b_scale= and Epilogue(gate='separate')"},
    {"out_scale", &GA::out_scale, [](const GG& g) { return one_number().when(g.epilogue.out_scale); },
     "Epilogue(out_scale=True)"},
    {"amax", &GA::amax, [](const GG& g) { return one_number().as(Role::output).when(g.epilogue.amax); },
     "Epilogue(amax=True)"},
};

}  // namespace cutplan::gemm
