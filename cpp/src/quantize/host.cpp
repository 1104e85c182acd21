// Host backend of quantisation, in portable C++: a task is some rows, or a part of them, that have one row of scales. Where a task
// has all elements of its scales, it reads them twice while they are near; else all ranges are found first, in a pass of its own.
#include "quantize/host.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/codes.hpp"
#include "core/fp8.hpp"
#include "core/half.hpp"
#include "core/parallel.hpp"
#include "quantize/coder.hpp"

namespace cutplan::quantize {
namespace {

using std::int64_t, std::int32_t, std::uint8_t;

/// Rows of one row of scales, and columns that begin and end with groups or with the matrix.
struct Piece {
  int64_t batch, row, row_end, column, column_end;
};

constexpr int64_t rows_of_piece = 64, columns_of_piece = 1 << 16;

/// Calls work(piece), or work(piece, scratch of the worker), for all. `whole`: pieces have all elements of their scales.
template <typename Scratch, typename Work>
void for_pieces(const Problem& p, bool whole, int threads, const Work& work) {
  const bool has_groups = p.scales_across != 1;
  const int64_t height = whole ? p.group_rows : std::min(p.group_rows, rows_of_piece),
                width = has_groups ? std::max<int64_t>(columns_of_piece / p.group_columns, 1) * p.group_columns
                        : whole    ? std::max<int64_t>(p.columns, 1)
                                   : columns_of_piece;
  const int64_t down_group = ceil_div(p.group_rows, height), down = ceil_div(p.rows, p.group_rows) * down_group,
                across = has_groups ? ceil_div(p.columns, width) : std::max<int64_t>(ceil_div(p.columns, width), 1);
  parallel_tasks(p.batch * down * across, threads, [&](const std::function<int64_t()>& next) {
    Scratch scratch;
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t column = task % across * width, at = task / across % down, group = at / down_group * p.group_rows,
                    group_end = std::min(p.rows, group + p.group_rows), row = group + at % down_group * height;
      if (row >= group_end) continue;  // of a last group that is smaller
      work(Piece{task / across / down, row, std::min(group_end, row + height), column, std::min(p.columns, column + width)},
           scratch);
    }
  });
}

/// Columns [first, end) of each group of a piece, and the group's number in the piece.
template <typename Visit>
void for_groups(const Problem& p, const Piece& piece, const Visit& visit) {
  for (int64_t first = piece.column, group = 0; first < piece.column_end; ++group) {
    const int64_t end = std::min(first + p.group_columns - first % p.group_columns, piece.column_end);
    visit(first, end, group);
    first = end;
  }
}
int64_t groups_of(const Problem& p, const Piece& piece) {
  return ceil_div(piece.column_end, p.group_columns) - piece.column / p.group_columns;
}

template <typename T>
T* at(const PerScale<T>& s, const Problem& p, const Piece& piece, int64_t group) {
  return s.data + piece.batch * s.batch + piece.row / p.group_rows * s.row +
         (piece.column / p.group_columns + group) * s.column;
}

template <typename T>
T* row_of(const Matrix& m, int64_t batch, int64_t row, int64_t column) {
  return static_cast<T*>(m.data) + batch * m.batch + row * m.row + column;
}

// ---- ranges ----

/// As the bits of floats, whose order is that of magnitudes.
struct Ranges {
  std::vector<int32_t> below, above;

  void clear(int64_t count) {
    below.assign(static_cast<std::size_t>(count), 0);
    above.assign(static_cast<std::size_t>(count), 0);
  }
  Range of(int64_t i) const {
    Range range;
    std::memcpy(&range.below, &below[static_cast<std::size_t>(i)], 4);
    std::memcpy(&range.above, &above[static_cast<std::size_t>(i)], 4);
    return range;
  }
};

/// NaN counts as 0. What is of the other sign is negative.
template <typename T>
void take(T element, int32_t& below, int32_t& above) {
  const float x = static_cast<float>(element);
  int32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits & 0x7fffffff) > 0x7f800000 ? 0 : bits;
  above = std::max(above, bits);
  below = std::max(below, static_cast<int32_t>(static_cast<std::uint32_t>(bits) ^ 0x80000000u));
}

template <typename T>
void extend(const Problem& p, const Piece& piece, Ranges& ranges) {
  for (int64_t row = piece.row; row < piece.row_end; ++row) {
    const T* const x = row_of<const T>(p.x, piece.batch, row, 0);
    if (p.group_columns == 1) {
      int32_t *const below = ranges.below.data(), *const above = ranges.above.data();
      for (int64_t c = piece.column; c < piece.column_end; ++c) take(x[c], below[c - piece.column], above[c - piece.column]);
      continue;
    }
    for_groups(p, piece, [&](int64_t first, int64_t end, int64_t group) {
      int32_t below = 0, above = 0;
      for (int64_t c = first; c < end; ++c) take(x[c], below, above);
      const auto i = static_cast<std::size_t>(group);
      ranges.below[i] = std::max(ranges.below[i], below);
      ranges.above[i] = std::max(ranges.above[i], above);
    });
  }
}

void write_scale(const Problem& p, const Range& range, float* scale, int32_t* zero, float* amax) {
  if (!p.given) {
    const Coder coder = coder_of(range, p.type, p.symmetric, *scale);
    if (zero != nullptr) *zero = coder.zero;
  }
  if (amax != nullptr) *amax = range.amax();
}

/// Scales whose elements several tasks have.
template <typename T>
void find_shared(const Problem& p, int threads) {
  const int64_t of_matrix = p.scales_across, sets = p.whole ? 1 : p.batch;
  Ranges all;
  all.clear(sets * of_matrix);
  std::mutex mutex;
  for_pieces<Ranges>(p, false, threads, [&](const Piece& piece, Ranges& ranges) {
    const int64_t groups = groups_of(p, piece),
                  to = (p.whole ? 0 : piece.batch) * of_matrix + piece.column / p.group_columns;
    ranges.clear(groups);
    extend<T>(p, piece, ranges);
    const std::lock_guard<std::mutex> lock(mutex);
    for (int64_t i = 0; i < groups; ++i) {
      const auto from = static_cast<std::size_t>(i), at = static_cast<std::size_t>(to + i);
      all.below[at] = std::max(all.below[at], ranges.below[from]);
      all.above[at] = std::max(all.above[at], ranges.above[from]);
    }
  });
  for (int64_t i = 0; i < sets * of_matrix; ++i) {
    const Piece place{i / of_matrix, 0, 0, i % of_matrix * p.group_columns, 0};
    write_scale(p, all.of(i), at(p.scale, p, place, 0), p.zero ? at(p.zero, p, place, 0) : nullptr,
                p.amax ? at(p.amax, p, place, 0) : nullptr);
  }
}

// ---- elements and data ----

/// What a task keeps.
struct Scratch {
  Ranges ranges;
  std::vector<float> scales;  // both ways: or their inverses
  std::vector<int32_t> zeros;
  std::vector<uint8_t> unpacked;
};

/// Calls use(first column, columns, scales, zeros, each) for all columns of a row of a piece: one of each for a column, or for all.
template <typename Use>
void for_runs(const Problem& p, const Piece& piece, const Scratch& s, const Use& use) {
  if (p.group_columns == 1)
    return use(piece.column, piece.column_end - piece.column, s.scales.data(), s.zeros.data(), std::true_type());
  for_groups(p, piece, [&](int64_t first, int64_t end, int64_t group) {
    use(first, end - first, s.scales.data() + group, s.zeros.data() + group, std::false_type());
  });
}

/// The scales of a piece, or their inverses.
void read_scales(const Problem& p, const Piece& piece, bool inverse, Scratch& s) {
  const int64_t groups = groups_of(p, piece);
  s.scales.resize(static_cast<std::size_t>(groups));
  s.zeros.resize(static_cast<std::size_t>(groups));
  for (int64_t i = 0; i < groups; ++i) {
    const float scale = *at(p.scale, p, piece, i);
    const Coder coder = coder_of(scale, p.zero ? *at(p.zero, p, piece, i) : 0, p.type, p.symmetric);
    s.scales[static_cast<std::size_t>(i)] = inverse ? coder.inverse : scale;
    s.zeros[static_cast<std::size_t>(i)] = coder.zero;
  }
}

template <bool kEach, typename T, typename Encode>
void encode_run(const T* __restrict x, int64_t count, const float* __restrict inverses, const int32_t* __restrict zeros,
                uint8_t* __restrict codes, const Encode& encode) {
  const float inverse = *inverses;
  const int32_t zero = *zeros;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = encode(static_cast<float>(x[i]), kEach ? inverses[i] : inverse, kEach ? zeros[i] : zero);
}

template <typename T, typename Encode>
void encode_piece(const Problem& p, const Piece& piece, Scratch& s, const Encode& encode) {
  const bool packed = p.type == DType::i4;
  const int64_t columns = piece.column_end - piece.column;
  if (packed) s.unpacked.resize(static_cast<std::size_t>(columns));
  for (int64_t row = piece.row; row < piece.row_end && columns > 0; ++row) {
    const T* const x = row_of<const T>(p.x, piece.batch, row, 0);
    uint8_t* const data = row_of<uint8_t>(p.data, piece.batch, row, packed ? piece.column / 2 : piece.column);
    uint8_t* const codes = packed ? s.unpacked.data() : data;
    for_runs(p, piece, s, [&](int64_t first, int64_t count, const float* inverses, const int32_t* zeros, auto each) {
      encode_run<decltype(each)::value>(x + first, count, inverses, zeros, codes + first - piece.column, encode);
    });
    for (int64_t i = 0; packed && i < columns / 2; ++i)
      data[i] = static_cast<uint8_t>((codes[2 * i] & 15) | codes[2 * i + 1] << 4);
  }
}

template <typename T>
void encode_piece(const Problem& p, const Piece& piece, Scratch& s) {
  switch (p.type) {
    case DType::fp8_e4m3:
      return encode_piece<T>(p, piece, s, [](float x, float inverse, int32_t) { return E4M3(x * inverse).bits; });
    case DType::fp8_e5m2:
      return encode_piece<T>(p, piece, s, [](float x, float inverse, int32_t) { return E5M2(x * inverse).bits; });
    default: break;
  }
  const Bounds b = bounds_of(p.type, p.symmetric);
  encode_piece<T>(p, piece, s, [b](float x, float inverse, int32_t zero) {
    return static_cast<uint8_t>(std::clamp(static_cast<int>(nearest(x, inverse)) + zero, b.first, b.last));
  });
}

template <typename T>
void quantize(const Problem& p, const Launch& launch) {
  const bool by_piece = !p.shared && (!p.given || p.amax);
  if (p.shared && (!p.given || p.amax)) find_shared<T>(p, launch.sm_count);
  for_pieces<Scratch>(p, by_piece, launch.sm_count, [&](const Piece& piece, Scratch& s) {
    if (by_piece) {
      const int64_t groups = p.scales_across == 1 ? 1 : groups_of(p, piece);  // a row without columns has a scale too
      s.ranges.clear(groups);
      extend<T>(p, piece, s.ranges);
      for (int64_t i = 0; i < groups; ++i)
        write_scale(p, s.ranges.of(i), at(p.scale, p, piece, i), p.zero ? at(p.zero, p, piece, i) : nullptr,
                    p.amax ? at(p.amax, p, piece, i) : nullptr);
    }
    read_scales(p, piece, true, s);
    encode_piece<T>(p, piece, s);
  });
}

template <bool kEach, typename T>
void decode_run(const uint8_t* __restrict codes, int64_t count, const float* __restrict scales,
                const int32_t* __restrict zeros, const CodeValues& values, T* __restrict out) {
  const float scale = *scales;
  const int32_t zero = *zeros;
  for (int64_t i = 0; i < count; ++i)
    out[i] = T((values.of[codes[i]] - static_cast<float>(kEach ? zeros[i] : zero)) * (kEach ? scales[i] : scale));
}

template <typename T>
void dequantize(const Problem& p, const Launch& launch) {
  const CodeValues values = values_of_codes(p.type, p.symmetric);
  const bool packed = p.type == DType::i4;
  for_pieces<Scratch>(p, false, launch.sm_count, [&](const Piece& piece, Scratch& s) {
    const int64_t columns = piece.column_end - piece.column;
    if (packed) s.unpacked.resize(static_cast<std::size_t>(columns));
    read_scales(p, piece, false, s);
    for (int64_t row = piece.row; row < piece.row_end; ++row) {
      const uint8_t* const data = row_of<const uint8_t>(p.data, piece.batch, row, packed ? piece.column / 2 : piece.column);
      for (int64_t i = 0; packed && i < columns / 2; ++i) {
        s.unpacked[static_cast<std::size_t>(2 * i)] = data[i] & 15;
        s.unpacked[static_cast<std::size_t>(2 * i + 1)] = data[i] >> 4;
      }
      const uint8_t* const codes = packed ? s.unpacked.data() : data;
      T* const out = row_of<T>(p.x, piece.batch, row, 0);
      for_runs(p, piece, s, [&](int64_t first, int64_t count, const float* scales, const int32_t* zeros, auto each) {
        decode_run<decltype(each)::value>(codes + first - piece.column, count, scales, zeros, values, out + first);
      });
    }
  });
}

constexpr Kernel kernels[] = {
    kernel(Op::quantize, Arch::host, DType::f16, quantize<Half>),
    kernel(Op::quantize, Arch::host, DType::bf16, quantize<BFloat16>),
    kernel(Op::quantize, Arch::host, DType::f32, quantize<float>),
    kernel(Op::dequantize, Arch::host, DType::f16, dequantize<Half>),
    kernel(Op::dequantize, Arch::host, DType::bf16, dequantize<BFloat16>),
    kernel(Op::dequantize, Arch::host, DType::f32, dequantize<float>),
};

}  // namespace

const KernelTable quantize_host_kernels = {kernels, std::size(kernels)};

}  // namespace cutplan::quantize
