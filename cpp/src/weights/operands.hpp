// The operands of packed weights, both ways: what each plan asks of them.
#pragma once

#include "core/operands.hpp"
#include "core/weights_layout.hpp"

namespace cutplan::weights {

using P = PackWeightsDescriptor;
using PA = PackWeightsArguments;
using U = UnpackWeightsDescriptor;
using UA = UnpackWeightsArguments;

/// 32, 64 and 128 are what they say; what reaches k, and 0, is a whole column: k rounded up, and what has no rows.
template <typename G>
constexpr std::int64_t resolved_group_size(const G& g) {
  return resolved_group_size(g.k, g.group_size);
}

constexpr bool has_zero(const P& g) { return g.zero != DType::none; }
constexpr bool has_zero(const U& g) { return g.zero; }

/// Of a descriptor whose group size is resolved.
template <typename G>
constexpr Layout layout_of(const G& g) {
  return layout_of(g.n, g.k, bits(g.format), g.group_size, bits(g.scale) / 8, has_zero(g), g.permutation);
}

/// Codes that an element holds, along one of its extents.
constexpr std::int64_t codes_along(const P& g, PackedAlong extent) {
  return g.packed_along == extent && extent != PackedAlong::none ? bits(g.w) / bits(g.format) : 1;
}
constexpr std::int64_t zeros_of_element(const P& g) { return g.zero_packed ? bits(g.zero) / bits(g.format) : 1; }

inline constexpr Operand<P, PA> pack_operands[] = {
    {"w", &PA::w,
     [](const P& g) {
       return tensor(g.w, any_strides, g.k / codes_along(g, PackedAlong::k), g.n / codes_along(g, PackedAlong::n))
           .means(g.packed_along == PackedAlong::k   ? "k / codes of an element, n"
                  : g.packed_along == PackedAlong::n ? "k, n / codes of an element"
                                                     : "k, n");
     },
     "", true},
    {"scale", &PA::scale,
     [](const P& g) { return tensor(g.scale, any_strides, layout_of(g).groups, g.n).means("groups of k, n"); }, "", true},
    {"packed", &PA::packed,
     [](const P& g) {
       return tensor(DType::u8, -1, layout_of(g).total).fixed().means("bytes of the layout").as(Role::output);
     },
     "", true},
    {"zero", &PA::zero,
     [](const P& g) {
       return tensor(g.zero, any_strides, layout_of(g).groups, g.n / zeros_of_element(g))
           .means(g.zero_packed ? "groups of k, n / codes of an element" : "groups of k, n")
           .when(has_zero(g));
     },
     "PackWeightsDescriptor(zero=...)"},
    {"permutation", &PA::permutation,
     [](const P& g) {
       return tensor(DType::i32, any_strides, g.k)
           .fixed()
           .means("rows of w")
           .filled(Sample::even_offsets, g.k - 1)
           .when(g.permutation);
     },
     "PackWeightsDescriptor(permutation=True)"},
};

inline constexpr Operand<U, UA> unpack_operands[] = {
    {"packed", &UA::packed,
     [](const U& g) { return tensor(DType::u8, -1, layout_of(g).total).fixed().means("bytes of the layout"); }, "", true},
    {"out", &UA::out, [](const U& g) { return tensor(g.out, any_strides, g.k, g.n).means("k, n").as(Role::output); }, "",
     true},
};

}  // namespace cutplan::weights
