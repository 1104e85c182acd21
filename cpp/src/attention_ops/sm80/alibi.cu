// ALiBi on scores in memory, forward and backward.
//
// Data movement. Scores are read once and results written once, 16 bytes a lane, four pieces of a row in flight; a team of lanes
// has a row. Backward, the blocks of one head leave a partial sum each, and a second, tiny kernel adds these up in their order:
// the same gradient gives the same bits, wherever its copy goes. A piece's products are summed in float32, all else in float64:
// per piece two operations of it, which even cards with few such units have time for.
#include "attention_ops/sm80/rows.cuh"
#include "core/sm80/warp.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

/// Of key `col` from the query whose diagonal is in column `diagonal`.
template <typename S>
__device__ __forceinline__ S distance(const AlibiProblem& p, int col, int diagonal) {
  const int d = col - diagonal;
  return static_cast<S>(p.absolute ? -abs(d) : d);
}

__device__ __forceinline__ std::int64_t offset(const std::int64_t (&s)[4], const Rows::Place& at) {
  return at.batch * s[0] + at.head * s[1] + at.row * s[2];
}

constexpr int kInFlight = 4;

/// Calls f(col, piece) for this lane's pieces of a row, several of them in flight.
template <typename Element, int kWidth, typename F>
__device__ __forceinline__ void for_pieces(const Element* row, std::int64_t step, int cols, int lane, int team, const F& f) {
  for (int first = lane * kWidth; first < cols; first += kInFlight * kWidth << team) {
    Piece<Element, kWidth> pieces[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int col = first + (i * kWidth << team);
      if (col < cols) pieces[i] = load<Element, kWidth>(row + col * step);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int col = first + (i * kWidth << team);
      if (col < cols) f(col, pieces[i]);
    }
  }
}

/// Where x is in pieces, y may still be not. kStreams: nobody reads it soon.
template <bool kStreams, typename Element, int kWidth>
__device__ __forceinline__ void store_row(const AlibiProblem& p, Element* row, int col,
                                          const Piece<Element, kWidth>& piece) {
  if (p.y_wide) {
    if constexpr (kStreams && sizeof(piece) == 16) {
      __stcs(reinterpret_cast<uint4*>(row + col), reinterpret_cast<const uint4&>(piece));
    } else {
      store<Element, kWidth>(row + col, piece);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) row[(col + e) * p.y_strides[3]] = reinterpret_cast<const Element(&)[kWidth]>(piece)[e];
  }
}

template <typename Element, int kWidth>
__global__ __launch_bounds__(threads) void sm80_alibi(const __grid_constant__ AlibiProblem p,
                                                      const __grid_constant__ Rows rows, int team) {
  using S = Arithmetic<Element>;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> team;
  if (index >= rows.count) return;
  const Rows::Place at = rows.at(index);
  const S slope = static_cast<const S*>(p.slopes)[at.head * p.slopes_stride];
  const int diagonal = static_cast<int>(at.row + p.offset);
  Element* const y = static_cast<Element*>(p.y) + offset(p.y_strides, at);
  const auto bias = [&](int col, Piece<Element, kWidth> piece) {
    S x[kWidth];
    piece.get(x);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = fma(slope, distance<S>(p, col + e, diagonal), x[e]);
    piece.set(x);
    store_row<false>(p, y, col, piece);
  };
  for_pieces<Element, kWidth>(static_cast<const Element*>(p.x) + offset(p.x_strides, at), kWidth > 1 ? 1 : p.x_strides[3],
                              static_cast<int>(p.cols), threadIdx.x & ((1 << team) - 1), team, bias);
}

/// Block (b, head) of gridDim: the head's rows b rows_of_block, and every alibi_blocks_per_head blocks of rows further on.
template <typename Element, int kWidth>
__global__ __launch_bounds__(threads) void sm80_alibi_backward(const __grid_constant__ AlibiProblem p,
                                                               const __grid_constant__ Rows rows, int team,
                                                               double* partial) {
  using S = Arithmetic<Element>;
  const int head = blockIdx.x / alibi_blocks_per_head, block = blockIdx.x % alibi_blocks_per_head;
  const int rows_of_block = threads >> team;
  double sum = 0;
  for (std::int64_t index = std::int64_t{block} * rows_of_block + (threadIdx.x >> team); index < rows.count;
       index += std::int64_t{alibi_blocks_per_head} * rows_of_block) {
    Rows::Place at = rows.at(index);
    at.head = static_cast<unsigned>(head);
    const int diagonal = static_cast<int>(at.row + p.offset);
    Element* const y = p.y == nullptr ? nullptr : static_cast<Element*>(p.y) + offset(p.y_strides, at);
    const auto add = [&](int col, const Piece<Element, kWidth>& piece) {
      S x[kWidth], of_piece = 0;
      piece.get(x);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) of_piece = fma(x[e], distance<S>(p, col + e, diagonal), of_piece);
      sum += static_cast<double>(of_piece);
      if (y != nullptr) store_row<true>(p, y, col, piece);
    };
    for_pieces<Element, kWidth>(static_cast<const Element*>(p.x) + offset(p.x_strides, at), kWidth > 1 ? 1 : p.x_strides[3],
                                static_cast<int>(p.cols), threadIdx.x & ((1 << team) - 1), team, add);
  }
  if (partial == nullptr) return;
  __shared__ double of_warp[threads / 32];
  sum = cutplan::sm80::sum_lanes(sum);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < threads / 32; ++warp) sum += of_warp[warp];
  partial[blockIdx.x] = sum;
}

/// Adds up the blocks' sums, a warp for a head.
template <typename S>
__global__ void sm80_alibi_slopes(const __grid_constant__ AlibiProblem p, const double* partial) {
  double sum = 0;
  for (int block = threadIdx.x; block < alibi_blocks_per_head; block += 32)
    sum += partial[static_cast<std::int64_t>(blockIdx.x) * alibi_blocks_per_head + block];
  sum = cutplan::sm80::sum_lanes(sum);
  if (threadIdx.x == 0) static_cast<S*>(p.dslopes)[blockIdx.x * p.dslopes_stride] = static_cast<S>(sum);
}

template <typename Element>
void run(const AlibiProblem& p, const Launch& launch) {
  const Rows rows(p.batch, p.heads, p.rows);
  const auto enqueue = [&](auto kernel, int width) {
    const int team = team_bits(ceil_div(p.cols, std::int64_t{width} * kInFlight));
    launch_kernel("launch of the ALiBi kernel", launch.stream, {ceil_div(rows.count << team, threads), threads}, kernel, p,
                  rows, team);
  };
  p.x_wide ? enqueue(sm80_alibi<Element, width<Element, true>>, width<Element, true>)
           : enqueue(sm80_alibi<Element, width<Element, false>>, width<Element, false>);
}

template <typename Element>
void run_backward(const AlibiProblem& p, const Launch& launch) {
  AlibiProblem of = p;
  if (of.y == of.x) of.y = nullptr;  // grad itself
  if (of.y == nullptr && of.dslopes == nullptr) return;
  const Rows rows(p.batch, 1, p.rows);  // of one head
  auto* const partial = of.dslopes == nullptr ? nullptr : static_cast<double*>(launch.workspace);
  const auto enqueue = [&](auto kernel, int width) {
    launch_kernel("launch of the kernel for ALiBi's gradients", launch.stream, {p.heads * alibi_blocks_per_head, threads},
                  kernel, of, rows, team_bits(ceil_div(p.cols, std::int64_t{width} * kInFlight)), partial);
  };
  p.x_wide ? enqueue(sm80_alibi_backward<Element, width<Element, true>>, width<Element, true>)
           : enqueue(sm80_alibi_backward<Element, width<Element, false>>, width<Element, false>);
  if (partial != nullptr)
    launch_kernel("launch of the kernel that sums ALiBi's gradients", launch.stream, {p.heads, 32},
                  sm80_alibi_slopes<Arithmetic<Element>>, of, static_cast<const double*>(partial));
}

constexpr Kernel table[] = {
    kernel(Op::alibi, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::alibi, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::alibi, Arch::sm80, DType::f32, run<float>),
    kernel(Op::alibi, Arch::sm80, DType::f64, run<double>),
    kernel(Op::alibi_backward, Arch::sm80, DType::f16, run_backward<__half>),
    kernel(Op::alibi_backward, Arch::sm80, DType::bf16, run_backward<__nv_bfloat16>),
    kernel(Op::alibi_backward, Arch::sm80, DType::f32, run_backward<float>),
    kernel(Op::alibi_backward, Arch::sm80, DType::f64, run_backward<double>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
