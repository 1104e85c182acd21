// Where rows are and go, and what turns them: the same on the host and on devices.
#pragma once

#include <cstdint>
#include <limits>

#include "attention_ops/kernel.hpp"
#include "core/host_device.hpp"

namespace cutplan::attention_ops {

CUTPLAN_HOST_DEVICE std::int64_t at(const Strides& s, std::int64_t batch, std::int64_t head, std::int64_t row) {
  return batch * s.batch + head * s.head + row * s.row;
}

/// Element `i`, in elements of the tensor.
CUTPLAN_HOST_DEVICE std::int64_t element(const Integers& x, std::int64_t i) {
  return x.are_long ? static_cast<const std::int64_t*>(x.data)[i]
                    : std::int64_t{static_cast<const std::int32_t*>(x.data)[i]};
}
CUTPLAN_HOST_DEVICE std::int64_t get(const Integers& x, std::int64_t i) { return element(x, i * x.stride); }
CUTPLAN_HOST_DEVICE void set(const Integers& x, std::int64_t i, std::int64_t value) {
  if (x.are_long) {
    static_cast<std::int64_t*>(x.data)[i * x.stride] = value;
  } else {
    static_cast<std::int32_t*>(x.data)[i * x.stride] = static_cast<std::int32_t>(value);
  }
}

/// Sums of what device memory holds wrap: what is out of range is found to be so afterwards.
CUTPLAN_HOST_DEVICE std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

/// Of a row among packed ones: its sequence, and its number there. False: it is of no sequence.
CUTPLAN_HOST_DEVICE bool find_sequence(const std::int32_t* bounds, std::int64_t batch, std::int64_t& row,
                                       std::int64_t& sequence) {
  if (batch == 0) return false;
  std::int64_t low = 0, high = batch;
  while (low + 1 < high) {
    const std::int64_t middle = (low + high) / 2;
    (bounds[middle] <= row ? low : high) = middle;
  }
  if (row < bounds[low] || row >= bounds[low + 1]) return false;
  sequence = low;
  row -= bounds[low];
  return true;
}

/// The position of a row of a batch entry; of packed ones: of all rows, 0 where a row is of no sequence.
CUTPLAN_HOST_DEVICE std::int64_t position(const RopeProblem& p, std::int64_t batch, std::int64_t row) {
  if (p.positions.data != nullptr) return element(p.positions, batch * p.positions_of_batch + row * p.positions.stride);
  if (p.cu_seqlens != nullptr && !find_sequence(p.cu_seqlens, p.batch, row, batch)) return 0;
  return p.offsets.data == nullptr ? row : sum(get(p.offsets, batch), row);
}

/// The sequence and the position of a new row; false, and position 0: it is of no sequence.
CUTPLAN_HOST_DEVICE bool find_position(const AppendProblem& p, std::int64_t batch, std::int64_t row, std::int64_t& sequence,
                                       std::int64_t& position) {
  sequence = batch;
  position = 0;
  if (p.packed && !find_sequence(p.cu_seqlens, p.batch, row, sequence)) return false;
  position = sum(get(p.offsets, sequence), row);
  return true;
}

/// Of pair `i` at a position; NaN where the tables have no row for it.
template <typename S>
CUTPLAN_HOST_DEVICE void sincos_of_table(const Tables& t, std::int64_t position, std::int64_t i, S& sine, S& cosine) {
  const bool inside = position >= 0 && position < t.rows;
  sine = inside ? static_cast<S>(t.sin[position * t.sin_stride + i]) : std::numeric_limits<S>::quiet_NaN();
  cosine = inside ? static_cast<S>(t.cos[position * t.cos_stride + i]) : std::numeric_limits<S>::quiet_NaN();
}

/// Where row `row` of a sequence's cache is: the first dimension of the cache, and the row in it; false: nowhere.
CUTPLAN_HOST_DEVICE bool find_row(const AppendProblem& p, std::int64_t sequence, std::int64_t row, std::int64_t& outer,
                                  std::int64_t& inner) {
  if (row < 0) return false;
  if (p.max_pages > 0) {
    const std::int64_t page = row < std::int64_t{1} << 31 && p.page_size < std::int64_t{1} << 31
                                  ? static_cast<std::uint32_t>(row) / static_cast<std::uint32_t>(p.page_size)
                                  : row / p.page_size;
    if (page >= p.max_pages) return false;
    outer = p.block_table[sequence * p.table_sequence + page * p.table_page];
    inner = row - page * p.page_size;
    return outer >= 0 && outer < p.pages;
  }
  outer = p.cache_batch_idx.data == nullptr ? sequence : get(p.cache_batch_idx, sequence);
  inner = row;
  return row < p.capacity && outer >= 0 && outer < p.sequences;
}

/// Of a sequence's cache, with the new rows.
CUTPLAN_HOST_DEVICE std::int64_t length(const AppendProblem& p, std::int64_t sequence) {
  return sum(get(p.offsets, sequence), p.packed ? p.cu_seqlens[sequence + 1] - p.cu_seqlens[sequence] : p.rows);
}

}  // namespace cutplan::attention_ops
