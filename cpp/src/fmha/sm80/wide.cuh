// Attention with float32 or float64 operands, forward and backward, for Ampere and everything after it: every option, every
// head dimension up to 256, one instantiation per arithmetic. Made for accuracy and completeness rather than for races.
//
// Data movement. A block of 256 threads owns a tile of kSide queries (or, for dK and dV, keys) and loops over the tiles of
// the other side. Each product is one of squares of kSide that lie in shared memory, padded with zeros beyond the operands:
//   scores, and dP alike: slices of both operands' head dimension are staged (cp.async, an element at a time, so that any
//   alignment will do), multiplied in registers and summed in shared memory;
//   row by row, softmax in the forward, or P and dS in the backward, replace them there: four or eight threads to a row;
//   O, dQ, dK or dV: slices of the other operand's head dimension are staged and multiplied from the left by these weights,
//   and the products added to sums in registers, which hold the whole head dimension.
// D, the row sums of grad O, how to find a row's weights, and the row sums of which the gradient of the ALiBi slopes consists go through the workspace.
//
// Order of summation. Each product over kSide terms is summed from zero and then added to its total, tiles and slices in
// order: errors grow with the number of tiles, and TF32 tensor cores, which truncate rather than round when they add, do so
// over kSide terms only. Nothing is added atomically and tiles start at multiples of kSide, so results are deterministic and
// an element's bits do not depend on the batch.
//
// Why these tiles. kSide is 64 for float32 and 32 for float64: then dK and dV at head dimension 256 fit 128 registers of
// each of the 256 threads, and the forward's squares fit shared memory twice over on an A100 and once in 99 KiB.
#pragma once

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cute/arch/mma_sm80.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/kernel.hpp"
#include "core/launch.hpp"
#include "fmha/kernel.hpp"
#include "fmha/sm80/scores.cuh"

namespace cutplan::fmha::sm80 {

inline constexpr int wide_threads = 256, wide_dim = 256;

/// Blocks of a kernel on an SM, by the registers of its sums: one operand's, or dK's and dV's.
inline constexpr int wide_blocks = 2, wide_blocks_dkv = 1;

// ---- Arithmetic: products of squares, and who holds which element of one ----

/// The shape of a square of kSide, in shared memory and in the registers of a block.
template <typename T_>
struct Square {
  using T = T_;
  static constexpr int kSide = 256 / static_cast<int>(sizeof(T));
  static constexpr int kElements = kSide * kSide / wide_threads;
  static constexpr int kSlices = wide_dim / kSide;
  static constexpr int kParts = wide_threads / kSide;  // threads that share a row, neighbours in a warp

  struct Sums {
    T x[kElements];
  };
};

/// Fused multiply-adds on CUDA cores: thread (y, x) of 16 x 16 holds the elements (y + 16 i, x + 16 j).
template <typename T>
struct CudaCores : Square<T> {
  using S = Square<T>;
  static constexpr T kRounding = sizeof(T) == 8 ? T(0x1p-46) : T(0x1p-18);  // of a dot product, as far_row() has it
  static constexpr int kVector = 8 / static_cast<int>(sizeof(T));           // along the inner extent, read together
  static constexpr int kPitch = S::kSide + kVector;                         // a column of vectors lies in all banks
  static constexpr int kPitchAcross = kPitch;
  static constexpr int kEdge = S::kSide / 16;

  /// f(row, column, i) for each of the thread's elements.
  template <typename F>
  __device__ __forceinline__ static void each(F f) {
#pragma unroll
    for (int i = 0; i < S::kElements; ++i) {
      f(static_cast<int>(threadIdx.x) / 16 + i / kEdge * 16, static_cast<int>(threadIdx.x) % 16 + i % kEdge * 16, i);
    }
  }

  /// a b, or a b^T where not kAcross, over `depth` terms.
  template <bool kAcross>
  __device__ __forceinline__ static typename S::Sums product(const T* a, const T* b, int depth) {
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
    typename S::Sums sums = {};
#pragma unroll 1
    for (int k = 0; k < depth; k += kVector) {
      T left[kEdge][kVector], right[kEdge][kVector];
#pragma unroll
      for (int i = 0; i < kEdge; ++i) {
        load(left[i], a + (y + 16 * i) * kPitch + k);
        if constexpr (kAcross) {
#pragma unroll
          for (int v = 0; v < kVector; ++v) right[i][v] = b[(k + v) * kPitchAcross + x + 16 * i];
        } else {
          load(right[i], b + (x + 16 * i) * kPitch + k);
        }
      }
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
#pragma unroll
        for (int i = 0; i < S::kElements; ++i) {
          sums.x[i] = fma(left[i / kEdge][v], right[i % kEdge][v], sums.x[i]);
        }
      }
    }
    return sums;
  }

 private:
  __device__ __forceinline__ static void load(float (&to)[2], const float* from) {
    const float2 v = *reinterpret_cast<const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  }
  __device__ __forceinline__ static void load(double (&to)[1], const double* from) { to[0] = *from; }
};

/// A float32 number as the sum of two TF32 numbers, each rounded to nearest.
struct Tf32Pair {
  std::uint32_t big, small;

  Tf32Pair() = default;
  __device__ __forceinline__ explicit Tf32Pair(float x) : big(round(x)), small(round(x - value(big))) {}

  __device__ __forceinline__ static std::uint32_t round(float x) {
    std::uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
  }
  __device__ __forceinline__ static float value(std::uint32_t bits) {
    float x;
    asm("mov.b32 %0, %1;" : "=f"(x) : "r"(bits));
    return x;
  }
};

/// TF32 tensor cores. Where kSplit each factor is a pair, 22 bits, and a product the sum of three: what is left out is the
/// product of the small halves, 2^-22 of the whole. Warps stand 4 x 2, each on 16 rows and 32 columns.
template <bool kSplit>
struct Tf32 : Square<float> {
  static constexpr float kRounding = kSplit ? 0x1p-18f : 0x1p-9f;
  static constexpr int kPitch = kSide + 4;        // eight rows of four neighbours lie in all banks
  static constexpr int kPitchAcross = kSide + 8;  // four rows of eight neighbours do

  template <typename F>
  __device__ __forceinline__ static void each(F f) {
    const int lane = threadIdx.x % 32, row = first_row() + lane / 4, column = first_column() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kElements; ++i) f(row + i % 4 / 2 * 8, column + i / 4 * 8 + i % 2, i);
  }

  template <bool kAcross>
  __device__ __forceinline__ static Sums product(const float* a, const float* b, int depth) {
    const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
    a += (first_row() + group) * kPitch + member;
    b += kAcross ? member * kPitchAcross + first_column() + group : (first_column() + group) * kPitch + member;
    Sums sums = {};
#pragma unroll 1
    for (int k = 0; k < depth; k += 8) {
      Tf32Pair left[4], right[4][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) left[i] = Tf32Pair(a[k + i % 2 * 8 * kPitch + i / 2 * 4]);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          right[n][i] = Tf32Pair(kAcross ? b[(k + 4 * i) * kPitchAcross + 8 * n] : b[8 * n * kPitch + k + 4 * i]);
        }
      }
      // Small terms first, and neighbours in issue order on different sums.
      if constexpr (kSplit) {
#pragma unroll
        for (int n = 0; n < 4; ++n) multiply<&Tf32Pair::small, &Tf32Pair::big>(sums.x + 4 * n, left, right[n]);
#pragma unroll
        for (int n = 0; n < 4; ++n) multiply<&Tf32Pair::big, &Tf32Pair::small>(sums.x + 4 * n, left, right[n]);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) multiply<&Tf32Pair::big, &Tf32Pair::big>(sums.x + 4 * n, left, right[n]);
    }
    return sums;
  }

 private:
  template <std::uint32_t Tf32Pair::* left, std::uint32_t Tf32Pair::* right>
  __device__ __forceinline__ static void multiply(float* sums, const Tf32Pair (&a)[4], const Tf32Pair (&b)[2]) {
    cute::SM80_16x8x8_F32TF32TF32F32_TN::fma(sums[0], sums[1], sums[2], sums[3], a[0].*left, a[1].*left, a[2].*left,
                                             a[3].*left, b[0].*right, b[1].*right, sums[0], sums[1], sums[2], sums[3]);
  }

  __device__ __forceinline__ static int first_row() { return threadIdx.x / 64 * 16; }
  __device__ __forceinline__ static int first_column() { return threadIdx.x / 32 % 2 * 32; }
};

// ---- Operands ----

/// The rows of one sequence and head.
template <typename T>
struct Matrix {
  const T* data;
  std::int64_t stride, rows;
  int columns;
};

template <typename T>
__device__ __forceinline__ Matrix<T> matrix(const void* data, const Strides& s, std::int64_t batch, std::int64_t head,
                                            std::int64_t first, std::int64_t rows, std::int64_t columns) {
  return {static_cast<const T*>(data) + batch * s.batch + head * s.head + first * s.row, s.row, rows,
          static_cast<int>(columns)};
}

/// Starts the copy of a square of a matrix, padded with zeros, to shared memory.
template <typename Math, int kPitch, typename T>
__device__ __forceinline__ void stage(T* to, const Matrix<T>& m, std::int64_t row0, int column0) {
  constexpr int kSide = Math::kSide, kStep = wide_threads / kSide, kCopies = kSide / kStep;
  const int column = threadIdx.x % kSide, row = threadIdx.x / kSide;
  const int rows = column0 + column < m.columns ? static_cast<int>(min(m.rows - row0, std::int64_t{kSide})) : 0;
  const T* from = m.data + (row0 + row) * m.stride + column0 + column;
  to += row * kPitch + column;
#pragma unroll 2
  for (int i = 0; i < kCopies; ++i, from += kStep * m.stride) {
    const bool inside = row + i * kStep < rows;
    __pipeline_memcpy_async(to + i * kStep * kPitch, inside ? from : m.data, sizeof(T), inside ? 0 : sizeof(T));
  }
}

/// Until what this thread has staged is in shared memory, and then what all have.
__device__ __forceinline__ void wait_for_copies() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
}

/// How much of kSide a product has to go through, given what is left of its inner extent.
template <typename Math>
__device__ __forceinline__ int depth(std::int64_t left) {
  return static_cast<int>(min((left + 7) / 8 * 8, std::int64_t{Math::kSide}));
}

/// to = the square of A B^T at (row_a, row_b), over the whole head dimension. Starts with a barrier: the staged squares and
/// `to` may just have been read. Whoever reads `to` needs another one.
template <typename Math, typename Shared, typename T>
__device__ __forceinline__ void dots(Shared& shared, T* to, const Matrix<T>& a, std::int64_t row_a, const Matrix<T>& b,
                                     std::int64_t row_b) {
  for (int column = 0; column < a.columns; column += Math::kSide) {
    __syncthreads();
    stage<Math, Math::kPitch>(shared.a, a, row_a, column);
    stage<Math, Math::kPitch>(shared.b, b, row_b, column);
    wait_for_copies();
    const auto x = Math::template product<false>(shared.a, shared.b, depth<Math>(a.columns - column));
    Math::each([&](int row, int c, int i) {
      T& total = to[row * Math::kPitch + c];
      total = column == 0 ? x.x[i] : total + x.x[i];
    });
  }
}

/// total = combine(row, total, W B), B's rows from row_b on. Starts with a barrier: W may just have been written.
template <typename Math, typename Shared, typename T, typename Combine>
__device__ __forceinline__ void accumulate(Shared& shared, typename Math::Sums (&total)[Math::kSlices], const T* weights,
                                           const Matrix<T>& b, std::int64_t row_b, Combine combine) {
#pragma unroll
  for (int slice = 0; slice < Math::kSlices; ++slice) {
    if (slice * Math::kSide < b.columns) {
      __syncthreads();
      stage<Math, Math::kPitchAcross>(shared.b, b, row_b, slice * Math::kSide);
      wait_for_copies();
      const auto x = Math::template product<true>(weights, shared.b, depth<Math>(b.rows - row_b));
      Math::each([&](int row, int, int i) { total[slice].x[i] = combine(row, total[slice].x[i], x.x[i]); });
    }
  }
}

/// Writes finish(row, total) to `rows` rows of `columns` columns of a matrix of the given type.
template <typename Math, typename Finish>
__device__ __forceinline__ void store_rows(const typename Math::Sums (&total)[Math::kSlices], void* data, DType type,
                                           std::int64_t offset, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                                           Finish finish) {
#pragma unroll
  for (int slice = 0; slice < Math::kSlices; ++slice) {
    if (slice * Math::kSide < columns) {
      Math::each([&](int row, int column, int i) {
        column += slice * Math::kSide;
        if (row < rows && column < columns) {
          store(data, type, offset + row * stride + column, finish(row, total[slice].x[i]));
        }
      });
    }
  }
}

// ---- Scores ----

/// The batch entry and query head that a block works on. It lies in shared memory, because the registers are for sums.
template <typename T>
struct Head : HeadScores<T> {
  Matrix<T> q, k, v, grad;  // grad: in the backward

  __device__ Head(const Problem& p, const Sequence& s, std::int64_t batch, std::int64_t head)
      : HeadScores<T>(p, s, batch, head), grad{} {
    const std::int64_t head_k = head / (p.heads / p.heads_k);
    q = matrix<T>(p.q, p.q_strides, batch, head, s.first_q, s.len_q, p.dim);
    k = matrix<T>(p.k, p.k_strides, batch, head_k, s.first_k, s.len_k, p.dim);
    v = matrix<T>(p.v, p.v_strides, batch, head_k, s.first_k, s.len_k, p.dim_v);
  }

  __device__ Head(const BackwardProblem& b, const Sequence& s, std::int64_t batch, std::int64_t head)
      : Head(b.forward, s, batch, head) {
    grad = matrix<T>(b.grad, b.grad_strides, batch, head, s.first_q, s.len_q, b.forward.dim_v);
  }
};

/// Shared memory of a block. Rows of squares are padded to the pitch.
template <typename Math, int kWeights>
struct alignas(16) WideShared {
  typename Math::T a[Math::kSide * Math::kPitch], b[Math::kSide * Math::kPitchAcross];  // staged operands
  typename Math::T w[kWeights][Math::kSide * Math::kPitch];                             // scores, weights
  typename Math::T row[3][Math::kSide];                                                 // what there is of each query
  Head<typename Math::T> head;
  std::uint8_t keep[Math::kSide * Math::kSide / 8];  // of dropout: a bit a key, a byte for eight keys of one query
};

/// Puts the head that the block works on into shared memory, between two barriers.
template <typename T, typename AnyProblem>
__device__ __forceinline__ void open(Head<T>& to, const AnyProblem& p, const Sequence& s, std::int64_t batch,
                                     std::int64_t head) {
  __syncthreads();
  if (threadIdx.x == 0) to = Head<T>(p, s, batch, head);
  __syncthreads();
}

/// Dropout's decisions for one square; i0 and j0 are multiples of kSide.
template <typename Math>
__device__ __forceinline__ void draw(std::uint8_t* keep, const Problem& p, const Head<typename Math::T>& head,
                                     std::int64_t i0, std::int64_t j0) {
  if (p.rng_state == nullptr) return;
  const Dropout dropout = Dropout::of(p.rng_state, head.batch * p.heads + head.head);
  constexpr int kGroups = Math::kSide / 8;
  for (int n = threadIdx.x; n < Math::kSide * kGroups; n += wide_threads) {
    const Philox random = dropout.group(i0 + n / kGroups, j0 / 8 + n % kGroups);
    std::uint32_t bits = 0;
#pragma unroll
    for (int key = 0; key < 8; ++key) bits |= (Dropout::bits(random, key) < p.keep_threshold ? 1u : 0u) << key;
    keep[n] = static_cast<std::uint8_t>(bits);
  }
}

/// What the weight of a query and key of the square is multiplied by: p.keep_scale in T's precision, or 0.
template <typename Math>
__device__ __forceinline__ typename Math::T kept(const std::uint8_t* keep, const Problem& p, int query, int key) {
  using T = typename Math::T;
  if (p.rng_state == nullptr) return 1;
  return keep[query * (Math::kSide / 8) + key / 8] >> key % 8 & 1 ? T(65536) / static_cast<T>(p.keep_threshold) : T(0);
}

// ---- Work ----

/// Items of work: `per_head` of them to each batch entry and head, each with every per_head'th tile. Tiles are not items
/// themselves, because packed sequences together have far fewer tiles than the longest possible one times their number.
struct Work {
  std::int64_t heads, per_head, items;
};

/// body(batch, head, first row) for each tile of the rows that rows(batch, sequence) counts.
template <typename Math, typename Rows, typename Body>
__device__ __forceinline__ void for_each_tile(const Problem& p, const Work& work, Rows rows, Body body) {
  for (std::int64_t item = blockIdx.x; item < work.items; item += gridDim.x) {
    const auto batch = [&] { return item / work.per_head / work.heads; };  // again and again, for want of registers
    for (std::int64_t row = item % work.per_head * Math::kSide; row < rows(batch(), sequence(p, batch()));
         row += work.per_head * Math::kSide) {
      body(batch(), item / work.per_head % work.heads, row);
    }
  }
}

// ---- Forward ----

/// A number as float32 has it: -inf is the LSE of a row without keys alone.
template <typename T>
__device__ __forceinline__ float in_float32(T x) {
  const auto largest = static_cast<T>(std::numeric_limits<float>::max());
  return static_cast<float>(isfinite(x) ? min(max(x, -largest), largest) : x);
}

template <typename Math>
__global__ __launch_bounds__(wide_threads, wide_blocks) void sm80_fmha_wide_forward(const __grid_constant__ Problem p,
                                                                                    const __grid_constant__ Work work) {
  using T = typename Math::T;
  constexpr int kSide = Math::kSide;
  extern __shared__ __align__(16) char raw[];
  auto& shared = *reinterpret_cast<WideShared<Math, 1>*>(raw);
  const int row = threadIdx.x / Math::kParts, part = threadIdx.x % Math::kParts;
  T* const weights = shared.w[0] + row * Math::kPitch;

  const auto rows = [](std::int64_t, const Sequence& s) { return s.len_q; };
  for_each_tile<Math>(p, work, rows, [&](std::int64_t batch, std::int64_t index, std::int64_t i0) {
    open(shared.head, p, sequence(p, batch), batch, index);
    const Head<T>& head = shared.head;
    const Sequence& s = head.sequence;

    // Online softmax: the weights so far are exp(logit - highest), `sum` their sum. The sink comes first.
    T& highest = shared.row[0][row];
    T& sum = shared.row[1][row];
    if (part == 0) {
      highest = p.sink != nullptr ? load<T>(p.sink, p.sink_type, index * p.sink_head) : -infinity<T>();
      sum = highest == -infinity<T>() ? 0 : 1;
    }
    typename Math::Sums o[Math::kSlices] = {};
    for (std::int64_t j0 = first_key(p, s, i0) / kSide * kSide; j0 < end_key(p, s, min(i0 + kSide, s.len_q) - 1);
         j0 += kSide) {
      dots<Math>(shared, shared.w[0], head.q, i0, head.k, j0);
      draw<Math>(shared.keep, p, shared.head, i0, j0);
      __syncthreads();
      T now = highest;
#pragma unroll 1
      for (int c = part; c < kSide; c += Math::kParts) {
        T derivative;
        weights[c] = head.logit(p, weights[c], i0 + row, j0 + c, derivative);
        now = max(now, weights[c]);
      }
      now = cutplan::sm80::reduce_lanes<Math::kParts>(now, [](T a, T b) { return max(a, b); });
      const T reference = now == -infinity<T>() ? 0 : now;
      T added = 0;
#pragma unroll 1
      for (int c = part; c < kSide; c += Math::kParts) {
        const T weight = exp(weights[c] - reference);
        added += weight;
        weights[c] = weight * kept<Math>(shared.keep, p, row, c);
      }
      const T shrink = exp(highest - reference);
      added = cutplan::sm80::reduce_lanes<Math::kParts>(added, [](T a, T b) { return a + b; });
      __syncwarp();  // all have read the old maximum
      if (part == 0) {
        sum = sum * shrink + added;
        highest = now;
        shared.row[2][row] = shrink;
      }
      accumulate<Math>(shared, o, shared.w[0], head.v, j0,
                       [&](int r, T total, T x) { return fma(total, shared.row[2][r], x); });
    }

    if (part == 0) {
      if (p.lse != nullptr && i0 + row < s.len_q) {
        p.lse[head.batch * p.lse_batch + head.head * p.lse_head + s.first_q + i0 + row] =
            sum == 0 ? -infinity<float>() : in_float32(highest + log(sum));
      }
      sum = sum == 0 ? 0 : 1 / sum;
    }
    __syncthreads();
    store_rows<Math>(o, p.o, p.o_type,
                     head.batch * p.o_strides.batch + head.head * p.o_strides.head + (s.first_q + i0) * p.o_strides.row,
                     p.o_strides.row, s.len_q - i0, p.dim_v, [&](int r, T x) {
                       const T inverse = shared.row[1][r];
                       return inverse == 0 ? 0 : x * inverse;
                     });
  });
}

// ---- Backward ----

/// Where query i of a sequence stands in an array with an entry for each row of Q.
__device__ __forceinline__ std::int64_t row_index(const Problem& p, const Sequence& s, std::int64_t batch, std::int64_t head,
                                                  std::int64_t i) {
  return ((p.cu_seqlens_q != nullptr ? 0 : batch) * p.heads + head) * p.seq_q + s.first_q + i;
}

/// What the backward keeps of each row of Q, in the workspace.
template <typename T>
struct WideRows {
  T *delta, *reference, *log_sum;  // D, and RowWeights
};

/// D, the sum of grad times o, and how to find the weights, for each row of Q: a warp to a row.
template <typename Math>
__global__ __launch_bounds__(wide_threads, 4) void sm80_fmha_wide_statistics(const __grid_constant__ BackwardProblem b,
                                                                             const WideRows<typename Math::T> to,
                                                                             std::int64_t rows) {
  using T = typename Math::T;
  const Problem& p = b.forward;
  const int lane = threadIdx.x % 32;
  for (std::int64_t n = blockIdx.x * std::int64_t{8} + threadIdx.x / 32; n < rows; n += gridDim.x * std::int64_t{8}) {
    const std::int64_t i = n % p.seq_q, head = n / p.seq_q % p.heads, batch = n / p.seq_q / p.heads;
    const T* grad =
        static_cast<const T*>(b.grad) + batch * b.grad_strides.batch + head * b.grad_strides.head + i * b.grad_strides.row;
    const std::int64_t o = batch * p.o_strides.batch + head * p.o_strides.head + i * p.o_strides.row;
    double sum = 0;
    for (std::int64_t c = lane; c < p.dim_v; c += 32) {
      sum += static_cast<double>(grad[c]) * static_cast<double>(load<T>(p.o, p.o_type, o + c));
    }
    sum = cutplan::sm80::sum_lanes(sum);
    const float lse = p.lse[batch * p.lse_batch + head * p.lse_head + i];
    RowWeights<T> weights{static_cast<T>(lse), 0};
    if (abs(lse) >= kFarLse && lse != -infinity<float>()) {
      std::int64_t of = batch, first = 0;
      if (p.cu_seqlens_q != nullptr && !find_row(p, i, of, first)) continue;  // rows after the last sequence
      weights = far_row<T>(p, of, head, i - first, static_cast<T>(lse), Math::kRounding);
    }
    if (lane == 0) {
      to.delta[n] = static_cast<T>(sum);
      to.reference[n] = weights.reference;
      to.log_sum[n] = weights.log_sum;
    }
  }
}

/// D and RowWeights of the square's queries.
template <typename Math, typename Shared, typename T>
__device__ __forceinline__ void load_row_statistics(Shared& shared, const Problem& p, const WideRows<T>& from,
                                                    std::int64_t i0) {
  const Sequence& s = shared.head.sequence;
  const std::int64_t i = i0 + threadIdx.x;
  if (threadIdx.x < Math::kSide && i < s.len_q) {
    const std::int64_t n = row_index(p, s, shared.head.batch, shared.head.head, i);
    shared.row[0][threadIdx.x] = from.reference[n];
    shared.row[1][threadIdx.x] = from.delta[n];
    shared.row[2][threadIdx.x] = from.log_sum[n];
  }
}

/// w[0] = q k^T and w[1] = grad v^T, or their transposes where kKeysAreRows, become P, dropout included, and the gradients
/// of q k^T. use(i, j, column, ds) gets the gradients of the logits, of the thread's part of a row.
template <typename Math, bool kKeysAreRows, typename Shared, typename Use>
__device__ __forceinline__ void differentiate(Shared& shared, const Problem& p, std::int64_t i0, std::int64_t j0, Use use) {
  using T = typename Math::T;
  const int row = threadIdx.x / Math::kParts, part = threadIdx.x % Math::kParts;
#pragma unroll 1
  for (int c = part; c < Math::kSide; c += Math::kParts) {
    const int query = kKeysAreRows ? c : row, key = kKeysAreRows ? row : c;
    T& first = shared.w[0][row * Math::kPitch + c];
    T& second = shared.w[1][row * Math::kPitch + c];
    T derivative, weight = 0, ds = 0;
    const T logit = shared.head.logit(p, first, i0 + query, j0 + key, derivative);
    if (logit != -infinity<T>()) {
      const RowWeights<T> weights{shared.row[0][query], shared.row[2][query]};
      const T probability = exp(weights.exponent(logit)), factor = kept<Math>(shared.keep, p, query, key);
      weight = probability * factor;
      ds = probability * (second * factor - shared.row[1][query]);
    }
    first = weight;
    second = ds * derivative;
    use(i0 + query, j0 + key, c, ds);
  }
}

template <typename T>
struct Plus {
  __device__ T operator()(int, T total, T x) const { return total + x; }
};

template <typename T>
struct AsIs {
  __device__ T operator()(int, T x) const { return x; }
};

/// dQ; and where `distances` is not null, for each row of Q, the sum of -|i + off - j| times the gradients of its logits.
template <typename Math>
__global__ __launch_bounds__(wide_threads, wide_blocks) void sm80_fmha_wide_dq(const __grid_constant__ BackwardProblem b,
                                                                               const __grid_constant__ Work work,
                                                                               const WideRows<typename Math::T> of_rows,
                                                                               typename Math::T* distances) {
  using T = typename Math::T;
  constexpr int kSide = Math::kSide;
  const Problem& p = b.forward;
  extern __shared__ __align__(16) char raw[];
  auto& shared = *reinterpret_cast<WideShared<Math, 2>*>(raw);

  const auto rows = [](std::int64_t, const Sequence& s) { return s.len_q; };
  for_each_tile<Math>(p, work, rows, [&](std::int64_t batch, std::int64_t index, std::int64_t i0) {
    open(shared.head, b, sequence(p, batch), batch, index);
    const Head<T>& head = shared.head;
    const Sequence& s = head.sequence;
    typename Math::Sums dq[Math::kSlices] = {};
    T distance = 0;
    load_row_statistics<Math>(shared, p, of_rows, i0);
    for (std::int64_t j0 = first_key(p, s, i0) / kSide * kSide; j0 < end_key(p, s, min(i0 + kSide, s.len_q) - 1);
         j0 += kSide) {
      dots<Math>(shared, shared.w[0], head.q, i0, head.k, j0);
      dots<Math>(shared, shared.w[1], head.grad, i0, head.v, j0);
      draw<Math>(shared.keep, p, shared.head, i0, j0);
      __syncthreads();
      differentiate<Math, false>(shared, p, i0, j0, [&](std::int64_t i, std::int64_t j, int, T ds) {
        const std::int64_t d = head.distance(i, j);
        distance -= static_cast<T>(d < 0 ? -d : d) * ds;
      });
      accumulate<Math>(shared, dq, shared.w[1], head.k, j0, Plus<T>{});
    }
    store_rows<Math>(dq, b.dq, b.grad_type,
                     head.batch * b.dq_strides.batch + head.head * b.dq_strides.head + (s.first_q + i0) * b.dq_strides.row,
                     b.dq_strides.row, s.len_q - i0, p.dim, AsIs<T>{});
    if (distances != nullptr) {
      distance = cutplan::sm80::reduce_lanes<Math::kParts>(distance, [](T x, T y) { return x + y; });
      const std::int64_t i = i0 + threadIdx.x / Math::kParts;
      if (threadIdx.x % Math::kParts == 0 && i < s.len_q) distances[row_index(p, s, head.batch, head.head, i)] = distance;
    }
  });
}

/// dK and dV, summed over the query heads of a group. Rows that seqused_k leaves out get zeros.
template <typename Math>
__global__ __launch_bounds__(wide_threads,
                             wide_blocks_dkv) void sm80_fmha_wide_dkv(const __grid_constant__ BackwardProblem b,
                                                                      const __grid_constant__ Work work,
                                                                      const WideRows<typename Math::T> of_rows) {
  using T = typename Math::T;
  constexpr int kSide = Math::kSide;
  const Problem& p = b.forward;
  extern __shared__ __align__(16) char raw[];
  auto& shared = *reinterpret_cast<WideShared<Math, 2>*>(raw);

  const auto rows = [&](std::int64_t batch, const Sequence& s) {
    return p.cu_seqlens_k != nullptr ? clamp(p.cu_seqlens_k[batch + 1], s.first_k, p.seq_k) - s.first_k : p.seq_k;
  };
  for_each_tile<Math>(p, work, rows, [&](std::int64_t batch, std::int64_t head_k, std::int64_t j0) {
    const Sequence s = sequence(p, batch);
    typename Math::Sums dk[Math::kSlices] = {}, dv[Math::kSlices] = {};
    const std::int64_t group = p.heads / p.heads_k, last = min(j0 + kSide, s.len_k) - 1;
    const std::int64_t begin = first_query(p, s, j0) / kSide * kSide, end = j0 < s.len_k ? end_query(p, s, last) : 0;
    const Head<T>& head = shared.head;
    for (std::int64_t index = head_k * group; index < (head_k + 1) * group; ++index) {
      open(shared.head, b, s, batch, index);
      for (std::int64_t i0 = begin; i0 < end; i0 += kSide) {
        dots<Math>(shared, shared.w[0], head.k, j0, head.q, i0);
        dots<Math>(shared, shared.w[1], head.v, j0, head.grad, i0);
        load_row_statistics<Math>(shared, p, of_rows, i0);
        draw<Math>(shared.keep, p, shared.head, i0, j0);
        __syncthreads();
        differentiate<Math, true>(shared, p, i0, j0, [](std::int64_t, std::int64_t, int, T) {});
        accumulate<Math>(shared, dv, shared.w[0], head.grad, i0, Plus<T>{});
        accumulate<Math>(shared, dk, shared.w[1], head.q, i0, Plus<T>{});
      }
    }
    const std::int64_t left = rows(batch, s) - j0, row = s.first_k + j0;
    store_rows<Math>(dk, b.dk, b.grad_type, batch * b.dk_strides.batch + head_k * b.dk_strides.head + row * b.dk_strides.row,
                     b.dk_strides.row, left, p.dim, AsIs<T>{});
    store_rows<Math>(dv, b.dv, b.grad_type, batch * b.dv_strides.batch + head_k * b.dv_strides.head + row * b.dv_strides.row,
                     b.dv_strides.row, left, p.dim_v, AsIs<T>{});
  });
}

/// The squares of dbias: its own extents, 1 where it is summed.
struct BiasTiles {
  std::int64_t batch, heads, rows, columns, items;
};

/// dbias: a block sums one square of it over whatever the bias is broadcast along.
template <typename Math>
__global__ __launch_bounds__(wide_threads, wide_blocks) void sm80_fmha_wide_dbias(const __grid_constant__ BackwardProblem b,
                                                                                  const __grid_constant__ BiasTiles tiles,
                                                                                  const WideRows<typename Math::T> of_rows) {
  using T = typename Math::T;
  constexpr int kSide = Math::kSide;
  const Problem& p = b.forward;
  const bool sums_batch = b.dbias_sums[0], sums_heads = b.dbias_sums[1], sums_rows = b.dbias_sums[2],
             sums_columns = b.dbias_sums[3];
  extern __shared__ __align__(16) char raw[];
  auto& shared = *reinterpret_cast<WideShared<Math, 3>*>(raw);
  T* const total = shared.w[2];
  T* const mine = total + threadIdx.x / Math::kParts * Math::kPitch;

  for (std::int64_t item = blockIdx.x; item < tiles.items; item += gridDim.x) {
    const std::int64_t column0 = item % tiles.columns * kSide, row0 = item / tiles.columns % tiles.rows * kSide,
                       head0 = item / tiles.columns / tiles.rows % tiles.heads,
                       batch0 = item / tiles.columns / tiles.rows / tiles.heads;
    __syncthreads();  // the previous square's sums may still be read
    for (int c = threadIdx.x % Math::kParts; c < kSide; c += Math::kParts) mine[c] = 0;
    for (std::int64_t batch = batch0; batch < (sums_batch ? p.batch : batch0 + 1); ++batch) {
      const Sequence s = sequence(p, batch);
      for (std::int64_t index = head0; index < (sums_heads ? p.heads : head0 + 1); ++index) {
        open(shared.head, b, s, batch, index);
        const Head<T>& head = shared.head;
        for (std::int64_t i0 = row0; i0 < (sums_rows ? s.len_q : min(row0 + 1, s.len_q)); i0 += kSide) {
          const std::int64_t begin = max(column0, first_key(p, s, i0) / kSide * kSide),
                             visible = end_key(p, s, min(i0 + kSide, s.len_q) - 1),
                             end = sums_columns ? visible : min(column0 + 1, visible);
          for (std::int64_t j0 = begin; j0 < end; j0 += kSide) {
            dots<Math>(shared, shared.w[0], head.q, i0, head.k, j0);
            dots<Math>(shared, shared.w[1], head.grad, i0, head.v, j0);
            load_row_statistics<Math>(shared, p, of_rows, i0);
            draw<Math>(shared.keep, p, shared.head, i0, j0);
            __syncthreads();
            differentiate<Math, false>(shared, p, i0, j0, [&](std::int64_t, std::int64_t, int c, T ds) { mine[c] += ds; });
          }
        }
      }
    }
    __syncthreads();
    const int rows = sums_rows ? 1 : static_cast<int>(min(p.seq_q - row0, std::int64_t{kSide})),
              columns = sums_columns ? 1 : static_cast<int>(min(p.seq_k - column0, std::int64_t{kSide}));
    for (int n = threadIdx.x; n < rows * columns; n += wide_threads) {
      const int row = n / columns, column = n % columns;
      T sum = 0;
      for (int r = row; r < (sums_rows ? kSide : row + 1); ++r) {
        for (int c = column; c < (sums_columns ? kSide : column + 1); ++c) sum += total[r * Math::kPitch + c];
      }
      const Broadcast& d = b.dbias_strides;
      store(b.dbias, p.bias_type, batch0 * d.batch + head0 * d.head + (row0 + row) * d.row + (column0 + column) * d.col,
            sum);
    }
  }
}

/// Gradients that are sums over all rows of a head: of the sink from D, or of the ALiBi slope from the rows' `distances`. A
/// block to a sum, of one batch entry or of all.
template <typename Math, bool kSink>
__global__ __launch_bounds__(wide_threads) void sm80_fmha_wide_head_sums(const __grid_constant__ BackwardProblem b,
                                                                         const WideRows<typename Math::T> of_rows,
                                                                         const typename Math::T* distances,
                                                                         bool all_batches) {
  const Problem& p = b.forward;
  __shared__ double partial[wide_threads];
  const std::int64_t items = (all_batches ? 1 : p.batch) * p.heads;
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const std::int64_t head = item % p.heads, batch0 = item / p.heads;
    const double sink = kSink ? load<double>(p.sink, p.sink_type, head * p.sink_head) : 0;
    double sum = 0;
    for (std::int64_t batch = batch0; batch < (all_batches ? p.batch : batch0 + 1); ++batch) {
      const Sequence s = sequence(p, batch);
      for (std::int64_t i = threadIdx.x; i < s.len_q; i += wide_threads) {
        const std::int64_t n = row_index(p, s, batch, head, i);
        if constexpr (kSink) {
          const RowWeights<double> weights{static_cast<double>(of_rows.reference[n]),
                                           static_cast<double>(of_rows.log_sum[n])};
          if (sink != -infinity<double>()) sum -= exp(weights.exponent(sink)) * static_cast<double>(of_rows.delta[n]);
        } else {
          sum += static_cast<double>(distances[n]);
        }
      }
    }
    partial[threadIdx.x] = sum;
    for (int half = wide_threads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    if (threadIdx.x == 0) {
      if constexpr (kSink) {
        store(b.dsink, b.dsink_type, head * b.dsink_head, partial[0]);
      } else {
        store(b.dalibi_slopes, b.dalibi_type, (all_batches ? 0 : batch0) * b.dalibi_batch + head * b.dalibi_head,
              partial[0]);
      }
    }
    __syncthreads();
  }
}

// ---- Host side ----

/// Blocks of a launch at most: what the SMs hold at a time.
inline std::int64_t most_blocks(const Launch& launch, int per_sm) {
  return launch.sm_count > 0 ? std::int64_t{launch.sm_count} * per_sm : std::int64_t{0x7fffffff};
}

/// Several blocks for each place on the device, so that tiles of unequal length even out.
inline Work divide(std::int64_t batch, std::int64_t heads, std::int64_t tiles, std::int64_t blocks) {
  const std::int64_t pairs = batch * heads;
  if (pairs == 0 || tiles == 0) return {1, 1, 0};
  const std::int64_t per_head = std::min(tiles, ceil_div(8 * blocks, pairs));
  return {heads, per_head, pairs * per_head};
}

template <typename Math>
void run_wide_forward(const Kernel&, const Problem& p, const Launch& launch) {
  const std::int64_t blocks = most_blocks(launch, wide_blocks);
  const Work work = divide(p.batch, p.heads, ceil_div(p.seq_q, Math::kSide), blocks);
  launch_kernel("launch of the sm80 attention kernel", launch.stream,
                {std::min(work.items, blocks), wide_threads, sizeof(WideShared<Math, 1>)}, sm80_fmha_wide_forward<Math>, p,
                work);
}

/// One array with an element for each row of Q, in bytes.
template <typename T>
std::size_t row_array(bool varlen, std::int64_t batch, std::int64_t heads, std::int64_t seq_q) {
  const auto bytes = static_cast<std::size_t>((varlen ? 1 : batch) * heads * seq_q) * sizeof(T);
  return (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
}

template <typename Math>
std::size_t wide_workspace(const Kernel&, const FmhaBackwardDescriptor& d, bool) {
  const FmhaDescriptor& f = d.forward;
  return row_array<typename Math::T>(f.varlen, f.batch, f.heads, f.seq_q) * (d.dalibi_slopes ? 4 : 3);
}

inline std::size_t no_workspace(const Kernel&, const FmhaDescriptor&, int) { return 0; }

template <typename Math>
void run_wide_backward(const Kernel&, const BackwardProblem& b, const Launch& launch) {
  using T = typename Math::T;
  constexpr int kSide = Math::kSide;
  const Problem& p = b.forward;
  const bool varlen = p.cu_seqlens_q != nullptr;
  const std::int64_t blocks = most_blocks(launch, wide_blocks), light_blocks = most_blocks(launch, 8);
  const std::size_t of_array = row_array<T>(varlen, p.batch, p.heads, p.seq_q) / sizeof(T);
  T* const arrays = static_cast<T*>(launch.workspace);
  const WideRows<T> of_rows{arrays, arrays + of_array, arrays + 2 * of_array};
  T* const distances = b.dalibi_slopes != nullptr ? arrays + 3 * of_array : nullptr;

  const std::int64_t rows = (varlen ? 1 : p.batch) * p.heads * p.seq_q;
  launch_kernel("launch of the sm80 attention kernel for D", launch.stream,
                {std::min(ceil_div(rows, 8), light_blocks), wide_threads}, sm80_fmha_wide_statistics<Math>, b, of_rows,
                rows);

  const std::int64_t dkv_blocks = most_blocks(launch, wide_blocks_dkv);
  const Work dkv = divide(p.batch, p.heads_k, ceil_div(p.seq_k, kSide), dkv_blocks);
  launch_kernel("launch of the sm80 attention kernel for dK and dV", launch.stream,
                {std::min(dkv.items, dkv_blocks), wide_threads, sizeof(WideShared<Math, 2>)}, sm80_fmha_wide_dkv<Math>, b,
                dkv, of_rows);

  const Work dq = divide(p.batch, p.heads, ceil_div(p.seq_q, kSide), blocks);
  launch_kernel("launch of the sm80 attention kernel for dQ", launch.stream,
                {std::min(dq.items, blocks), wide_threads, sizeof(WideShared<Math, 2>)}, sm80_fmha_wide_dq<Math>, b, dq,
                of_rows, distances);

  if (b.dbias != nullptr) {
    BiasTiles tiles;
    tiles.batch = b.dbias_sums[0] ? 1 : p.batch;
    tiles.heads = b.dbias_sums[1] ? 1 : p.heads;
    tiles.rows = b.dbias_sums[2] ? 1 : ceil_div(p.seq_q, kSide);
    tiles.columns = b.dbias_sums[3] ? 1 : ceil_div(p.seq_k, kSide);
    tiles.items = tiles.batch * tiles.heads * tiles.rows * tiles.columns;
    launch_kernel("launch of the sm80 attention kernel for dbias", launch.stream,
                  {std::min(tiles.items, blocks), wide_threads, sizeof(WideShared<Math, 3>)}, sm80_fmha_wide_dbias<Math>, b,
                  tiles, of_rows);
  }
  if (b.dalibi_slopes != nullptr) {
    launch_kernel("launch of the sm80 attention kernel for dalibi_slopes", launch.stream,
                  {std::min((b.alibi_sums_batch ? 1 : p.batch) * p.heads, light_blocks), wide_threads},
                  sm80_fmha_wide_head_sums<Math, false>, b, of_rows, distances, b.alibi_sums_batch);
  }
  if (b.dsink != nullptr) {
    launch_kernel("launch of the sm80 attention kernel for dsink", launch.stream,
                  {std::min(p.heads, light_blocks), wide_threads}, sm80_fmha_wide_head_sums<Math, true>, b, of_rows,
                  distances, true);
  }
}

template <typename Math>
void prepare_wide_forward(const Kernel&) {
  allow_shared_memory(sm80_fmha_wide_forward<Math>, sizeof(WideShared<Math, 1>));
}

template <typename Math>
void prepare_wide_backward(const Kernel&) {
  allow_shared_memory(sm80_fmha_wide_dq<Math>, sizeof(WideShared<Math, 2>));
  allow_shared_memory(sm80_fmha_wide_dkv<Math>, sizeof(WideShared<Math, 2>));
  allow_shared_memory(sm80_fmha_wide_dbias<Math>, sizeof(WideShared<Math, 3>));
  load_kernel(sm80_fmha_wide_statistics<Math>);
  load_kernel(sm80_fmha_wide_head_sums<Math, false>);
  load_kernel(sm80_fmha_wide_head_sums<Math, true>);
}

/// An entry of a table.
template <typename Arithmetic>
constexpr Kernel wide_kernel(Pass pass, DType operand, Math math) {
  Kernel k{};
  k.pass = pass;
  k.arch = Arch::sm80;
  k.operand = operand;
  k.math = math;
  k.dim = wide_dim;
  k.tile_m = k.tile_n = Arithmetic::kSide;
  k.stages = 1;
  k.threads = wide_threads;
  k.minimum_compute_capability = 80;
  k.maximum_compute_capability = any_newer;
  if (pass == Pass::forward) {
    k.blocks_by_registers = wide_blocks;
    k.shared_memory = sizeof(WideShared<Arithmetic, 1>);
    k.run_forward = run_wide_forward<Arithmetic>;
    k.workspace_forward = no_workspace;
    k.prepare = prepare_wide_forward<Arithmetic>;
  } else {
    k.blocks_by_registers = wide_blocks_dkv;
    k.shared_memory = sizeof(WideShared<Arithmetic, 3>);
    k.run_backward = run_wide_backward<Arithmetic>;
    k.workspace_backward = wide_workspace<Arithmetic>;
    k.prepare = prepare_wide_backward<Arithmetic>;
  }
  return k;
}

}  // namespace cutplan::fmha::sm80
