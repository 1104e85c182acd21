// What is refused, and why: descriptors that no kernel could ever serve.
#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "weights/family.hpp"

namespace cutplan::weights {
namespace {

using std::int64_t;

bool is_float(DType t) { return t == DType::f16 || t == DType::bf16 || t == DType::f32; }
/// Of elements that may hold several codes.
bool holds_several(DType t) { return t == DType::i32 || t == DType::u8 || t == DType::i8; }
bool is_integer(DType t) { return holds_several(t) || t == DType::i64; }
bool is_biased(WeightFormat f) { return f == WeightFormat::int4 || f == WeightFormat::int8; }
bool has_zeros(WeightFormat f) { return is_biased(f) || f == WeightFormat::uint4; }
bool is_table(WeightFormat f) { return f == WeightFormat::nf4 || f == WeightFormat::e2m1; }

void check_float(const char* operand, DType t, const char* more = "") {
  if (!is_float(t))
    throw Unsupported(text("operand ", operand, ": one of float16, bfloat16, float32", more, " required, got ", name(t)));
}

template <typename G>
void check_extents(const G& g) {
  check_extent("n", g.n);
  check_extent("k", g.k);
  if (static_cast<double>(g.n) * static_cast<double>(g.k) > 0x1p48)
    throw InvalidProblem(text("n, k: at most 2^48 elements required, got ", g.n, " x ", g.k));
  const bool usual = g.group_size == 32 || g.group_size == 64 || g.group_size == 128;
  if (!usual && g.group_size != 0 && (g.group_size < 0 || g.group_size < g.k))
    throw Unsupported(text("group_size: 32, 64, 128, or 0 or at least k = ", g.k, ", for a whole column, required, got ",
                           g.group_size, "; where it is a multiple of one of these, repeat each scale and zero"));
  if (g.permutation && ceil_div(g.k, resolved_group_size(g)) <= 1)
    throw InvalidProblem(text("permutation: none required where a whole column shares a scale (k = ", g.k, ", group_size ",
                              g.group_size, "), got one; leave the rows in their order"));
  if (g.permutation && g.k >= std::int64_t{1} << 31)
    throw Unsupported(text("k: below 2^31, what int32 counts, required with a permutation, got ", g.k));
  check_float("scale", g.scale);
}

void check_w(const P& g) {
  const int code = bits(g.format);
  if (is_float(g.w)) {
    if (!is_table(g.format))
      throw Unsupported(text("operand w: integer codes required with ", name(g.format), ", got ", name(g.w),
                             "; quantize() makes them, nf4 and e2m1 take floats"));
  } else if (g.w == DType::fp8_e4m3) {
    if (g.format != WeightFormat::e4m3)
      throw Unsupported(text("operand w: int32, uint8, int8 or int64 required with ", name(g.format), ", got ", name(g.w)));
  } else if (!is_integer(g.w)) {
    throw Unsupported(text("operand w: codes in int32, uint8, int8 or int64",
                           g.format == WeightFormat::e4m3 ? " or float8_e4m3fn"
                           : is_table(g.format)           ? ", or float16, bfloat16 or float32,"
                                                          : "",
                           " required, got ", name(g.w)));
  }
  if (g.signed_codes && (!is_biased(g.format) || !is_integer(g.w)))
    throw Unsupported(text("signed_codes: False required with ", is_integer(g.w) ? name(g.format) : name(g.w),
                           ", which has no two's complement, got True; integers of int4 and int8 have"));
  if (g.packed_along == PackedAlong::none) {
    if (g.order != CodeOrder::linear && !g.zero_packed)
      throw InvalidProblem(text("order: 'linear' required where elements hold one code each, got '", name(g.order),
                                "'; packed_along 'k' or 'n' has others"));
    return;
  }
  if (!holds_several(g.w) || bits(g.w) / code < 2)
    throw Unsupported(text("packed_along: 'none' required of w of type ", name(g.w), " with ", name(g.format), ", got '",
                           name(g.packed_along), "'; ",
                           code == 4 ? "int32 holds 8 codes, uint8 and int8 2" : "int32 holds 4 codes"));
  const int64_t codes = bits(g.w) / code, extent = g.packed_along == PackedAlong::k ? g.k : g.n;
  if (extent % codes != 0)
    throw InvalidProblem(text(name(g.packed_along), ": a multiple of ", codes, " required, the codes of one ", name(g.w),
                              ", got ", extent, "; pad to ", rounded_up(extent, codes),
                              ", or pass w with one code an element"));
}

void check_order(const P& g, const char* operand, DType type) {
  const int codes = bits(type) / bits(g.format);
  if (g.order == CodeOrder::awq && codes != 8)
    throw Unsupported(text("order: 'linear' or 'high_first' required where an element of ", operand, " holds ", codes,
                           " codes, got 'awq', an order of 8"));
}

void check_zero(const P& g) {
  if (g.zero == DType::none) {
    if (g.zero_packed) throw InvalidProblem("zero_packed: False required without zero, got True");
    if (g.zero_bias != 0) throw InvalidProblem(text("zero_bias: 0 required without zero, got ", g.zero_bias));
    return;
  }
  if (!has_zeros(g.format))
    throw Unsupported(
        text("operand zero: none required with ", name(g.format), ", got one; int4, uint4 and int8 have zero points"));
  if (is_float(g.zero)) {
    if (g.zero != g.scale)
      throw Unsupported(text("operand zero: scale's type, ", name(g.scale), ", or an integer type required, got ",
                             name(g.zero), "; convert it, or scale"));
    if (g.zero_bias != 0)
      throw InvalidProblem(
          text("zero_bias: 0 required with a zero of type ", name(g.zero), ", got ", g.zero_bias, "; add it to zero"));
  } else if (!is_integer(g.zero)) {
    throw Unsupported(
        text("operand zero: int32, uint8, int8, int64, or scale's type, ", name(g.scale), ", required, got ", name(g.zero)));
  }
  if (!g.zero_packed) return;
  if (!holds_several(g.zero) || bits(g.zero) / bits(g.format) < 2)
    throw Unsupported(text("zero_packed: False required of a zero of type ", name(g.zero), " with ", name(g.format),
                           ", got True; ",
                           bits(g.format) == 4 ? "int32 holds 8 codes, uint8 and int8 2" : "int32 holds 4 codes"));
  check_order(g, "zero", g.zero);
  const int64_t codes = bits(g.zero) / bits(g.format);
  if (g.n % codes != 0)
    throw InvalidProblem(text("n: a multiple of ", codes, " required, the codes of one ", name(g.zero), " of zero, got ",
                              g.n, "; pass zero with one an element"));
}

void check_rest(const P& g) {
  check_w(g);
  if (g.packed_along != PackedAlong::none) check_order(g, "w", g.w);
  check_zero(g);
}
void check_rest(const U& g) {
  check_float("out", g.out);
  if (g.zero && !has_zeros(g.format))
    throw Unsupported(
        text("zero: False required with ", name(g.format), ", got True; int4, uint4 and int8 have zero points"));
}

}  // namespace

template <typename F, typename G>
void Common<F, G>::check(const G& g) {
  check_extents(g);
  check_rest(g);
}

template struct Common<PackWeights, PackWeightsDescriptor>;
template struct Common<UnpackWeights, UnpackWeightsDescriptor>;

}  // namespace cutplan::weights
