// Host backend of the GEMM family: everything of gemm.hpp and grouped_gemm.hpp in portable C++.
//
// Data movement, one task per block of D (at most 192 x 512), tasks shared out over threads:
//   for each slice of 256 k:
//     A's rows of the block are packed into panels as high as a register tile, k by k, widened to the accumulator type;
//     for each panel of as many columns of B as the tile is wide:
//       it is packed likewise, transposed where it lies the other way; where A's rows fit one register tile, so that B is
//       read once, and B is of the accumulator's type with its columns side by side, it is read in place;
//       a register tile multiplies one panel pair and adds its sum to the block's sums in L2;
//     with a gate the same again for the second product;
//   the epilogue then goes over the sums row by row and writes D.
// Where D has few columns, A and B change places, and the sums are transposed before the epilogue. f16, bf16 and f32 are summed
// in f32, f64 in f64; the codes of int8 and fp8 become f64 numbers on their way into panels, less their zeros and times what
// scales change along K, and are summed in f64, so that integers are exact. The register tile is two vectors wide and as high
// as the vector registers allow, or lower where rows are
// few; which instruction set it uses is found out at run time.
//
// Order of summation: within a slice products are added one after another in k, starting from zero, and slices are added one
// after another, whatever the height of the tile and whichever factor is on its left. Panels at the edge of D are padded and go
// through the same code, multiply-add contraction included. So an element's bits depend on its row of A, its column of B and K
// alone: not on M, N, batch, groups, threads or its place in a block. The result is deterministic and batch-invariant.
//
// Scratch is one allocation per thread and call, and with groups of rows the list of their first tasks.
#include "gemm/host.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include "core/codes.hpp"
#include "core/fp8.hpp"
#include "core/half.hpp"
#include "core/kernel.hpp"
#include "core/panel.hpp"
#include "core/parallel.hpp"
#include "core/register_tile.hpp"
#include "core/weights_codes.hpp"
#include "gemm/operands.hpp"
#include "gemm/terms.hpp"

namespace cutplan::gemm {
namespace {

constexpr std::int64_t block_m = 192;  // a multiple of every register tile's height
constexpr std::int64_t block_n = 512;

// ---- packing ----

/// An element of a quantised operand, by its bits.
enum class Code : std::uint8_t {};

/// What the codes of one operand stand for.
struct Decoder {
  const CodeValues* values;
  Coding coding;
  std::int64_t batch;

  /// out[p * ld] = codes[p * stride_k], of line `line` from first_k on.
  template <typename T>
  void decode(const Code* codes, std::int64_t stride_k, std::int64_t line, std::int64_t first_k, std::int64_t k, T* out,
              std::int64_t ld) const {
    const Matrix &zeros = coding.zero, &scales = coding.scale;
    const T zero =
        zeros.data == nullptr
            ? T(0)
            : static_cast<T>(static_cast<const std::int32_t*>(zeros.data)[batch * zeros.batch_stride + line * zeros.ld]);
    const auto value = [&](std::int64_t p) {
      return static_cast<T>(values->of[static_cast<int>(codes[p * stride_k])]) - zero;
    };
    if (scales.data == nullptr) {
      for (std::int64_t p = 0; p < k; ++p) out[p * ld] = value(p);
      return;
    }
    const float* of_line =
        static_cast<const float*>(scales.data) + batch * scales.batch_stride + (line >> coding.shift) * scales.ld;
    for (std::int64_t p = 0; p < k; ++p)
      out[p * ld] = value(p) * static_cast<T>(of_line[(first_k + p) / scale_group * scales.step]);
  }
};

/// Packed weights, by the word.
enum class PackedCode : std::uint32_t {};

/// Their columns, as elements.
struct Unpacker {
  const unsigned char* packed;
  const weights::Layout* layout;
  WeightFormat format;
  DType scale_type;
  std::int64_t step, first;  // of the columns that are D's
  std::int64_t rows;         // as many as A has columns

  /// out[p * ld], of D's column `column`, from first_k on. Where a code is, is the sum of what its row and its column say.
  template <typename T>
  void decode(std::int64_t column, std::int64_t first_k, std::int64_t k, T* out, std::int64_t ld) const {
    const weights::Layout& l = *layout;
    const std::int64_t n = column * step + first;
    const unsigned mask = (1u << l.code_bits) - 1;
    for (std::int64_t p = 0; p < k; ++p) {
      const std::int64_t row = first_k + p;
      const weights::CodePlace place = weights::place_of(l, n, row);
      const auto word = weights::load<std::uint32_t>(packed + l.codes + place.word * 4);
      const std::int64_t at = row / l.group_size * l.n + n;
      const float zero = l.zeros == 0 ? 0.0f : weights::float_at(scale_type, packed + l.zeros, at),
                  scale = weights::float_at(scale_type, packed + l.scales, at);
      out[p * ld] = (weights::decode(format, word >> place.shift & mask) - zero) * scale;
    }
  }
  /// Which column of A row k of these is; negative: a number that is no column's, and is not followed.
  std::int64_t source(std::int64_t k) const {
    if (layout->permutation == 0) return k;
    const std::int64_t column = weights::load<std::int32_t>(packed + layout->permutation + k * 4);
    return column < rows ? column : -1;
  }
};

/// Rows of A, or columns of B: `stride` apart, their elements `stride_k` apart.
template <typename S>
struct Lines {
  const S* data;
  std::int64_t stride, stride_k, count;
  Decoder decoder;     // of codes
  std::int64_t first;  // line of the operand
  Unpacker unpacker;   // of packed codes; of A beside them, if they have an order of their own

  bool is_permuted() const { return unpacker.layout != nullptr && unpacker.layout->permutation != 0; }

  const S* at(std::int64_t line, std::int64_t p) const { return data + line * stride + p * stride_k; }
};

/// Copies k of all lines from `first_k` on into panels of as many as each register tile is high, [panel][k][height], padding
/// with zeros.
template <typename S, typename T>
void pack(const Lines<S>& lines, std::int64_t first_k, std::int64_t k, const RegisterTile<T>& tile, T* packed) {
  for (std::int64_t first = 0, height; first < lines.count; first += height, packed += k * height) {
    height = tile.height(lines.count - first);
    const std::int64_t used = std::min(height, lines.count - first);
    if (used < height) std::fill_n(packed, k * height, T(0));
    if constexpr (std::is_same_v<S, Code>) {
      for (std::int64_t i = 0; i < used; ++i) {
        const std::int64_t line = first + i;
        lines.decoder.decode(lines.at(line, first_k), lines.stride_k, lines.first + line, first_k, k, packed + i, height);
      }
    } else if constexpr (std::is_same_v<S, PackedCode>) {
      for (std::int64_t i = 0; i < used; ++i) lines.unpacker.decode(lines.first + first + i, first_k, k, packed + i, height);
    } else if (lines.is_permuted()) {
      for (std::int64_t p = 0; p < k; ++p) {
        const std::int64_t source = lines.unpacker.source(first_k + p);
        for (std::int64_t i = 0; i < used; ++i)
          packed[p * height + i] = source < 0 ? T(0) : static_cast<T>(*lines.at(first + i, source));
      }
    } else if (lines.stride == 1) {
      for (std::int64_t p = 0; p < k; ++p) {
        const S* line = lines.at(first, first_k + p);
        T* out = packed + p * height;
        for (std::int64_t i = 0; i < used; ++i) out[i] = static_cast<T>(line[i]);
      }
    } else {
      for (std::int64_t i = 0; i < used; ++i) {
        const S* line = lines.at(first + i, first_k);
        for (std::int64_t p = 0; p < k; ++p) packed[p * height + i] = static_cast<T>(line[p * lines.stride_k]);
      }
    }
  }
}

// ---- epilogue ----

const char* advance(const void* base, DType type, std::int64_t elements) {
  return static_cast<const char*>(base) + elements * (bits(type) / 8);
}

/// Of the range that the type has; NaN is 0.
template <typename D>
D nearest_integer(double x) {
  constexpr double least = std::numeric_limits<D>::min(), greatest = std::numeric_limits<D>::max();
  return x > greatest ? static_cast<D>(greatest)
         : x >= least ? static_cast<D>(std::nearbyint(x))
         : x < least  ? static_cast<D>(least)
                      : D(0);
}

/// Widens `count` elements, `stride` apart, from `base + first` on.
template <typename T>
void load(const void* base, DType type, std::int64_t first, std::int64_t count, T* out, std::int64_t stride = 1) {
  const auto widen = [&](auto* typed) {
    if (stride == 1) {
      for (std::int64_t j = 0; j < count; ++j) out[j] = static_cast<T>(typed[j]);
    } else {
      for (std::int64_t j = 0; j < count; ++j) out[j] = static_cast<T>(typed[j * stride]);
    }
  };
  const char* data = advance(base, type, first);
  switch (type) {
    case DType::f16: return widen(reinterpret_cast<const Half*>(data));
    case DType::bf16: return widen(reinterpret_cast<const BFloat16*>(data));
    case DType::f32: return widen(reinterpret_cast<const float*>(data));
    case DType::f64: return widen(reinterpret_cast<const double*>(data));
    default: refuse_unexpected_type(type);
  }
}

template <typename T>
void store(void* base, DType type, std::int64_t first, std::int64_t count, const T* values) {
  char* data = const_cast<char*>(advance(base, type, first));
  const auto narrow = [&](auto* typed) {
    using D = std::remove_pointer_t<decltype(typed)>;
    for (std::int64_t j = 0; j < count; ++j) {
      if constexpr (std::is_integral_v<D>) {
        typed[j] = nearest_integer<D>(static_cast<double>(values[j]));
      } else {
        typed[j] = D(static_cast<std::conditional_t<std::is_class_v<D>, float, D>>(values[j]));
      }
    }
  };
  switch (type) {
    case DType::f16: return narrow(reinterpret_cast<Half*>(data));
    case DType::bf16: return narrow(reinterpret_cast<BFloat16*>(data));
    case DType::f32: return narrow(reinterpret_cast<float*>(data));
    case DType::f64: return narrow(reinterpret_cast<double*>(data));
    case DType::i32: return narrow(reinterpret_cast<std::int32_t*>(data));
    case DType::i8: return narrow(reinterpret_cast<std::int8_t*>(data));
    case DType::fp8_e4m3: return narrow(reinterpret_cast<E4M3*>(data));
    case DType::fp8_e5m2: return narrow(reinterpret_cast<E5M2*>(data));
    default: refuse_unexpected_type(type);
  }
}

// ---- the parts of a problem ----

constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return ceil_div(x, to) * to; }

/// One matrix of the batch, or one group: its rows of A and D, and its part of K.
struct Part {
  std::int64_t batch, first_row, rows, first_k, k;
};

Part part_of(const Problem& p, std::int64_t batch) {
  if (p.groups.offsets == nullptr) return {batch, 0, p.m, 0, p.k};
  const std::int64_t first = p.groups.offsets[batch], extent = p.groups.offsets[batch + 1] - first;
  if (p.groups.over == GroupedOver::m) return {batch, first, extent, 0, p.k};
  return {batch, 0, p.m, first, extent};
}

/// D cut into blocks, each a task.
class Blocks {
 public:
  std::int64_t m, n;  // extents of one block

  /// Largest blocks that still give every thread several tasks.
  Blocks(const Problem& problem, int threads, int rows, int columns) : problem_(problem) {
    const bool groups_of_rows = problem.groups.offsets != nullptr && problem.groups.over == GroupedOver::m;
    const std::int64_t height = groups_of_rows ? ceil_div(problem.m, problem.batch) : problem.m;  // on average
    m = std::min(block_m, round_up(height, rows));
    n = std::min(block_n, round_up(problem.n, columns));
    for (;;) {
      down_ = ceil_div(height, m);
      across_ = ceil_div(problem.n, n);
      const bool can_halve_n = n >= 4 * columns, can_halve_m = m >= 4 * rows;
      if (threads == 1 || down_ * across_ * problem.batch >= 4 * std::int64_t{threads} || !(can_halve_n || can_halve_m))
        break;
      if (can_halve_n && (n >= m || !can_halve_m)) {
        n = round_up(n / 2, columns);
      } else {
        m = round_up(m / 2, rows);
      }
    }
    count_ = down_ * across_ * problem.batch;
    if (!groups_of_rows) return;
    first_task_.reserve(static_cast<std::size_t>(problem.batch) + 1);
    count_ = 0;
    for (std::int64_t g = 0; g < problem.batch; ++g) {
      first_task_.push_back(count_);
      count_ += ceil_div(part_of(problem, g).rows, m) * across_;
    }
    first_task_.push_back(count_);
  }

  std::int64_t count() const { return count_; }

  struct Block {
    Part part;
    std::int64_t first_m, first_n, m, n;  // rows count from the part's first
  };

  Block block(std::int64_t task) const {
    std::int64_t batch = task / (down_ * across_), within = task % (down_ * across_);
    if (!first_task_.empty()) {
      // The last group that starts at the task or before it: those without rows start where the next one does.
      batch = std::upper_bound(first_task_.begin(), first_task_.end(), task) - first_task_.begin() - 1;
      within = task - first_task_[static_cast<std::size_t>(batch)];
    }
    Block b;
    b.part = part_of(problem_, batch);
    b.first_m = within / across_ * m;
    b.first_n = within % across_ * n;
    b.m = std::min(m, b.part.rows - b.first_m);
    b.n = std::min(n, problem_.n - b.first_n);
    return b;
  }

 private:
  const Problem& problem_;
  std::int64_t down_, across_, count_;    // down_, across_: blocks per matrix
  std::vector<std::int64_t> first_task_;  // of each group of rows
};

// ---- the blocked product ----

/// Whether A and B change places: where D has few columns, so that a register tile's width may be mostly padding, and packing
/// A, which the wider panels do faster, is most of the work.
bool turned(const Problem& problem) { return problem.n <= 64 && problem.n < problem.m; }

/// A thread's panels, sums and one row for the epilogue, in one cache-line aligned allocation.
template <typename T>
class Scratch {
 public:
  /// For blocks of at most m x n, slices of at most k.
  Scratch(std::int64_t m, std::int64_t n, std::int64_t k, const RegisterTile<T>& tile, bool turned, bool gated) {
    const std::int64_t left = padded(round_up(turned ? n : m, tile.rows) * k), right = padded(tile.columns * k),
                       size = padded(round_up(m, tile.rows) * round_up(n, tile.columns)),
                       turned_size = turned ? padded(round_up(n, tile.rows) * round_up(m, tile.columns)) : 0,
                       slice_size = padded(tile.rows * round_up(turned ? m : n, tile.columns));
    const int products = gated ? 2 : 1;
    const auto count = static_cast<std::size_t>(left + right + products * (size + turned_size) + slice_size + n);
    panel_left = static_cast<T*>(::operator new(count * sizeof(T), alignment));
    panel_right = panel_left + left;
    T* next = panel_right + right;
    for (int i = 0; i < products; ++i, next += size) sums[i] = next;
    for (int i = 0; i < products; ++i, next += turned_size) turned_sums[i] = next;
    slice = next;
    row = next + slice_size;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(panel_left, alignment); }

  T *panel_left, *panel_right, *sums[2] = {}, *turned_sums[2] = {};  // sums: of A B, and of a gate's other product
  T *slice, *row;  // the sums of one slice of k, as many rows as a register tile has; a row of the epilogue

 private:
  static constexpr std::align_val_t alignment{64};
  static std::int64_t padded(std::int64_t count) { return round_up(count, 64 / static_cast<std::int64_t>(sizeof(T))); }
};

/// Lines of B that are read together where each begins a page of memory of its own and is read once: as many streams as a
/// processor can follow, as wide as the block, and not 256 that it leaves after two cache lines each.
constexpr std::int64_t streams = 16, page = 4096;

/// A panel of `used` lines from the j-th on, [k][width]; what is packed for the others is zero, or that of the last one.
template <typename S, typename T>
void pack_right(const Lines<S>& lines, std::int64_t j, int used, std::int64_t first_k, std::int64_t k, std::int64_t width,
                T* panel) {
  constexpr bool decoded = std::is_same_v<S, Code> || std::is_same_v<S, PackedCode>;
  if (!decoded && !lines.is_permuted()) {
    if constexpr (!decoded) pack_panel<S, T>()(lines.at(j, first_k), lines.stride, lines.stride_k, used, k, panel);
    return;
  }
  if (used < width) std::fill_n(panel, k * width, T(0));
  for (int i = 0; i < used; ++i) {
    if constexpr (std::is_same_v<S, Code>) {
      lines.decoder.decode(lines.at(j + i, first_k), lines.stride_k, lines.first + j + i, first_k, k, panel + i, width);
    } else if constexpr (std::is_same_v<S, PackedCode>) {
      lines.unpacker.decode(lines.first + j + i, first_k, k, panel + i, width);
    } else {
      for (std::int64_t p = 0; p < k; ++p) {
        const std::int64_t source = lines.unpacker.source(first_k + p);
        panel[p * width + i] = source < 0 ? T(0) : static_cast<T>(*lines.at(j + i, source));
      }
    }
  }
}

/// sums[left, right] = or += the products of all lines, over one slice of k. The left ones have been packed.
template <typename S, typename T>
void sum_slice(const RegisterTile<T>& tile, std::int64_t left, const Lines<S>& right, std::int64_t first_k, std::int64_t k,
               const Scratch<T>& scratch, T* sums, std::int64_t ld) {
  const std::int64_t only = tile.height(left);  // height, where all lines on the left fit one tile
  const bool once = only >= left && right.stride == 1,
             streamed = once && right.stride_k * static_cast<std::int64_t>(sizeof(S)) >= page;
  const bool add = first_k > 0;
  // A slice of its own is summed in pieces, so it can be added to the sums only when it is whole.
  T* const whole = streamed && add ? scratch.slice : sums;
  const std::int64_t depth = streamed ? streams : k;
  for (std::int64_t p = 0; p < k; p += depth) {
    const std::int64_t piece = std::min(depth, k - p);
    for (std::int64_t j = 0; j < right.count; j += tile.columns) {
      const int used = static_cast<int>(std::min<std::int64_t>(tile.columns, right.count - j));
      const T* panel = scratch.panel_right;
      std::int64_t ld_panel = tile.columns;
      if constexpr (std::is_same_v<S, T>) {
        if (once && used == tile.columns) panel = right.at(j, first_k + p), ld_panel = right.stride_k;
      }
      if (panel == scratch.panel_right) pack_right(right, j, used, first_k + p, piece, tile.columns, scratch.panel_right);
      if (streamed) {
        tile.multiply(static_cast<int>(only), piece, scratch.panel_left + p * only, panel, ld_panel, whole + j, ld,
                      p > 0 ? Sums::resume : Sums::set);
        continue;
      }
      for (std::int64_t i = 0, height; i < left; i += height) {
        height = tile.height(left - i);
        tile.multiply(static_cast<int>(height), k, scratch.panel_left + i * k, panel, ld_panel, sums + i * ld + j, ld,
                      add ? Sums::add : Sums::set);
      }
    }
  }
  if (whole == sums) return;
  for (std::int64_t i = 0; i < left; ++i) {
    for (std::int64_t j = 0; j < right.count; ++j) sums[i * ld + j] += whole[i * ld + j];
  }
}

const CodeValues& values_of(DType type) {
  static const CodeValues i8 = values_of_codes(DType::i8), e4m3 = values_of_codes(DType::fp8_e4m3),
                          e5m2 = values_of_codes(DType::fp8_e5m2);
  return type == DType::i8 ? i8 : type == DType::fp8_e4m3 ? e4m3 : e5m2;
}

/// Sums a block's products into scratch.sums, which get the leading dimension `ld`. SB: of B, A's or packed codes.
template <typename S, typename SB, typename T>
void sum_products(const Problem& problem, GemmLayout layout, const RegisterTile<T>& tile, const Blocks::Block& block,
                  std::int64_t ld, const Scratch<T>& scratch) {
  constexpr bool packed = std::is_same_v<SB, PackedCode>;
  const Part& part = block.part;
  const std::int64_t a_stride_m = a_is_row_major(layout) ? problem.a.ld : 1,
                     a_stride_k = a_is_row_major(layout) ? 1 : problem.a.ld;
  const auto decoder = [&](const Matrix& m, const Coding& coding) {
    return std::is_same_v<S, Code> && m.data != nullptr ? Decoder{&values_of(m.type), coding, part.batch} : Decoder{};
  };
  const auto unpacker = [&](const Matrix& m, std::int64_t first) {
    if (!packed || m.data == nullptr) return Unpacker{};
    return Unpacker{static_cast<const unsigned char*>(m.data) + part.batch * m.batch_stride,
                    &problem.layout,
                    *problem.weights.format,
                    problem.weights.scale,
                    m.step,
                    first,
                    problem.k};
  };
  const std::int64_t first_row = part.first_row + block.first_m;
  const auto rows = [&](const Matrix& beside) {
    return Lines<S>{static_cast<const S*>(problem.a.data) + part.batch * problem.a.batch_stride + first_row * a_stride_m +
                        part.first_k * a_stride_k,
                    a_stride_m,
                    a_stride_k,
                    block.m,
                    decoder(problem.a, problem.of_a),
                    first_row,
                    unpacker(beside, 0)};
  };
  const Lines<S> a[2] = {rows(problem.b), rows(problem.b2)};  // b and b2 may have orders of their own
  const auto columns = [&](const Matrix& m, const Coding& coding, std::int64_t first) {
    if constexpr (packed) {
      return Lines<SB>{nullptr, 0, 0, block.n, {}, block.first_n, unpacker(m, first)};
    } else {
      const std::int64_t stride_k = b_is_row_major(layout) ? m.ld : m.step,
                         stride_n = b_is_row_major(layout) ? m.step : m.ld;
      return Lines<SB>{
          static_cast<const SB*>(m.data) + part.batch * m.batch_stride + part.first_k * stride_k + block.first_n * stride_n,
          stride_n,
          stride_k,
          block.n,
          decoder(m, coding),
          block.first_n,
          {}};
    }
  };
  const int products = problem.terms.gate == Gate::none ? 1 : 2;
  const bool takes_turns = problem.terms.gate == Gate::interleaved;
  const Lines<SB> b[2] = {columns(problem.b, problem.of_b, 0),
                          products == 1 ? Lines<SB>{} : columns(problem.b2, problem.of_b2, takes_turns ? 1 : 0)};
  if (part.k == 0) {
    for (int i = 0; i < products; ++i) std::fill_n(scratch.sums[i], block.m * ld, T(0));
    return;
  }
  const bool turn = turned(problem);
  const std::int64_t ld_turned = round_up(block.m, tile.columns);
  for (std::int64_t first_k = 0; first_k < part.k; first_k += host_slice_k) {
    const std::int64_t k = std::min(host_slice_k, part.k - first_k);
    for (int i = 0; i < products; ++i) {
      if (turn) {
        pack(b[i], first_k, k, tile, scratch.panel_left);
        sum_slice(tile, b[i].count, a[i], first_k, k, scratch, scratch.turned_sums[i], ld_turned);
      } else {
        if (i == 0 || a[i].is_permuted()) pack(a[i], first_k, k, tile, scratch.panel_left);
        sum_slice(tile, block.m, b[i], first_k, k, scratch, scratch.sums[i], ld);
      }
    }
  }
  for (int product = 0; turn && product < products; ++product) {
    for (std::int64_t i = 0; i < block.m; ++i) {
      for (std::int64_t j = 0; j < block.n; ++j)
        scratch.sums[product][i * ld + j] = scratch.turned_sums[product][j * ld_turned + i];
    }
  }
}

/// Walk: a row of a block's sums.
template <typename T, bool kQuantized_>
struct HostRow {
  using Value = T;
  using Math = Activations<T, ExactMath<T>>;
  static constexpr bool kInRegisters = false, kQuantized = kQuantized_;

  T *x, *other;                       // n each; other: what is read
  std::int64_t batch, row, first, n;  // first: column

  std::int64_t offset(const Matrix& m) const { return batch * m.batch_stride + row * m.ld + first * m.step; }

  template <typename F>
  void each(const F& f) {
    for (std::int64_t j = 0; j < n; ++j) f(x[j]);
  }
  template <typename F>
  void with(const Matrix& m, const F& f) {
    if (m.data == nullptr) return;
    load(m.data, m.type, offset(m), n, other, m.step);
    for (std::int64_t j = 0; j < n; ++j) f(x[j], other[j]);
  }
  template <typename F>
  void with_row_and_column(const Matrix& of_row, const Matrix& of_column, const F& f) {
    T scale = 1;
    if (of_row.data != nullptr) load(of_row.data, of_row.type, offset(of_row), 1, &scale);
    if (of_column.data == nullptr) return each([&](T& v) { f(v, scale, T(0)); });
    with(of_column, [&](T& v, T bias) { f(v, scale, bias); });
  }
  void write(const Matrix& m) const { store(m.data, m.type, offset(m), n, x); }
  /// To D, or to the outputs that have its columns.
  void leave(const Problem& p) const {
    const std::int64_t end = first + n;
    for (HostRow part = *this; part.first < end; part.x += part.n, part.first += part.n) {
      const int output = output_of(p, part.first);
      part.n = std::min(end, end_of(p, output)) - part.first;
      part.write(matrix_of(p, output));
    }
  }

  /// Rows are of several threads. Floats that are not negative are ordered as their bits.
  void note(float* greatest, T of_these) const {
    static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(float));
    auto& shared = *reinterpret_cast<std::atomic<std::uint32_t>*>(greatest);
    const std::uint32_t bits = detail::float_bits(static_cast<float>(of_these));
    for (std::uint32_t known = shared.load(std::memory_order_relaxed); known < bits;) {
      if (shared.compare_exchange_weak(known, bits, std::memory_order_relaxed)) break;
    }
  }
};

template <typename S, typename T>
void finish(const Problem& p, const Blocks::Block& block, std::int64_t ld, const Scratch<T>& scratch) {
  using Row = HostRow<T, std::is_same_v<S, Code>>;
  const bool gated = p.terms.gate != Gate::none;
  for (std::int64_t i = 0; i < block.m; ++i) {
    const auto row_of = [&](T* sums) {
      return Row{sums + i * ld, scratch.row, block.part.batch, block.part.first_row + block.first_m + i,
                 block.first_n, block.n};
    };
    Row x = row_of(scratch.sums[0]);
    if (gated) {
      Row x2 = row_of(scratch.sums[1]);
      gate(p.terms, x, x2);
    }
    apply(p.terms, x, gated ? Stage::gated : Stage::sums);
    x.leave(p);
  }
}

template <typename S, typename T, typename SB = S>
void run(const Kernel& kernel, const Problem& problem, const Launch& launch) {
  const RegisterTile<T>& tile = register_tile<T, LeftPanel>();

  // A thread costs some 20 us to start: let each have ten times that to do. An element of D counts like 32 products, one of A
  // or B like 4.
  constexpr double products_per_thread = 4e6;
  const bool groups = problem.groups.offsets != nullptr, over_m = problem.groups.over == GroupedOver::m;
  const auto batch = static_cast<double>(problem.batch), k = static_cast<double>(problem.k);
  const double m = static_cast<double>(problem.m), n = static_cast<double>(problem.n), parts = groups && over_m ? 1 : batch,
               part_k = groups && !over_m ? k / batch : k;
  const double work = parts * (m * n * (part_k + 32) + 4 * part_k * (m + n)) * (problem.terms.gate == Gate::none ? 1 : 2);
  const int available = launch.sm_count > 0 ? launch.sm_count : hardware_threads();
  const int threads = static_cast<int>(std::max(1.0, std::min<double>(available, work / products_per_thread)));

  const Blocks blocks(problem, threads, tile.rows, tile.columns);
  const std::int64_t slice = std::min(problem.k, host_slice_k);
  parallel_tasks(blocks.count(), threads, [&](const std::function<std::int64_t()>& next) {
    const Scratch<T> scratch(blocks.m, blocks.n, slice, tile, turned(problem), problem.terms.gate != Gate::none);
    for (std::int64_t task = next(); task >= 0; task = next()) {
      const Blocks::Block block = blocks.block(task);
      const std::int64_t ld = round_up(block.n, tile.columns);
      sum_products<S, SB>(problem, kernel.layout, tile, block, ld, scratch);
      finish<S>(problem, block, ld, scratch);
    }
  });
}

// ---- the table ----

constexpr Kernel entry(DType operand, DType operand_b, GemmLayout layout,
                       void (*run)(const Kernel&, const Problem&, const Launch&)) {
  Kernel kernel{};  // what the host has no use for stays zero
  kernel.arch = Arch::host;
  kernel.operand = operand;
  kernel.operand_b = operand_b;
  kernel.math = Math::strict;
  kernel.layout = layout;
  kernel.gate = Gate::none;  // and every other: choose.cpp
  kernel.tile_m = static_cast<int>(block_m);
  kernel.tile_n = static_cast<int>(block_n);
  kernel.tile_k = static_cast<int>(host_slice_k);
  kernel.cluster_m = kernel.cluster_n = 1;
  kernel.blocks_by_registers = 1;
  kernel.schedule = "blocked";
  kernel.alignment = bits(operand) / 8;
  kernel.groups = kernel.scales_along_k = kernel.zeros = true;
  kernel.formats = operand_b == DType::u8 ? ~0u : 0;
  kernel.peak_fraction = 1.0;
  kernel.run = run;
  return kernel;
}

/// In each layout.
template <typename S, typename T>
constexpr std::array<Kernel, 4> entries(DType operand, DType operand_b) {
  return {entry(operand, operand_b, GemmLayout::rcr, run<S, T, S>), entry(operand, operand_b, GemmLayout::rrr, run<S, T, S>),
          entry(operand, operand_b, GemmLayout::crr, run<S, T, S>),
          entry(operand, operand_b, GemmLayout::ccr, run<S, T, S>)};
}

/// Packed weights have columns side by side.
constexpr std::array<Kernel, 4> packed_entries = {
    entry(DType::f16, DType::u8, GemmLayout::rcr, run<Half, float, PackedCode>),
    entry(DType::f16, DType::u8, GemmLayout::ccr, run<Half, float, PackedCode>),
    entry(DType::bf16, DType::u8, GemmLayout::rcr, run<BFloat16, float, PackedCode>),
    entry(DType::bf16, DType::u8, GemmLayout::ccr, run<BFloat16, float, PackedCode>)};

constexpr std::array<Kernel, 4> kernels[] = {
    entries<Half, float>(DType::f16, DType::f16),
    entries<BFloat16, float>(DType::bf16, DType::bf16),
    entries<float, float>(DType::f32, DType::f32),
    entries<double, double>(DType::f64, DType::f64),
    packed_entries,
    entries<Code, double>(DType::i8, DType::i8),
    entries<Code, double>(DType::fp8_e4m3, DType::fp8_e4m3),
    entries<Code, double>(DType::fp8_e4m3, DType::fp8_e5m2),
    entries<Code, double>(DType::fp8_e5m2, DType::fp8_e4m3),
};

}  // namespace

const KernelTable gemm_host_kernels = {kernels[0].data(), sizeof kernels / sizeof(Kernel)};

}  // namespace cutplan::gemm
