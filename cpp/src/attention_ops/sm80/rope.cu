// Rotary embedding, both ways.
//
// Data movement. Every element is read once and written once, 16 bytes a lane: of pairs (i, i + n) a lane takes a piece of either
// half, of pairs (2i, 2i + 1) one piece. A team of lanes has a row of the positions, computes its lanes' angles once, and turns that
// row of several heads of x and of k; few rows are shared out among more teams, so that there are enough of them.
//
// An angle by base is a fraction of a turn in 64 bits, position times frequency, whose overflow takes away whole turns: its high 32
// bits go to float32 (all of them to float64), so that no position is too far out.
#include "attention_ops/sm80/rows.cuh"
#include "core/sm80/warp.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, float& sine, float& cosine) {
  sincospif(static_cast<float>(static_cast<std::int32_t>(turns >> 32)) * 0x1p-31f, &sine, &cosine);
}
__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, double& sine, double& cosine) {
  sincospi(static_cast<double>(static_cast<std::int64_t>(turns)) * 0x1p-63, &sine, &cosine);
}

/// The position of a row of a batch entry; of packed ones: of all rows.
__device__ __forceinline__ std::int64_t position(const RopeProblem& p, std::int64_t batch, std::int64_t row) {
  if (p.positions != nullptr)
    return integer_at(p.positions, p.positions_are_long, batch * p.positions_batch + row * p.positions_row);
  if (p.cu_seqlens != nullptr) find_sequence(p.cu_seqlens, p.batch, row, batch);
  return row + (p.offsets == nullptr ? 0 : integer_at(p.offsets, p.offsets_are_long, batch * p.offsets_stride));
}

template <typename Element, int kWidth, bool kInterleaved>
__global__ __launch_bounds__(threads) void sm80_rope(const __grid_constant__ RopeProblem p,
                                                     const __grid_constant__ Turns turns,
                                                     const __grid_constant__ Shares shares) {
  using S = Arithmetic<Element>;
  // Of a lane at a time: pairs (i, i + n): kWidth pairs in two pieces; (2i, 2i + 1): half as many in one. Alone, two elements.
  constexpr int kPieces = kInterleaved && kWidth > 1 ? 1 : 2, kPairs = kPieces * kWidth / 2;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> shares.team;
  if (index >= shares.count) return;
  const int lane = threadIdx.x & ((1 << shares.team) - 1);
  const Shares::Place mine = shares.at(index, static_cast<int>(p.heads + p.heads_k));
  const std::int64_t at = position(p, mine.batch, mine.row);
  const bool inside = p.cos == nullptr || (at >= 0 && at < p.table_rows);

  const auto rows_of = [&](int head, const Element*& from, Element*& to) {
    const bool of_k = head >= p.heads;
    const Heads &x = of_k ? p.k : p.x, &y = of_k ? p.k_out : p.out;
    const int own = of_k ? head - static_cast<int>(p.heads) : head;
    from =
        static_cast<const Element*>(x.data) + mine.batch * x.strides.batch + own * x.strides.head + mine.row * x.strides.row;
    to = static_cast<Element*>(y.data) + mine.batch * y.strides.batch + own * y.strides.head + mine.row * y.strides.row;
  };

  for (int pair = lane * kPairs; pair < p.pairs; pair += kPairs << shares.team) {
    S sine[kPairs], cosine[kPairs];
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      if (p.cos == nullptr) {
        sincos_of_turns(static_cast<std::uint64_t>(at) * turns.of_pair[pair + i], sine[i], cosine[i]);
        sine[i] *= static_cast<S>(turns.factor);
        cosine[i] *= static_cast<S>(turns.factor);
      } else {
        sine[i] = inside ? static_cast<S>(__ldg(p.sin + at * p.sin_stride + pair + i)) : static_cast<S>(NAN);
        cosine[i] = inside ? static_cast<S>(__ldg(p.cos + at * p.cos_stride + pair + i)) : static_cast<S>(NAN);
      }
      if (p.backward) sine[i] = -sine[i];
    }
    // Where the first and the second piece are.
    const std::int64_t first = kInterleaved ? 2 * pair : pair, second = kInterleaved ? first + 1 : pair + p.pairs;
#pragma unroll 2
    for (int head = mine.first_head; head < mine.end_head; ++head) {
      const Element* from;
      Element* to;
      rows_of(head, from, to);
      Piece<Element, kWidth> piece[kPieces];
      piece[0] = load<Element, kWidth>(from + first);
      if constexpr (kPieces == 2) piece[1] = load<Element, kWidth>(from + second);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        if constexpr (kPieces == 2) {
          turn(piece[0].x[i], piece[1].x[i], sine[i], cosine[i]);
        } else {
          turn(piece[0].x[2 * i], piece[0].x[2 * i + 1], sine[i], cosine[i]);
        }
      }
      store<Element, kWidth>(to + first, piece[0]);
      if constexpr (kPieces == 2) store<Element, kWidth>(to + second, piece[1]);
    }
  }
  // What is not turned.
  for (std::int64_t c = 2 * p.pairs + lane * kWidth; c < p.dim; c += kWidth << shares.team) {
    for (int head = mine.first_head; head < mine.end_head; ++head) {
      const Element* from;
      Element* to;
      rows_of(head, from, to);
      if (from != to) store<Element, kWidth>(to + c, load<Element, kWidth>(from + c));
    }
  }
}

template <typename Element>
void run(const RopeProblem& p, const Launch& launch) {
  const auto enqueue = [&](auto kernel, int pairs_of_lane) {
    const Shares shares =
        Shares::of(p.packed ? 1 : p.batch, p.rows, p.heads + p.heads_k,
                   std::max(ceil_div(p.pairs, pairs_of_lane), p.pairs == 0 ? std::int64_t{32} : 1), launch.sm_count);
    launch_kernel("launch of the kernel for rotary embedding", launch.stream,
                  {ceil_div(shares.count << shares.team, threads), threads}, kernel, p, *p.turns, shares);
  };
  const auto choose = [&](auto wide) {
    constexpr int kWidth = width<Element, decltype(wide)::value>, kHalf = std::max(kWidth / 2, 1);
    p.interleaved ? enqueue(sm80_rope<Element, kWidth, true>, kHalf) : enqueue(sm80_rope<Element, kWidth, false>, kWidth);
  };
  p.wide ? choose(std::true_type{}) : choose(std::false_type{});
}

constexpr Kernel table[] = {
    kernel(Op::rope, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::rope, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::rope, Arch::sm80, DType::f32, run<float>),
    kernel(Op::rope, Arch::sm80, DType::f64, run<double>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
