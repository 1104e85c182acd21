// From the arguments of a call to what a kernel is told, as far as ops share it.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "attention_ops/kernel.hpp"
#include "core/operands.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan::attention_ops {

/// Of dimensions batch (but for packed rows), head and row, those from `first` on.
inline Heads heads_of(const Placed& p, bool packed, bool heads_first, int first = 0) {
  const std::int64_t* const s = p.strides + first + (packed ? 0 : 1);
  return {p.data, {packed ? 0 : s[-1], s[heads_first ? 0 : 1], s[heads_first ? 1 : 0]}};
}

inline Integers integers_of(const Placed& p, DType type, int dimension = 0) {
  return {p.data, type == DType::i64, p.strides[dimension]};
}

/// Whether an address and these numbers of elements are multiples of a piece.
inline bool in_pieces(const void* data, std::initializer_list<std::int64_t> elements, DType type, int piece = 16) {
  auto all = reinterpret_cast<std::uintptr_t>(data);
  for (const std::int64_t x : elements) all |= static_cast<std::uintptr_t>(x * (bits(type) / 8));
  return all % static_cast<std::uintptr_t>(piece) == 0;
}
inline bool in_pieces(const Heads& h, DType type, int piece = 16) {
  return in_pieces(h.data, {h.strides.batch, h.strides.head, h.strides.row}, type, piece);
}

inline Tables tables_of(const Placed& cos, const Placed& sin, std::int64_t rows) {
  const bool wide = in_pieces(cos.data, {cos.strides[0]}, DType::f32) && in_pieces(sin.data, {sin.strides[0]}, DType::f32);
  return {
      static_cast<const float*>(cos.data), static_cast<const float*>(sin.data), rows, cos.strides[0], sin.strides[0], wide};
}

/// Of packed rows, which only a host plan can look into.
inline void check_bounds(const std::int32_t* bounds, std::int64_t batch, std::int64_t rows) {
  for (std::int64_t i = 0; bounds != nullptr && i <= batch; ++i) {
    const std::int64_t least = i == 0 ? 0 : bounds[i - 1], most = i == 0 ? 0 : rows;
    if (bounds[i] < least || bounds[i] > most || (i == batch && bounds[i] != rows))
      throw InvalidProblem(text("operand cu_seqlens: entries from 0 to ", rows,
                                ", the rows, that never decrease required, got ", bounds[i], " at index ", i));
  }
}

}  // namespace cutplan::attention_ops
