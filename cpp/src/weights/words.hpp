// Packed weights word by word, for the host and for devices: each 32 bits of them from what they are made of, and back to elements.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/weights_codes.hpp"
#include "weights/kernel.hpp"

namespace cutplan::weights {

/// An integer's bits; those of 64 are cut.
CUTPLAN_HOST_DEVICE std::uint32_t integer_at(DType type, const void* data, std::int64_t index) {
  switch (type) {
    case DType::i32: return load<std::uint32_t>(static_cast<const std::uint32_t*>(data) + index);
    case DType::i64: return static_cast<std::uint32_t>(load<std::uint64_t>(static_cast<const std::uint64_t*>(data) + index));
    case DType::i8: return static_cast<std::uint32_t>(load<std::int8_t>(static_cast<const std::int8_t*>(data) + index));
    default: return static_cast<const std::uint8_t*>(data)[index];
  }
}

// ---- codes ----

/// Of nf4 and e2m1. nf4: half way between two entries the lower one; e2m1: the one with an even mantissa.
CUTPLAN_HOST_DEVICE std::uint32_t nearest_code(WeightFormat format, float x, float scale) {
  float t = scale != 0 ? x / scale : 0.0f;
  if (!(t == t)) t = 0;
  std::uint32_t code = 0;
  if (format == WeightFormat::nf4) {
    for (std::uint32_t i = 0; i < 15; ++i) code += t > 0.5f * (nf4_value(i) + nf4_value(i + 1)) ? 1 : 0;
    return code;
  }
  const float a = t < 0 ? -t : t;
  code = (a > 0.25f ? 1 : 0) + (a >= 0.75f ? 1 : 0) + (a > 1.25f ? 1 : 0) + (a >= 1.75f ? 1 : 0) + (a > 2.5f ? 1 : 0) +
         (a >= 3.5f ? 1 : 0) + (a > 5.0f ? 1 : 0);
  return code | (t < 0 ? 8u : 0u);
}

// ---- what is packed ----

/// Codes of `code_bits` that an element holds, and where in it the i-th is.
CUTPLAN_HOST_DEVICE int codes_of_element(DType type, int code_bits) { return (type == DType::i32 ? 32 : 8) / code_bits; }
CUTPLAN_HOST_DEVICE int position(CodeOrder order, int codes, int i) {
  return order == CodeOrder::awq ? i % 2 * 4 + i / 2 : order == CodeOrder::high_first ? codes - 1 - i : i;
}

CUTPLAN_HOST_DEVICE float scale_at(const Problem& p, std::int64_t group, std::int64_t n) {
  return float_at(p.scale_type, p.scale.data, group * p.scale.row + n * p.scale.column);
}

/// Row j of what is packed, as a row of w; negative: it has none.
CUTPLAN_HOST_DEVICE std::int64_t source_row(const Problem& p, std::int64_t j) {
  if (!p.permutation) return j;
  const std::int64_t row = load<std::int32_t>(static_cast<const std::int32_t*>(p.permutation.data) + j * p.permutation.row);
  return row < p.k ? row : -1;
}

CUTPLAN_HOST_DEVICE std::uint32_t code_of(const Problem& p, std::int64_t n, std::int64_t j) {
  if (n >= p.n || j >= p.k) return 0;
  std::int64_t row = source_row(p, j), column = n;
  if (row < 0) return 0;
  if (p.w.type == DType::f32 || p.w.type == DType::f16 || p.w.type == DType::bf16) {
    return nearest_code(p.format, float_at(p.w.type, p.w.data, row * p.w.row + column * p.w.column),
                        scale_at(p, j / p.layout.group_size, n));
  }
  const int bits = p.layout.code_bits;
  int shift = 0;
  if (p.packed_along != PackedAlong::none) {
    const int codes = codes_of_element(p.w.type, bits);
    const bool along_k = p.packed_along == PackedAlong::k;
    shift = position(p.order, codes, static_cast<int>((along_k ? row : column) % codes)) * bits;
    if (along_k) {
      row /= codes;
    } else {
      column /= codes;
    }
  }
  const std::uint32_t code =
      integer_at(p.w.type, p.w.data, row * p.w.row + column * p.w.column) >> shift & ((1u << bits) - 1);
  return p.signed_codes ? code ^ 1u << (bits - 1) : code;
}

/// In the type of scales.
CUTPLAN_HOST_DEVICE std::uint32_t scale_bits(const Problem& p, std::int64_t group, std::int64_t n) {
  const std::int64_t index = group * p.scale.row + n * p.scale.column;
  return p.scale_type == DType::f32 ? load<std::uint32_t>(static_cast<const std::uint32_t*>(p.scale.data) + index)
                                    : load<std::uint16_t>(static_cast<const std::uint16_t*>(p.scale.data) + index);
}
CUTPLAN_HOST_DEVICE std::uint32_t zero_bits(const Problem& p, std::int64_t group, std::int64_t n) {
  if (p.zero.type == p.scale_type) {
    const std::int64_t index = group * p.zero.row + n * p.zero.column;
    return p.scale_type == DType::f32 ? load<std::uint32_t>(static_cast<const std::uint32_t*>(p.zero.data) + index)
                                      : load<std::uint16_t>(static_cast<const std::uint16_t*>(p.zero.data) + index);
  }
  std::int64_t column = n, value;
  if (p.zero_packed) {
    const int bits = p.layout.code_bits, codes = codes_of_element(p.zero.type, bits),
              shift = position(p.order, codes, static_cast<int>(n % codes)) * bits;
    column /= codes;
    value = integer_at(p.zero.type, p.zero.data, group * p.zero.row + column * p.zero.column) >> shift & ((1u << bits) - 1);
  } else {
    value = static_cast<std::int32_t>(integer_at(p.zero.type, p.zero.data, group * p.zero.row + column * p.zero.column));
  }
  return narrowed(p.scale_type, static_cast<float>(value + p.zero_bias));
}

/// One word of scales or zeros: of 16 bits it has two. `word` counts from the part's first.
template <typename Bits>
CUTPLAN_HOST_DEVICE std::uint32_t word_of_scales(const Problem& p, std::int64_t word, const Bits& bits) {
  const int of_word = 4 / p.layout.scale_bytes;
  std::uint32_t all = 0;
  for (int i = 0; i < of_word; ++i) {
    const std::int64_t index = word * of_word + i, group = index / p.layout.n, n = index % p.layout.n;
    if (group < p.layout.groups && n < p.n) all |= bits(p, group, n) << 16 * i;
  }
  return all;
}

struct ScaleBits {
  CUTPLAN_HOST_DEVICE std::uint32_t operator()(const Problem& p, std::int64_t group, std::int64_t n) const {
    return scale_bits(p, group, n);
  }
};
struct ZeroBits {
  CUTPLAN_HOST_DEVICE std::uint32_t operator()(const Problem& p, std::int64_t group, std::int64_t n) const {
    return zero_bits(p, group, n);
  }
};

/// Any word of the packed tensor, counted from its first.
CUTPLAN_HOST_DEVICE std::uint32_t packed_word(const Problem& p, std::int64_t word) {
  const Layout& l = p.layout;
  if (word < l.codes / 4) return load<std::uint32_t>(reinterpret_cast<const std::uint32_t*>(&p.header) + word);
  if (word < l.scales / 4) {
    std::uint32_t all = 0;
    for (int i = 0; i < codes_of_word(l); ++i) {
      const Element e = element_at(l, word - l.codes / 4, i * l.code_bits);
      all |= code_of(p, e.n, e.k) << i * l.code_bits;
    }
    return all;
  }
  if (l.permutation != 0 && word >= l.permutation / 4) {
    const std::int64_t j = word - l.permutation / 4;
    return j < p.k ? static_cast<std::uint32_t>(
                         load<std::int32_t>(static_cast<const std::int32_t*>(p.permutation.data) + j * p.permutation.row))
                   : 0;
  }
  if (l.zeros != 0 && word >= l.zeros / 4) return word_of_scales(p, word - l.zeros / 4, ZeroBits());
  return word_of_scales(p, word - l.scales / 4, ScaleBits());
}

// ---- what is unpacked ----

/// Writes all elements of one word of codes that out has.
CUTPLAN_HOST_DEVICE void unpack_word(const Problem& p, std::int64_t word) {
  const Layout& l = p.layout;
  const std::uint32_t codes = load<std::uint32_t>(p.packed + l.codes + word * 4);
  for (int i = 0; i < codes_of_word(l); ++i) {
    const Element e = element_at(l, word, i * l.code_bits);
    if (e.n >= p.n || e.k >= p.k) continue;
    std::int64_t row = e.k;
    if (l.permutation != 0) row = load<std::int32_t>(p.packed + l.permutation + e.k * 4);
    if (row < 0 || row >= p.k) continue;
    const std::int64_t at = e.k / l.group_size * l.n + e.n;
    const float zero = p.has_zero ? float_at(p.scale_type, p.packed + l.zeros, at) : 0.0f,
                scale = float_at(p.scale_type, p.packed + l.scales, at),
                value = (decode(p.format, codes >> i * l.code_bits & ((1u << l.code_bits) - 1)) - zero) * scale;
    const std::int64_t to = row * p.out.row + e.n * p.out.column;
    if (p.out.type == DType::f32) {
      store(static_cast<float*>(p.out.data) + to, value);
    } else {
      store(static_cast<std::uint16_t*>(p.out.data) + to, static_cast<std::uint16_t>(narrowed(p.out.type, value)));
    }
  }
}

/// Of codes.
CUTPLAN_HOST_DEVICE std::int64_t words_to_unpack(const Problem& p) { return (p.layout.scales - p.layout.codes) / 4; }

}  // namespace cutplan::weights
