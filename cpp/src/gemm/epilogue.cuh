// The epilogue that every 16-bit and TF32 CUDA GEMM kernel of this family runs: walks that terms.hpp's terms are applied to, and
// stores that take the results.
//
// What is present, of what type, and which activation is decided at run time: every branch is uniform over the grid, where a
// kernel per combination would cost compile time and wheel size.
//
// Data movement. mma.sync m16n8 and wgmma m64nN leave the accumulator alike: in each 16 x 8 block, lane l of the warp holds
// columns 2 (l % 4) and 2 (l % 4) + 1 of rows l / 4 and l / 4 + 8. Inside D, with aligned operands, the common terms (alpha,
// C, bias over n, activation) happen in these registers. From there results go to D in 16-byte accesses, made by shuffles
// within a quad of lanes; or, where TMA is there to take them on, to boxes in shared memory (sm90/boxes.cuh).
// For the other terms, at D's edges and for unaligned operands a warp moves 16 rows by 32 columns at a time through 2 KiB of
// shared memory of its own, so that each lane comes to hold up to 8 neighbouring columns. That loop is not unrolled: the
// code for one piece has all the branches in it, and eight copies (20000 instructions) ran at the pace of instruction cache
// misses, 11000 cycles for a 128 x 256 tile.
#pragma once

#include <cuda_fp8.h>

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/convert.cuh"
#include "core/sm80/math.cuh"
#include "core/sm80/memory.cuh"
#include "core/sm80/warp.cuh"
#include "gemm/kernel.hpp"
#include "gemm/terms.hpp"

namespace cutplan::gemm {

using namespace cutplan::sm80;

/// The hardware's approximations of ExactMath's functions.
struct ApproximateMath {
  static constexpr float kFlat = 30;
  __device__ __forceinline__ static float exp(float x) { return exp_approx(x); }
  /// erf to 1.5e-7 absolute (Abramowitz and Stegun 1964, 7.1.26): a third of the instructions of erff, and its error is within
  /// the bound's.
  __device__ __forceinline__ static float one_plus_erf(float x) {
    const float t = reciprocal_approx(fmaf(0.3275911f, fabsf(x), 1.0f));
    const float poly =
        t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
    return 1.0f + copysignf(fmaf(-poly, exp_approx(-x * x), 1.0f), x);
  }
  __device__ __forceinline__ static float divide(float x, float y) { return x * reciprocal_approx(y); }
  __device__ __forceinline__ static Sigmoid<float> sigmoid(float x) {
    const float value = reciprocal_approx(1.0f + exp_approx(-x));
    return {value, 1.0f - value};
  }
};

/// A matrix of the epilogue, of a type that is known at run time, read and written 8 columns at a time.
struct RowVectors {
  void* data;  // of the present matrix of the batch
  std::int64_t ld, step;
  DType type;
  bool wide;  // accesses of 16 bytes, or of 8 elements of one byte, are aligned

  __device__ RowVectors(const Matrix& m, std::int64_t batch) : RowVectors(m, batch, m.type == DType::f32 ? 4 : 2) {}
  /// Of a D of `bytes` bytes an element.
  __device__ RowVectors(const Matrix& m, std::int64_t batch, int bytes) : ld(m.ld), step(m.step), type(m.type) {
    data = static_cast<char*>(m.data) + batch * m.batch_stride * bytes;
    const unsigned access = bytes == 1 ? 8 : 16;
    wide =
        ((reinterpret_cast<std::uint64_t>(data) | static_cast<std::uint64_t>(ld * bytes)) & (access - 1)) == 0 && step == 1;
  }

  /// The element at (row, col).
  __device__ __forceinline__ float at(std::int64_t row, std::int64_t col) const {
    const std::int64_t i = row * ld + col * step;
    return type == DType::f32 ? __ldg(static_cast<const float*>(data) + i)
                              : widen(type, __ldg(static_cast<const std::uint16_t*>(data) + i));
  }

  /// The `count` elements at (row, col), and zeros.
  __device__ __forceinline__ void load(float (&x)[8], std::int64_t row, std::int64_t col, int count) const {
    const std::int64_t first = row * ld + col * step;
    if (type == DType::f32) {
      const float* from = static_cast<const float*>(data) + first;
      if (wide && count == 8) {
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
          const float4 v = *reinterpret_cast<const float4*>(from + i);
          x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
        }
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i, from += step) x[i] = i < count ? *from : 0.0f;
      }
    } else {
      const std::uint16_t* from = static_cast<const std::uint16_t*>(data) + first;
      uint4 packed = make_uint4(0, 0, 0, 0);
      auto& word = reinterpret_cast<std::uint32_t (&)[4]>(packed);
      if (wide && count == 8) {
        packed = *reinterpret_cast<const uint4*>(from);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i, from += step) {
          if (i < count) word[i / 2] |= static_cast<std::uint32_t>(*from) << (16 * (i % 2));
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = widen(type, static_cast<std::uint16_t>(word[i / 2] >> (16 * (i % 2))));
    }
  }

  __device__ __forceinline__ void store(const float (&x)[8], std::int64_t row, std::int64_t col, int count) const {
    const std::int64_t first = row * ld + col;
    if (type == DType::f32) {
      float* to = static_cast<float*>(data) + first;
      if (wide && count == 8) {
        reinterpret_cast<float4*>(to)[0] = make_float4(x[0], x[1], x[2], x[3]);
        reinterpret_cast<float4*>(to)[1] = make_float4(x[4], x[5], x[6], x[7]);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (i < count) to[i] = x[i];
        }
      }
    } else {
      std::uint16_t* to = static_cast<std::uint16_t*>(data) + first;
      std::uint32_t word[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) word[i] = narrow_pair(type, x[2 * i], x[2 * i + 1]);
      if (wide && count == 8) {
        store_16_bytes(to, word);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (i < count) to[i] = static_cast<std::uint16_t>(word[i / 2] >> (16 * (i % 2)));
        }
      }
    }
  }
};

/// Of a row of D. Quantised operands' may be one for all, and each matrix of a batch may have its own.
template <bool kQuantized>
__device__ __forceinline__ float row_factor(const Matrix& m, std::int64_t batch, std::int64_t row) {
  const std::int64_t at = kQuantized ? batch * m.batch_stride + row * m.ld : row;
  return __ldg(static_cast<const float*>(m.data) + at);
}

/// Two values of an 8-bit D, `low` in the lower byte: rounded to nearest even, saturated.
__device__ __forceinline__ std::uint32_t narrow_pair_8bit(DType type, float low, float high) {
  if (type == DType::i8) {
    std::int32_t x, y;
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(x) : "f"(low));
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(y) : "f"(high));
    return (x & 0xff) | (y & 0xff) << 8;
  }
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, type == DType::fp8_e4m3 ? __NV_E4M3 : __NV_E5M2);
}

/// Whether D's elements are single bytes.
__device__ __forceinline__ bool is_8bit(DType type) {
  return type == DType::i8 || type == DType::fp8_e4m3 || type == DType::fp8_e5m2;
}

/// Shared memory that store_warp_tile needs for each warp, in bytes; 16-byte aligned.
inline constexpr int staging_bytes = 16 * 32 * 4;

struct Float8 {
  float x[8];
};

/// What these threads of a warp have found, into memory that all blocks share. Floats that are not negative are ordered as their
/// bits.
__device__ __forceinline__ void note_greatest(float* greatest, float of_these) {
  const std::uint32_t mask = __activemask(), bits = __reduce_max_sync(mask, __float_as_uint(of_these));
  if (static_cast<int>(threadIdx.x % 32) == __ffs(static_cast<int>(mask)) - 1)
    atomicMax(reinterpret_cast<std::uint32_t*>(greatest), bits);
}

/// Walk: 8 columns of a row, of which `count` lie inside D.
template <bool kQuantized_ = false>
struct EightColumns {
  using Value = float;
  using Math = Activations<float, ApproximateMath>;
  static constexpr bool kInRegisters = false, kQuantized = kQuantized_;

  float (&x)[8];
  std::int64_t batch, row, col;
  int count;

  __device__ EightColumns(float (&x)[8], std::int64_t batch, std::int64_t row, std::int64_t col, std::int64_t n)
      : x(x), batch(batch), row(row), col(col), count(n - col < 8 ? static_cast<int>(n - col) : 8) {}

  template <typename F>
  __device__ __forceinline__ void each(const F& f) {
#pragma unroll
    for (int i = 0; i < 8; ++i) f(x[i]);
  }
  template <typename F>
  __device__ __forceinline__ void with(const Matrix& m, const F& f) {
    if (m.data == nullptr) return;
    float y[8];
    RowVectors(m, batch).load(y, row, col, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) f(x[i], y[i]);
  }
  template <typename F>
  __device__ __forceinline__ void with_row_and_column(const Matrix& of_row, const Matrix& of_column, const F& f) {
    const float scale = of_row.data == nullptr ? 1.0f : row_factor<kQuantized>(of_row, batch, row);
    float bias[8] = {};
    if (of_column.data != nullptr) RowVectors(of_column, batch).load(bias, row, col, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) f(x[i], scale, bias[i]);
  }
  __device__ __forceinline__ void write(const Matrix& m) const { RowVectors(m, batch).store(x, row, col, count); }
  /// Values beyond D are none of D's.
  __device__ __forceinline__ void note(float* greatest, float) const {
    float of_these = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) of_these = i < count ? fmaxf(of_these, fabsf(x[i])) : of_these;
    note_greatest(greatest, of_these);
  }
};

/// Walk: a warp's accumulator where it lies, kRows pieces of 16 rows by kCols pieces of 32 columns, each piece 16 values a lane:
/// value 4 j + 2 h + i is row lane / 4 + 8 h, column 8 j + 2 (lane % 4) + i.
template <int kRows, int kCols, bool kQuantized_ = false>
struct Fragments {
  using Value = float;
  using Math = Activations<float, ApproximateMath>;
  static constexpr bool kInRegisters = true, kQuantized = kQuantized_;
  static constexpr int kLines = 2 * kRows, kValues = kRows * kCols * 16;  // lines of 8 rows, one a quad

  float (&x)[kValues];
  std::int64_t batch, first_row, col, n;  // of the warp
  int rows;                               // from the lane's first to the end, of D or of these

  __device__ __forceinline__ Fragments(float (&x)[kValues], std::int64_t batch, std::int64_t first_row, std::int64_t row_end,
                                       std::int64_t first_col, std::int64_t n)
      : x(x),
        batch(batch),
        first_row(first_row),
        col(first_col),
        n(n),
        rows(static_cast<int>(min(row_end - first_row, std::int64_t{16 * kRows})) - static_cast<int>(threadIdx.x % 32 / 4)) {
  }

  __device__ __forceinline__ std::int64_t row() const { return first_row + threadIdx.x % 32 / 4; }

  /// Where value i of column pair j in piece c of a line is.
  __device__ __forceinline__ static constexpr int at(int line, int c, int j, int i) {
    return 16 * (line / 2 * kCols + c) + 4 * j + 2 * (line % 2) + i;
  }

  template <typename F>
  __device__ __forceinline__ void each(const F& f) {
#pragma unroll
    for (int i = 0; i < kValues; ++i) f(x[i]);
  }

  /// A matrix that is aligned, columns inside D.
  template <typename F>
  __device__ __forceinline__ void with(const Matrix& m, const F& f) {
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const RowVectors v(m, batch);
    // Asked in each branch: after an early return the compiler joins the branches' ends, which spills 328 bytes.
    const bool there = m.data != nullptr;
    if (there && v.type == DType::f32) {
      const float* v_line = static_cast<const float*>(v.data) + row() * v.ld + col + 2 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, v_line += 8 * v.ld) {
        if (8 * line >= rows) continue;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 pair = *reinterpret_cast<const float2*>(v_line + 32 * c + 8 * j);
            f(x[at(line, c, j, 0)], pair.x);
            f(x[at(line, c, j, 1)], pair.y);
          }
        }
      }
    } else if (there) {
      const std::uint16_t* v_line = static_cast<const std::uint16_t*>(v.data) + row() * v.ld + col + 8 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, v_line += 8 * v.ld) {
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          const uint4 q = 8 * line < rows ? *reinterpret_cast<const uint4*>(v_line + 32 * c) : make_uint4(0, 0, 0, 0);
          std::uint32_t word[4] = {q.x, q.y, q.z, q.w};
          transpose_quad(word, lane);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            f(x[at(line, c, j, 0)], widen(v.type, static_cast<std::uint16_t>(word[j])));
            f(x[at(line, c, j, 1)], widen(v.type, static_cast<std::uint16_t>(word[j] >> 16)));
          }
        }
      }
    }
  }

  /// A vector that is aligned, columns inside D. Loads first: each waits for L2, all of them together no longer.
  template <typename F>
  __device__ __forceinline__ void with_columns(const Matrix& m, const F& f) {
    const auto both = [&](int c, int j, float low, float high) {
#pragma unroll
      for (int line = 0; line < kLines; ++line) {
        f(x[at(line, c, j, 0)], low);
        f(x[at(line, c, j, 1)], high);
      }
    };
    if (m.data == nullptr) return;
    const RowVectors v(m, batch);
    const std::int64_t first = col + 2 * (threadIdx.x % 4);
    if (kQuantized && !v.wide) {  // a scale for all columns, or every other one
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
#pragma unroll
        for (int j = 0; j < 4; ++j) both(c, j, v.at(0, first + 32 * c + 8 * j), v.at(0, first + 32 * c + 8 * j + 1));
      }
    } else if (v.type == DType::f32) {
      // As many at a time as registers allow: quantised operands' sums stand in their own, but for a bias.
      constexpr int kAtOnce = kQuantized ? 4 * kCols : 4;
      const float* from = static_cast<const float*>(v.data) + first;
#pragma unroll
      for (int i = 0; i < 4 * kCols; i += kAtOnce) {
        float2 pair[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) pair[j] = *reinterpret_cast<const float2*>(from + 8 * (i + j));
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) both((i + j) / 4, (i + j) % 4, pair[j].x, pair[j].y);
      }
    } else {
      const std::uint16_t* from = static_cast<const std::uint16_t*>(v.data) + first;
      std::uint32_t pair[4 * kCols];
#pragma unroll
      for (int i = 0; i < 4 * kCols; ++i) pair[i] = *reinterpret_cast<const std::uint32_t*>(from + 8 * i);
#pragma unroll
      for (int i = 0; i < 4 * kCols; ++i)
        both(i / 4, i % 4, widen(v.type, static_cast<std::uint16_t>(pair[i])),
             widen(v.type, static_cast<std::uint16_t>(pair[i] >> 16)));
    }
  }

  /// Wherever they lie.
  template <typename F>
  __device__ __forceinline__ void with_row_and_column(const Matrix& of_row, const Matrix& of_column, const F& f) {
    const RowVectors bias(of_column, batch);
    float scale[kLines];
#pragma unroll
    for (int line = 0; line < kLines; ++line)
      scale[line] =
          of_row.data != nullptr && 8 * line < rows ? row_factor<kQuantized>(of_row, batch, row() + 8 * line) : 1.0f;
#pragma unroll
    for (int j = 0; j < 4 * kCols; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int64_t of_pair = col + 8 * j + threadIdx.x % 4 * 2 + i;
        const float b = of_column.data != nullptr && of_pair < n ? bias.at(0, of_pair) : 0.0f;
#pragma unroll
        for (int line = 0; line < kLines; ++line) f(x[at(line, j / 4, j % 4, i)], scale[line], b);
      }
    }
  }

  /// Values beyond D's rows are none of D's; columns lie inside.
  __device__ __forceinline__ void note(float* greatest, float) const {
    float of_these = 0;
#pragma unroll
    for (int line = 0; line < kLines; ++line) {
#pragma unroll
      for (int j = 0; j < 4 * kCols; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          of_these = 8 * line < rows ? fmaxf(of_these, fabsf(x[at(line, j / 4, j % 4, i)])) : of_these;
      }
    }
    note_greatest(greatest, of_these);
  }
};

/// Store: from registers to memory, an output's or a workspace's, of what either walk has. Another store takes results by the
/// same functions.
template <bool kQuantized = false>
struct DirectStore {
  RowVectors d;

  /// Of the columns of one output. `batch`: D's index in its batch; it differs from the others' where K is split and D is the
  /// workspace.
  __device__ DirectStore(const Problem& p, int output, std::int64_t batch) : DirectStore(matrix_of(p, output), batch) {}

  __device__ DirectStore(const Matrix& m, std::int64_t batch) : d(m, batch, bytes_of(m.type)) {
    if (kQuantized && d.type == DType::i32) d.type = DType::f32;  // sums, of which the bits are stored
  }

  __device__ __forceinline__ static int bytes_of(DType type) {
    if (kQuantized && is_8bit(type)) return 1;
    return type == DType::f32 || (kQuantized && type == DType::i32) ? 4 : 2;
  }

  __device__ __forceinline__ void store(const EightColumns<kQuantized>& x) const {
    if constexpr (kQuantized) {
      if (is_8bit(d.type)) {
        std::uint8_t* to = static_cast<std::uint8_t*>(d.data) + x.row * d.ld + x.col;
        std::uint32_t pair[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) pair[i] = narrow_pair_8bit(d.type, x.x[2 * i], x.x[2 * i + 1]);
        if (d.wide && x.count == 8) {
          *reinterpret_cast<uint2*>(to) = make_uint2(pair[0] | pair[1] << 16, pair[2] | pair[3] << 16);
        } else {
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            if (i < x.count) to[i] = static_cast<std::uint8_t>(pair[i / 2] >> (8 * (i % 2)));
          }
        }
        return;
      }
    }
    d.store(x.x, x.row, x.col, x.count);
  }

  /// Columns inside D, which is aligned.
  template <int kRows, int kCols>
  __device__ __forceinline__ void store(const Fragments<kRows, kCols, kQuantized>& from) const {
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const auto& x = from.x;
    const auto at = from.at;
    if (kQuantized && is_8bit(d.type)) {
      // The lanes of a quad transpose their pairs of columns, so that each writes 8 bytes.
      std::uint8_t* d_line = static_cast<std::uint8_t*>(d.data) + from.row() * d.ld + from.col + 8 * quad;
#pragma unroll
      for (int line = 0; line < from.kLines; ++line, d_line += 8 * d.ld) {
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          std::uint32_t pair[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) pair[j] = narrow_pair_8bit(d.type, x[at(line, c, j, 0)], x[at(line, c, j, 1)]);
          transpose_quad(pair, lane);
          if (8 * line < from.rows)
            *reinterpret_cast<uint2*>(d_line + 32 * c) = make_uint2(pair[0] | pair[1] << 16, pair[2] | pair[3] << 16);
        }
      }
    } else if (d.type == DType::f32) {
      // The pairs of a quad fill a 32-byte sector as they are.
      float* d_line = static_cast<float*>(d.data) + from.row() * d.ld + from.col + 2 * quad;
#pragma unroll
      for (int line = 0; line < from.kLines; ++line, d_line += 8 * d.ld) {
        if (8 * line >= from.rows) continue;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
#pragma unroll
          for (int j = 0; j < 4; ++j)
            *reinterpret_cast<float2*>(d_line + 32 * c + 8 * j) = make_float2(x[at(line, c, j, 0)], x[at(line, c, j, 1)]);
        }
      }
    } else {
      // The lanes of a quad transpose their pairs of columns, so that each writes 16 bytes and a warp 8 rows of 64.
      std::uint16_t* d_line = static_cast<std::uint16_t*>(d.data) + from.row() * d.ld + from.col + 8 * quad;
#pragma unroll
      for (int line = 0; line < from.kLines; ++line, d_line += 8 * d.ld) {
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          std::uint32_t word[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) word[j] = narrow_pair(d.type, x[at(line, c, j, 0)], x[at(line, c, j, 1)]);
          transpose_quad(word, lane);
          if (8 * line < from.rows) store_16_bytes(d_line + 32 * c, word);
        }
      }
    }
  }
};

/// Sums of codes, int32 in the bits of floats, to those of what codes stand for. Of (a - a0)(b - b0), a b is summed already:
/// a0 sum(b) and b0 (sum(a) - K a0) are left to subtract.
template <typename Walk>
__device__ __forceinline__ void subtract_zeros(const Problem& p, Walk& x) {
  const auto subtract = [&](const Matrix& of_row, const Matrix& of_column) {
    if (of_row.data == nullptr || of_column.data == nullptr) return;
    x.with_row_and_column(of_row, of_column, [](float& sum, float row, float column) {
      sum = __int_as_float(__float_as_int(sum) - __float_as_int(row) * __float_as_int(column));
    });
  };
  const Matrix &a = p.of_a.zero, &b = p.of_b.zero;
  subtract({a.data, a.ld, 0, a.batch_stride, DType::f32}, p.b_sums);
  subtract(p.a_sums, {b.data, 0, b.ld, b.batch_stride, DType::f32});
}

/// Sums to results, in full generality: 8 columns of row `row` from `col` on, of which those inside D are stored. A function of
/// its own, because its needs would otherwise push accumulators out of registers everywhere (200 bytes of spills).
template <bool kQuantized = false>
__device__ __noinline__ static void finish(const Problem& p, std::int64_t batch, std::int64_t d_batch, std::int64_t row,
                                           std::int64_t col, Stage stage, Float8 values) {
  EightColumns<kQuantized> x(values.x, batch, row, col, p.n);
  if (kQuantized && has_zeros(p)) {
    subtract_zeros(p, x);
    if (p.d.type != DType::i32) x.each([](float& sum) { sum = __int2float_rn(__float_as_int(sum)); });
  }
  if (!kQuantized || p.d.type != DType::i32) apply(p.terms, x, stage);
  DirectStore<kQuantized>(p, output_of(p, col), d_batch).store(x);
}

/// int32 sums, which lie in the bits of floats, to floats: rounded to nearest. Of an int32 D they stay what they are, and where
/// there are zeros finish() does it.
template <int kCount>
__device__ __forceinline__ void round_sums(const Problem& p, float (&sums)[kCount]) {
  if (p.d.type == DType::i32 || has_zeros(p)) return;
#pragma unroll
  for (float& sum : sums) sum = __int2float_rn(__float_as_int(sum));
}

/// Whether the epilogue is alpha alone.
inline bool is_plain(const Terms& t) {
  for (const Matrix* matrix : {&t.row_scale, &t.column_scale, &t.c, &t.bias, &t.residual}) {
    if (matrix->data != nullptr) return false;
  }
  if (t.out_scale != nullptr || t.amax != nullptr) return false;
  return t.activation == Activation::none && t.auxiliary == Auxiliary::none && t.gate == Gate::none;
}

/// The epilogue of one matrix of the batch, or one group.
template <bool kQuantized = false>
class Epilogue {
 public:
  /// `d_batch`: as DirectStore's. Rows from `row_end` on are not stored. `stage`: what is done to the sums already.
  __device__ Epilogue(const Problem& p, std::int64_t batch, std::int64_t d_batch, std::int64_t row_end,
                      Stage stage = Stage::sums)
      : p_(p), m_(row_end), n_(p.n), batch_(batch), d_batch_(d_batch), stage_(stage) {}

  __device__ __forceinline__ Stage stage() const { return stage_; }
  __device__ __forceinline__ DirectStore<kQuantized> store_to(int output) const { return {p_, output, d_batch_}; }

  /// A warp's accumulator.
  template <int kRows, int kCols>
  __device__ __forceinline__ Fragments<kRows, kCols, kQuantized> fragments(float (&acc)[kRows * kCols * 16],
                                                                           std::int64_t first_row,
                                                                           std::int64_t first_col) const {
    return {acc, batch_, first_row, m_, first_col, n_};
  }

  /// Gated products. Of a warp's 16 rows the first half of the columns holds x, the second x2, kCols pieces of 32 each; the
  /// first half becomes activation(x) x2. Only a residual is left for store_warp_tile.
  template <int kCols>
  __device__ __forceinline__ void gate(float (&acc)[2 * kCols * 16], std::int64_t first_row, std::int64_t first_col) {
    const auto half = [&](int i) {
      return fragments<1, kCols>(reinterpret_cast<float (&)[kCols * 16]>(acc[i * kCols * 16]), first_row, first_col);
    };
    Fragments<1, kCols, kQuantized> x = half(0), x2 = half(1);
    gemm::gate(p_.terms, x, x2, stage_);
    stage_ = Stage::gated;
  }

  /// Sums of a warp to D. `staging` is the warp's own shared memory.
  template <int kRows, int kCols>
  __device__ __forceinline__ void store_warp_tile(float (&acc)[kRows * kCols * 16], void* staging, std::int64_t first_row,
                                                  std::int64_t first_col) const {
    if (first_row >= m_ || first_col >= n_) return;
    const int output = output_of(p_, first_col);
    const DirectStore<kQuantized> store = store_to(output);
    if (finishes_in_registers<kCols>(store, end_of(p_, output), first_col) && is_inside<kCols>(first_col)) {
      Fragments<kRows, kCols, kQuantized> x = fragments<kRows, kCols>(acc, first_row, first_col);
      if (has_terms()) apply(p_.terms, x, kQuantized ? stage_ : Stage::sums);
      store.store(x);
    } else {
      store_staged<kRows, kCols>(acc, staging, first_row, first_col);
    }
  }

  __device__ __forceinline__ bool is_scaled() const {
    const Terms& t = p_.terms;
    return static_cast<float>(t.alpha) != 1.0f ||
           (kQuantized && (t.row_scale.data != nullptr || t.column_scale.data != nullptr));
  }

  /// Whether there is anything to do but to store the values.
  __device__ __forceinline__ bool has_terms() const {
    const Terms& t = p_.terms;
    if constexpr (kQuantized) {
      if (t.amax != nullptr || t.out_scale != nullptr) return true;
    }
    if (stage_ == Stage::gated) return false;
    return (stage_ == Stage::sums && is_scaled()) || t.c.data != nullptr || t.bias.data != nullptr ||
           t.activation != Activation::none;
  }

  /// Whether 32 kCols columns stay in registers, one pass over them for each thing there is to do: D is aligned, `store` takes
  /// columns up to `end`, and there are only common terms, aligned too and for columns all inside D.
  template <int kCols>
  __device__ __forceinline__ bool finishes_in_registers(const DirectStore<kQuantized>& store, std::int64_t end,
                                                        std::int64_t first_col) const {
    const Terms& t = p_.terms;
    const auto is_aligned = [&](const Matrix& m) { return m.data == nullptr || RowVectors(m, batch_).wide; };
    const bool scaled = !kQuantized && (t.row_scale.data != nullptr || t.column_scale.data != nullptr),
               common = (stage_ == Stage::gated || (!scaled && t.bias.ld == 0)) &&
                        (kQuantized || t.column_scale.data == nullptr) && t.residual.data == nullptr &&
                        t.auxiliary == Auxiliary::none;
    if (kQuantized && has_zeros(p_)) return false;
    return common && store.d.wide && first_col + 32 * kCols <= end &&
           (!has_terms() || (is_inside<kCols>(first_col) && is_aligned(t.c) && is_aligned(t.bias)));
  }

  /// Whether 32 kCols columns lie inside D.
  template <int kCols>
  __device__ __forceinline__ bool is_inside(std::int64_t first_col) const {
    return first_col + 32 * kCols <= n_;
  }

  /// Edges and unaligned operands, piece by piece through shared memory.
  template <int kRows, int kCols>
  __device__ __forceinline__ void store_staged(const float* acc, void* staging, std::int64_t first_row,
                                               std::int64_t first_col) const {
    const int lane = threadIdx.x % 32, quad_row = lane / 4, quad = lane % 4;
    const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(staging));
    // Units of 4 floats, permuted within a row so that neither the writes of pairs nor the reads of units meet in a bank.
    const auto unit = [&](int row, int u) { return base + row * 128 + ((u ^ (2 * (row % 4)) ^ (row & 1)) * 16); };
#pragma unroll 1
    for (int piece = 0; piece < kRows * kCols; ++piece) {
      const std::int64_t row = first_row + piece / kCols * 16, col = first_col + piece % kCols * 32;
      if (row >= m_ || col >= n_) continue;
      const auto stage = [&](const float* values) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(unit(quad_row + 8 * h, 2 * j + quad / 2) + quad % 2 * 8),
                         "f"(values[4 * j + 2 * h]), "f"(values[4 * j + 2 * h + 1])
                         : "memory");
          }
        }
      };
      // A register has no run-time index: one comparison a piece.
#pragma unroll
      for (int i = 0; i < kRows * kCols; ++i) {
        if (piece == i) stage(acc + 16 * i);
      }
      __syncwarp();
#pragma unroll 1
      for (int h = 0; h < 2; ++h) {
        Float8 values;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float* to = values.x + 4 * i;
          asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                       : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
                       : "r"(unit(quad_row + 8 * h, 2 * quad + i))
                       : "memory");
        }
        if (row + quad_row + 8 * h < m_ && col + 8 * quad < n_)
          finish<kQuantized>(p_, batch_, d_batch_, row + quad_row + 8 * h, col + 8 * quad, stage_, values);
      }
      __syncwarp();
    }
  }

 private:
  const Problem& p_;
  std::int64_t m_, n_;
  std::int64_t batch_, d_batch_;
  Stage stage_;
};

/// Adds up the slices of a split K, in order, and runs the epilogue on the sum. One thread for 8 columns of a row.
static __global__ void split_k_reduce(const __grid_constant__ Problem p, const float* partial, int slices) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");  // started early, it has to await the sums
#endif
  const std::int64_t vectors = (p.n + 7) / 8, elements = p.batch * p.m * p.n;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < p.batch * p.m * vectors;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t col = i % vectors * 8, row = i / vectors % p.m, batch = i / vectors / p.m;
    Float8 sum = {};
    EightColumns<> x(sum.x, batch, row, col, p.n);
    for (int slice = 0; slice < slices; ++slice)
      add({const_cast<float*>(partial + slice * elements), p.n, 1, p.m * p.n, DType::f32}, 1.0f, x);
    finish<>(p, batch, batch, row, col, Stage::sums, sum);
  }
}

/// Of codes: of B's columns, and of A's rows less K zeros. A warp sums a line, whose elements lie side by side.
static __global__ void sum_codes(const __grid_constant__ Problem p, std::int32_t* a_sums, std::int32_t* b_sums) {
  const std::int64_t of_a = a_sums != nullptr ? p.batch * p.m : 0, lines = of_a + (b_sums != nullptr ? p.batch * p.n : 0),
                     lane = threadIdx.x % 32;
  const std::int64_t line = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (line >= lines) return;
  const bool is_a = line < of_a;
  const Matrix& x = is_a ? p.a : p.b;
  const std::int64_t extent = is_a ? p.m : p.n, index = is_a ? line : line - of_a, batch = index / extent,
                     in_batch = index % extent;
  const auto* from = static_cast<const std::int8_t*>(x.data) + batch * x.batch_stride + in_batch * x.ld;
  std::int32_t sum = 0;
  std::int64_t done = 0;
  if (reinterpret_cast<std::uint64_t>(from) % 16 == 0) {
    done = p.k / 16 * 16;
    for (std::int64_t k = lane * 16; k < done; k += 32 * 16) {
      const int4 x16 = *reinterpret_cast<const int4*>(from + k);
      for (const int four : {x16.x, x16.y, x16.z, x16.w}) sum = __dp4a(four, 0x01010101, sum);
    }
  }
  for (std::int64_t k = done + lane; k < p.k; k += 32) sum += from[k];
  sum = __reduce_add_sync(0xffffffffu, sum);
  if (lane != 0) return;
  if (!is_a) {
    b_sums[index] = sum;
  } else {
    const Matrix& zero = p.of_a.zero;
    const std::int32_t of_row =
        zero.data != nullptr ? static_cast<const std::int32_t*>(zero.data)[batch * zero.batch_stride + in_batch * zero.ld]
                             : 0;
    a_sums[index] = sum - static_cast<std::int32_t>(p.k) * of_row;
  }
}

/// The problem with the sums that zeros need, which the launch of sum_codes() puts at the beginning of the workspace.
inline Problem with_zero_sums(const Problem& asked, void* workspace) {
  Problem p = asked;
  auto* sums = static_cast<std::int32_t*>(workspace);
  if (p.of_b.zero.data != nullptr) p.a_sums = {sums, 1, 0, p.m, DType::f32};
  if (p.of_a.zero.data != nullptr) p.b_sums = {sums + p.batch * p.m, 0, 1, p.n, DType::f32};
  return p;
}

inline void sum_codes_for_zeros(const Problem& p, const Launch& launch) {
  const std::int64_t lines = (p.a_sums.data != nullptr ? p.batch * p.m : 0) + (p.b_sums.data != nullptr ? p.batch * p.n : 0);
  launch_kernel("launch of the kernel that sums codes", launch.stream, {(lines + 7) / 8, 256}, sum_codes, p,
                static_cast<std::int32_t*>(p.a_sums.data), static_cast<std::int32_t*>(p.b_sums.data));
}

/// The problem whose D is the partial sums of `slices` slices of K, one matrix after another in the workspace.
inline Problem partial_sums(const Problem& p, void* workspace, DType type = DType::f32) {
  Problem sums = p;
  sums.d = {workspace, p.n, 1, p.m * p.n, type};
  for (FurtherOutput& output : sums.further) output = {};
  sums.terms = {};
  sums.terms.alpha = 1;
  return sums;
}

/// With `early`, the reduction's blocks start before the kernel in front of it ends (and must have been let in by that
/// kernel: griddepcontrol.launch_dependents), which hides a part of a launch: 1 of 20 microseconds at 1 x 4096 x 4096 on an
/// H200.
inline void reduce_split_k(const Problem& p, const Launch& launch, bool early = false) {
  const std::int64_t vectors = p.batch * p.m * ((p.n + 7) / 8);
  const std::int64_t blocks = std::min<std::int64_t>((vectors + 255) / 256, std::int64_t{8} * launch.sm_count);
  launch_kernel("launch of the split K reduction", launch.stream, {blocks, 256, 0, 1, early}, split_k_reduce, p,
                static_cast<const float*>(launch.workspace), launch.split_k);
}

}  // namespace cutplan::gemm
