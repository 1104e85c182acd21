// The epilogue that every 16-bit and TF32 CUDA GEMM kernel of this family runs: gemm.hpp has its formulas.
//
// What is present, of what type, and which activation is decided at run time: every branch is uniform over the grid, where a
// kernel per combination would cost compile time and wheel size.
//
// Data movement. mma.sync m16n8 and wgmma m64nN leave the accumulator alike: in each 16 x 8 block, lane l of the warp holds
// columns 2 (l % 4) and 2 (l % 4) + 1 of rows l / 4 and l / 4 + 8. Inside D, with aligned operands, the common terms (alpha,
// C, bias over n, activation) happen in these registers. From there results go to D in 16-byte accesses, made by shuffles
// within a quad of lanes; or, where TMA is there to take them on, to boxes in shared memory (stage_16_bits, stage_32_bits).
// For the other terms, at D's edges and for unaligned operands a warp moves 16 rows by 32 columns at a time through 2 KiB of
// shared memory of its own, so that each lane comes to hold up to 8 neighbouring columns. That loop is not unrolled: the
// code for one piece has all the branches in it, and eight copies (20000 instructions) ran at the pace of instruction cache
// misses, 11000 cycles for a 128 x 256 tile.
#pragma once

#include <algorithm>

#include "core/launch.hpp"
#include "core/sm80/convert.cuh"
#include "core/sm80/math.cuh"
#include "core/sm80/memory.cuh"
#include "core/sm80/warp.cuh"
#include "gemm/kernel.hpp"

namespace cutplan::gemm {

using namespace cutplan::sm80;

/// erf to 1.5e-7 absolute (Abramowitz and Stegun 1964, 7.1.26): a third of the instructions of erff, and its error is within
/// the bound's.
__device__ __forceinline__ float erf_approx(float x) {
  const float t = reciprocal_approx(fmaf(0.3275911f, fabsf(x), 1.0f));
  const float poly =
      t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
  return copysignf(fmaf(-poly, exp_approx(-x * x), 1.0f), x);
}

__device__ __forceinline__ float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::relu: return x < 0.0f ? 0.0f : x;  // keeps NaN
    case Activation::gelu_erf: return 0.5f * x * (1.0f + erf_approx(x * 0.70710678118654752f));
    case Activation::gelu_tanh: {
      // x/2 (1 + tanh u) = x sigmoid(2u)
      const float u = 0.79788456080286536f * (x + 0.044715f * x * x * x);
      return x * reciprocal_approx(1.0f + exp_approx(-2.0f * u));
    }
    case Activation::silu: return x * reciprocal_approx(1.0f + exp_approx(-x));
    case Activation::none: break;
  }
  return x;
}

/// The activation's derivative.
__device__ __forceinline__ float derivative(Activation activation, float x) {
  // Beyond 30 it is 0 or 1, and x^3 must not overflow; NaN stays.
  x = fabsf(x) > 30.0f ? copysignf(30.0f, x) : x;
  switch (activation) {
    case Activation::relu: return x > 0.0f ? 1.0f : x <= 0.0f ? 0.0f : x;
    case Activation::gelu_erf:
      return fmaf(x * 0.39894228040143268f, exp_approx(-0.5f * x * x), 0.5f + 0.5f * erf_approx(x * 0.70710678118654752f));
    case Activation::gelu_tanh: {
      const float square = x * x, u = 0.79788456080286536f * fmaf(0.044715f * square, x, x),
                  du = 0.79788456080286536f * fmaf(3 * 0.044715f, square, 1.0f),
                  sigmoid = reciprocal_approx(1.0f + exp_approx(-2.0f * u));
      return fmaf(2.0f * x * du * sigmoid, 1.0f - sigmoid, sigmoid);
    }
    case Activation::silu: {
      const float sigmoid = reciprocal_approx(1.0f + exp_approx(-x));
      return sigmoid * fmaf(x, 1.0f - sigmoid, 1.0f);
    }
    case Activation::none: break;
  }
  return 1.0f;
}

/// A row-major operand of the epilogue whose type is known at run time, read and written 8 columns at a time.
struct RowVectors {
  void* data;             // of the present matrix of the batch
  std::int64_t ld, step;  // step: from a column to the next; what is stored has 1
  DType type;
  bool wide;  // 16-byte accesses are aligned

  __device__ RowVectors(const void* base, std::int64_t ld, std::int64_t batch_stride, std::int64_t batch, DType type,
                        std::int64_t step = 1)
      : ld(ld), step(step), type(type) {
    const std::int64_t bytes = type == DType::f32 ? 4 : 2;
    data = const_cast<char*>(static_cast<const char*>(base)) + batch * batch_stride * bytes;
    wide = ((reinterpret_cast<std::uint64_t>(data) | static_cast<std::uint64_t>(ld * bytes)) & 15) == 0 && step == 1;
  }

  /// One value of a vector.
  __device__ __forceinline__ float at(std::int64_t i) const {
    return type == DType::f32 ? __ldg(static_cast<const float*>(data) + i)
                              : widen(type, __ldg(static_cast<const std::uint16_t*>(data) + i));
  }

  /// x += scale * the `count` elements at (row, col).
  __device__ __forceinline__ void add_to(float (&x)[8], float scale, std::int64_t row, std::int64_t col, int count) const {
    const std::int64_t first = row * ld + col * step;
    if (type == DType::f32) {
      const float* from = static_cast<const float*>(data) + first;
      if (wide && count == 8) {
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
          const float4 v = *reinterpret_cast<const float4*>(from + i);
          x[i] = fmaf(scale, v.x, x[i]);
          x[i + 1] = fmaf(scale, v.y, x[i + 1]);
          x[i + 2] = fmaf(scale, v.z, x[i + 2]);
          x[i + 3] = fmaf(scale, v.w, x[i + 3]);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i, from += step) {
          if (i < count) x[i] = fmaf(scale, *from, x[i]);
        }
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
      for (int i = 0; i < 8; ++i) {
        if (i < count) x[i] = fmaf(scale, widen(type, static_cast<std::uint16_t>(word[i / 2] >> (16 * (i % 2)))), x[i]);
      }
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

/// Shared memory that store_warp_tile needs for each warp, in bytes; 16-byte aligned.
inline constexpr int staging_bytes = 16 * 32 * 4;

struct Float8 {
  float x[8];
};

/// Sums to results, in full generality: 8 columns of row `row` from `col` on, of which those inside D are stored. After a
/// gate only the residual is left to add. A function of its own, because its needs would otherwise push accumulators out of
/// registers everywhere (200 bytes of spills).
__device__ __noinline__ static void finish(const Problem& p, std::int64_t batch, std::int64_t d_batch, std::int64_t row,
                                           std::int64_t col, bool gated, Float8 values) {
  float (&x)[8] = values.x;
  const int count = p.n - col < 8 ? static_cast<int>(p.n - col) : 8;
  if (!gated) {
    const auto alpha = static_cast<float>(p.alpha), factor = p.row_scale == nullptr ? alpha : alpha * p.row_scale[row];
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] *= factor;
    if (p.column_scale != nullptr) {
      const float* scale = p.column_scale + batch * p.batch_column_scale + col;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i < count) x[i] *= scale[i];
      }
    }
    if (p.c != nullptr)
      RowVectors(p.c, p.ldc, p.batch_c, batch, p.c_type, p.c_step).add_to(x, static_cast<float>(p.beta), row, col, count);
    if (p.bias != nullptr) {
      const RowVectors bias(p.bias, 0, p.batch_bias, batch, p.bias_type);
      if (p.bias_over_m) {
        const float value = bias.at(row);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] += value;
      } else {
        bias.add_to(x, 1.0f, 0, col, count);
      }
    }
    const RowVectors aux(p.aux, p.ld_aux, p.batch_aux, batch, p.aux_type, p.aux_step);
    if (p.auxiliary == Auxiliary::gradient) {
      float at[8] = {};
      aux.add_to(at, 1.0f, row, col, count);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= derivative(p.activation, at[i]);
    } else {
      if (p.auxiliary == Auxiliary::store) aux.store(x, row, col, count);
      if (p.activation != Activation::none) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = activate(p.activation, x[i]);
      }
    }
  }
  if (p.residual != nullptr)
    RowVectors(p.residual, p.ld_residual, p.batch_residual, batch, p.residual_type, p.residual_step)
        .add_to(x, 1.0f, row, col, count);
  RowVectors(p.d, p.ldd, p.batch_d, d_batch, p.d_type).store(x, row, col, count);
}

/// `rows` lines of a box of 128 bytes each, 16 at most, of which `width` bytes lie inside D. A function of its own, since it is
/// seldom needed, and code in the way of the usual costs instruction fetches.
__device__ __noinline__ static void copy_lines(const char* box, char* to, std::int64_t pitch, int rows, int width) {
  const int lane = threadIdx.x % 32, chunk = lane % 8;
  __syncwarp();
#pragma unroll 1
  for (int i = lane / 8; i < rows; i += 4) {
    const char* from = box + i * 128 + (chunk ^ i % 8) * 16;
    char* chunk_to = to + i * pitch + chunk * 16;
    if (chunk * 16 + 16 <= width) {
      *reinterpret_cast<uint4*>(chunk_to) = *reinterpret_cast<const uint4*>(from);
    } else {
#pragma unroll 1
      for (int j = 0; j < width - chunk * 16; j += 2)
        *reinterpret_cast<std::uint16_t*>(chunk_to + j) = *reinterpret_cast<const std::uint16_t*>(from + j);
    }
  }
}

/// Whether the epilogue is alpha alone.
inline bool is_plain(const Problem& p) {
  return p.c == nullptr && p.bias == nullptr && p.residual == nullptr && p.row_scale == nullptr &&
         p.column_scale == nullptr && p.activation == Activation::none && p.auxiliary == Auxiliary::none &&
         p.gate == Gate::none;
}

/// x = activation(x) x2, where x and x2 are sums of the two products of a gate, 8 columns of row `row` from `col` on.
__device__ __forceinline__ void gate(const Problem& p, std::int64_t batch, std::int64_t row, std::int64_t col, Float8& x,
                                     const Float8& x2) {
  const float factor = static_cast<float>(p.alpha) * (p.row_scale == nullptr ? 1.0f : __ldg(p.row_scale + row));
  const RowVectors bias(p.bias, 0, p.batch_bias, batch, p.bias_type), bias2(p.bias2, 0, p.batch_bias, batch, p.bias_type);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const bool biased = p.bias != nullptr && col + i < p.n;
    const float b1 = biased ? bias.at((col + i) * p.bias_step) : 0.0f,
                b2 = biased ? bias2.at((col + i) * p.bias_step) : 0.0f;
    x.x[i] = activate(p.activation, fmaf(x.x[i], factor, b1)) * fmaf(x2.x[i], factor, b2);
  }
}

/// The epilogue of one matrix of the batch, or one group.
class Epilogue {
 public:
  /// `d_batch` is D's index in its batch; it differs from the others' where K is split and D is the workspace. Rows from
  /// `row_end` on are not stored.
  __device__ Epilogue(const Problem& p, std::int64_t batch, std::int64_t d_batch, std::int64_t row_end)
      : p_(p),
        m_(row_end),
        n_(p.n),
        alpha_(static_cast<float>(p.alpha)),
        beta_(static_cast<float>(p.beta)),
        activation_(p.activation),
        c_(p.c, p.ldc, p.batch_c, batch, p.c_type, p.c_step),
        bias_(p.bias, 0, p.batch_bias, batch, p.bias_type),
        d_(p.d, p.ldd, p.batch_d, d_batch, p.d_type),
        batch_(batch),
        d_batch_(d_batch),
        has_c_(p.c != nullptr),
        has_bias_(p.bias != nullptr) {}

  /// Gated products. Of a warp's 16 rows the first half of the columns holds x, the second x2, kCols pieces of 32 each; the
  /// first half becomes activation(x) x2. Only a residual is left for store_warp_tile.
  template <int kCols>
  __device__ __forceinline__ void gate(float (&acc)[2 * kCols * 16], std::int64_t first_row, std::int64_t first_col) {
    const int lane = threadIdx.x % 32;
    const RowVectors bias2(p_.bias2, 0, p_.batch_bias, batch_, p_.bias_type);
    float factor[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::int64_t row = first_row + lane / 4 + 8 * h;
      factor[h] = static_cast<float>(p_.alpha) * (p_.row_scale != nullptr && row < m_ ? __ldg(p_.row_scale + row) : 1.0f);
    }
#pragma unroll
    for (int j = 0; j < 4 * kCols; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int64_t col = first_col + 8 * j + lane % 4 * 2 + i;
        const bool biased = p_.bias != nullptr && col < n_;
        const float b1 = biased ? bias_.at(col * p_.bias_step) : 0.0f, b2 = biased ? bias2.at(col * p_.bias_step) : 0.0f;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          acc[4 * j + 2 * h + i] = fmaf(acc[4 * j + 2 * h + i], factor[h], b1);
          float& x2 = acc[16 * kCols + 4 * j + 2 * h + i];
          x2 = fmaf(x2, factor[h], b2);
        }
      }
    }
    float (&x)[kCols * 16] = reinterpret_cast<float (&)[kCols * 16]>(acc);
    activate_all(p_.activation, x);
#pragma unroll
    for (int i = 0; i < kCols * 16; ++i) x[i] *= acc[kCols * 16 + i];
    gated_ = true;
    alpha_ = 1;
    has_bias_ = false;
    activation_ = Activation::none;
  }

  /// A warp's accumulator: kRows pieces of 16 rows by kCols pieces of 32 columns, each piece 16 values a lane: value 4 j + 2
  /// h + i is row lane / 4 + 8 h, column 8 j + 2 (lane % 4) + i. `staging` is the warp's own shared memory.
  template <int kRows, int kCols>
  __device__ __forceinline__ void store_warp_tile(float (&acc)[kRows * kCols * 16], void* staging, std::int64_t first_row,
                                                  std::int64_t first_col) const {
    if (first_row >= m_ || first_col >= n_) return;
    if (finishes_in_registers<kCols>(first_col) && is_inside<kCols>(first_col)) {
      if (has_terms()) finish_interior<kRows, kCols>(acc, first_row, first_col);
      store_interior<kRows, kCols>(acc, first_row, first_col);
    } else {
      store_staged<kRows, kCols>(acc, staging, first_row, first_col);
    }
  }

  /// Whether there is anything to do but to store the sums.
  __device__ __forceinline__ bool has_terms() const {
    return alpha_ != 1.0f || has_c_ || has_bias_ || activation_ != Activation::none;
  }

  /// Whether 32 kCols columns need no more than finish_interior: D is aligned, and there are only common terms, aligned too
  /// and for columns all inside D.
  template <int kCols>
  __device__ __forceinline__ bool finishes_in_registers(std::int64_t first_col) const {
    const bool common = (gated_ || p_.row_scale == nullptr) && p_.column_scale == nullptr && p_.residual == nullptr &&
                        p_.auxiliary == Auxiliary::none && !(has_bias_ && p_.bias_over_m);
    return common && d_.wide &&
           (!has_terms() || (is_inside<kCols>(first_col) && (!has_c_ || c_.wide) && (!has_bias_ || bias_.wide)));
  }
  /// Whether 32 kCols columns lie inside D.
  template <int kCols>
  __device__ __forceinline__ bool is_inside(std::int64_t first_col) const {
    return first_col + 32 * kCols <= n_;
  }

  /// Interior results to shared memory, from where TMA takes them: the least work for a warp. Its 16 rows, from `row` on, of a
  /// box of 64 rows of 128 bytes, whose chunks of 16 lie in the order of the 128-byte swizzle.
  __device__ __forceinline__ void stage_16_bits(const float (&x)[32], void* box, int row) const {
    const int lane = threadIdx.x % 32, of_8 = lane % 8;
    const std::uint32_t to = static_cast<std::uint32_t>(__cvta_generic_to_shared(box)) + (row + of_8) * 128;
    const auto store = [&](DType type) {
#pragma unroll
      for (int line = 0; line < 2; ++line) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          std::uint32_t word[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int i = at<2>(line, c, j, 0);
            word[j] = narrow_pair(type, x[i], x[i + 1]);
          }
          asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                           to + line * 1024 + ((4 * c + lane / 8) ^ of_8) * 16),
                       "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3])
                       : "memory");
        }
      }
    };
    if (d_.type == DType::f16) {
      store(DType::f16);
    } else {
      store(DType::bf16);
    }
  }
  __device__ __forceinline__ void stage_32_bits(const float (&x)[16], void* box, int row) const {
    const int lane = threadIdx.x % 32, of_8 = lane / 4, quad = lane % 4;
    const std::uint32_t to = static_cast<std::uint32_t>(__cvta_generic_to_shared(box)) + (row + of_8) * 128 + quad % 2 * 8;
#pragma unroll
    for (int line = 0; line < 2; ++line) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = at<1>(line, 0, j, 0);
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + line * 1024 + ((2 * j + quad / 2) ^ of_8) * 16),
                     "f"(x[i]), "f"(x[i + 1])
                     : "memory");
      }
    }
  }

  /// A warp's 16 rows of a box, from `row` on, to those of D from `first_row` on, where TMA does not know which rows are D's.
  __device__ __forceinline__ void copy_box(const char* box, int row, std::int64_t first_row, std::int64_t first_col) const {
    const int bytes = d_.type == DType::f32 ? 4 : 2;
    copy_lines(box + row * 128, static_cast<char*>(d_.data) + (first_row * d_.ld + first_col) * bytes, d_.ld * bytes,
               static_cast<int>(min(m_ - first_row, std::int64_t{16})),
               static_cast<int>(min((n_ - first_col) * bytes, std::int64_t{128})));
  }

  /// Interior sums to results: the accumulator stays where it is, one pass over the registers for each thing there is to do.
  template <int kRows, int kCols>
  __device__ __forceinline__ void finish_interior(float (&x)[kRows * kCols * 16], std::int64_t first_row,
                                                  std::int64_t first_col) const {
    constexpr int kLines = 2 * kRows;  // of 8 rows, one a quad
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const std::int64_t row = first_row + lane / 4;
    const int rows = static_cast<int>(min(m_ - row, std::int64_t{16 * kRows}));
    const auto at = Epilogue::at<kCols>;
    if (alpha_ != 1.0f) {
#pragma unroll
      for (int i = 0; i < kRows * kCols * 16; ++i) x[i] *= alpha_;
    }
    if (has_c_ && c_.type == DType::f32) {
      const float* c_line = static_cast<const float*>(c_.data) + row * c_.ld + first_col + 2 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, c_line += 8 * c_.ld) {
        if (8 * line >= rows) continue;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 v = *reinterpret_cast<const float2*>(c_line + 32 * c + 8 * j);
            x[at(line, c, j, 0)] = fmaf(beta_, v.x, x[at(line, c, j, 0)]);
            x[at(line, c, j, 1)] = fmaf(beta_, v.y, x[at(line, c, j, 1)]);
          }
        }
      }
    } else if (has_c_) {
      const std::uint16_t* c_line = static_cast<const std::uint16_t*>(c_.data) + row * c_.ld + first_col + 8 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, c_line += 8 * c_.ld) {
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          const uint4 v = 8 * line < rows ? *reinterpret_cast<const uint4*>(c_line + 32 * c) : make_uint4(0, 0, 0, 0);
          std::uint32_t word[4] = {v.x, v.y, v.z, v.w};
          transpose_quad(word, lane);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            x[at(line, c, j, 0)] = fmaf(beta_, widen(c_.type, static_cast<std::uint16_t>(word[j])), x[at(line, c, j, 0)]);
            x[at(line, c, j, 1)] =
                fmaf(beta_, widen(c_.type, static_cast<std::uint16_t>(word[j] >> 16)), x[at(line, c, j, 1)]);
          }
        }
      }
    }
    if (has_bias_) {
      // Loads first: each waits for L2, all of them together no longer.
      const auto add = [&](int c, int j, float low, float high) {
#pragma unroll
        for (int line = 0; line < kLines; ++line) {
          x[at(line, c, j, 0)] += low;
          x[at(line, c, j, 1)] += high;
        }
      };
      const std::int64_t col = first_col + 2 * quad;
      if (bias_.type == DType::f32) {
        const float* bias = static_cast<const float*>(bias_.data) + col;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          float2 v[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) v[j] = *reinterpret_cast<const float2*>(bias + 32 * c + 8 * j);
#pragma unroll
          for (int j = 0; j < 4; ++j) add(c, j, v[j].x, v[j].y);
        }
      } else {
        const std::uint16_t* bias = static_cast<const std::uint16_t*>(bias_.data) + col;
        std::uint32_t v[4 * kCols];
#pragma unroll
        for (int i = 0; i < 4 * kCols; ++i) v[i] = *reinterpret_cast<const std::uint32_t*>(bias + 8 * i);
#pragma unroll
        for (int i = 0; i < 4 * kCols; ++i) {
          add(i / 4, i % 4, widen(bias_.type, static_cast<std::uint16_t>(v[i])),
              widen(bias_.type, static_cast<std::uint16_t>(v[i] >> 16)));
        }
      }
    }
    activate_all(activation_, x);
  }

  /// Interior results to D.
  template <int kRows, int kCols>
  __device__ __forceinline__ void store_interior(const float (&x)[kRows * kCols * 16], std::int64_t first_row,
                                                 std::int64_t first_col) const {
    constexpr int kLines = 2 * kRows;  // of 8 rows, one a quad
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const std::int64_t row = first_row + lane / 4;
    const int rows = static_cast<int>(min(m_ - row, std::int64_t{16 * kRows}));
    const auto at = Epilogue::at<kCols>;
    if (d_.type == DType::f32) {
      // The pairs of a quad fill a 32-byte sector as they are.
      float* d_line = static_cast<float*>(d_.data) + row * d_.ld + first_col + 2 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, d_line += 8 * d_.ld) {
        if (8 * line >= rows) continue;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
#pragma unroll
          for (int j = 0; j < 4; ++j)
            *reinterpret_cast<float2*>(d_line + 32 * c + 8 * j) = make_float2(x[at(line, c, j, 0)], x[at(line, c, j, 1)]);
        }
      }
    } else {
      // The lanes of a quad transpose their pairs of columns, so that each writes 16 bytes and a warp 8 rows of 64.
      std::uint16_t* d_line = static_cast<std::uint16_t*>(d_.data) + row * d_.ld + first_col + 8 * quad;
#pragma unroll
      for (int line = 0; line < kLines; ++line, d_line += 8 * d_.ld) {
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
          std::uint32_t word[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) word[j] = narrow_pair(d_.type, x[at(line, c, j, 0)], x[at(line, c, j, 1)]);
          transpose_quad(word, lane);
          if (8 * line < rows) store_16_bytes(d_line + 32 * c, word);
        }
      }
    }
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
      // A register has no run-time index: one case a piece.
      static_assert(kRows * kCols <= 8);
      switch (piece) {
        case 0: stage(acc); break;
        case 1:
          if constexpr (kRows * kCols > 1) stage(acc + 16);
          break;
        case 2:
          if constexpr (kRows * kCols > 2) stage(acc + 32);
          break;
        case 3:
          if constexpr (kRows * kCols > 3) stage(acc + 48);
          break;
        case 4:
          if constexpr (kRows * kCols > 4) stage(acc + 64);
          break;
        case 5:
          if constexpr (kRows * kCols > 5) stage(acc + 80);
          break;
        case 6:
          if constexpr (kRows * kCols > 6) stage(acc + 96);
          break;
        case 7:
          if constexpr (kRows * kCols > 7) stage(acc + 112);
          break;
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
          finish(p_, batch_, d_batch_, row + quad_row + 8 * h, col + 8 * quad, gated_, values);
      }
      __syncwarp();
    }
  }

 private:
  /// One loop an activation: a switch in the loop would be there once for each value.
  template <int kCount>
  __device__ __forceinline__ static void activate_all(Activation activation, float (&x)[kCount]) {
    const auto each = [&](auto function) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) x[i] = function(x[i]);
    };
    switch (activation) {
      case Activation::none: break;
      case Activation::relu: each([](float v) { return activate(Activation::relu, v); }); break;
      case Activation::gelu_erf: each([](float v) { return activate(Activation::gelu_erf, v); }); break;
      case Activation::gelu_tanh: each([](float v) { return activate(Activation::gelu_tanh, v); }); break;
      case Activation::silu: each([](float v) { return activate(Activation::silu, v); }); break;
    }
  }

  /// Where value i of column pair j in piece c of a line of 8 rows is.
  template <int kCols>
  __device__ __forceinline__ static constexpr int at(int line, int c, int j, int i) {
    return 16 * (line / 2 * kCols + c) + 4 * j + 2 * (line % 2) + i;
  }

  const Problem& p_;
  std::int64_t m_, n_;
  float alpha_, beta_;
  Activation activation_;
  RowVectors c_, bias_, d_;
  std::int64_t batch_, d_batch_;
  bool has_c_, has_bias_, gated_ = false;
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
    const int count = p.n - col < 8 ? static_cast<int>(p.n - col) : 8;
    Float8 sum = {};
    for (int slice = 0; slice < slices; ++slice)
      RowVectors(partial + slice * elements, p.n, p.m * p.n, batch, DType::f32).add_to(sum.x, 1.0f, row, col, count);
    finish(p, batch, batch, row, col, false, sum);
  }
}

/// The problem whose D is the partial sums of `slices` slices of K, one matrix after another in the workspace.
inline Problem partial_sums(const Problem& p, void* workspace) {
  Problem sums = p;
  sums.d = workspace;
  sums.d_type = DType::f32;
  sums.ldd = p.n;
  sums.batch_d = p.m * p.n;
  sums.alpha = 1;
  sums.c = sums.bias = sums.residual = nullptr;
  sums.row_scale = sums.column_scale = nullptr;
  sums.activation = Activation::none;
  sums.auxiliary = Auxiliary::none;
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
