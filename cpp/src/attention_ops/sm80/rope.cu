// Rotary embedding, both ways.
//
// Data movement. Every element is read once and written once, 16 bytes a lane. A team of lanes has one position of several heads
// of x or k, computes its lanes' angles once, and has four heads in flight. A lane has one piece of a row: of pairs (2i, 2i + 1)
// that is all, of pairs (i, i + n) another lane has the partners and hands them over. Few rows are shared out among more teams, so
// that there are enough of them.
//
// An angle by base is a fraction of a turn in 64 bits, position times frequency, whose overflow takes away whole turns: its high 32
// bits go to float32 (all of them to float64), so that no position is too far out.
#include "attention_ops/sm80/rows.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, float& sine, float& cosine) {
  sincospif(static_cast<float>(static_cast<std::int32_t>(turns >> 32)) * 0x1p-31f, &sine, &cosine);
}
__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, double& sine, double& cosine) {
  sincospi(static_cast<double>(static_cast<std::int64_t>(turns)) * 0x1p-63, &sine, &cosine);
}

template <typename Element, int kWidth, Turn kTurn>
__global__ __launch_bounds__(threads) void sm80_rope(const __grid_constant__ RopeProblem p,
                                                     const __grid_constant__ Turns turns,
                                                     const __grid_constant__ Shares shares) {
  using S = Arithmetic<Element>;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> shares.team;
  if (index >= shares.count) return;
  const int lanes = 1 << shares.team, lane = threadIdx.x & (lanes - 1);
  const Shares::Place mine = shares.at(index, p.heads);
  const Heads &x = p.from[mine.tensor], &y = p.to[mine.tensor];
  const int pairs = static_cast<int>(p.pairs);
  // In place nothing but what is turned moves.
  const HeadRows<Element> rows{static_cast<const Element*>(x.data) + at(x.strides, mine.batch, mine.first_head, mine.row),
                               x.strides.head, mine.heads, pairs, x.data == y.data ? 2 * pairs : static_cast<int>(p.dim)};
  const auto find = [&]() -> Target<Element> {
    return {static_cast<Element*>(y.data) + at(y.strides, mine.batch, mine.first_head, mine.row), y.strides.head,
            position(p, mine.batch, mine.row)};
  };
  const auto angles = [&](std::int64_t at, int pair, auto& sine, auto& cosine) {
    constexpr int kPairs = sizeof(sine) / sizeof(S);
    if (p.tables.cos != nullptr) {
      sincos_of_table(p.tables, at, pair, sine, cosine);
    } else {
      const auto factor = static_cast<S>(turns.factor);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        sincos_of_turns(static_cast<std::uint64_t>(at) * turns.of_pair[pair + i], sine[i], cosine[i]);
        sine[i] *= factor;
        cosine[i] *= factor;
      }
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      if (p.backward) sine[i] = -sine[i];
  };
  move_rows<kWidth, kTurn>(rows, lane, lanes, find, angles,
                           [](Element* to, const auto& piece, int) { store<Element, kWidth>(to, piece); });
}

template <typename Element>
void run(const RopeProblem& p, const Launch& launch) {
  const auto enqueue = [&](auto kernel, std::int64_t of_lane) {
    const Shares shares =
        Shares::of(p.packed ? 1 : p.batch, p.rows, p.heads, p.from[p.x], ceil_div(p.dim, of_lane), launch.sm_count);
    launch_kernel("launch of the kernel for rotary embedding", launch.stream,
                  {ceil_div(shares.count << shares.team, threads), threads}, kernel, p, *p.turns, shares);
  };
  choose_turn<Element>(p.wide, p.interleaved, p.pairs, [&](auto width, auto turn, int of_lane) {
    enqueue(sm80_rope<Element, decltype(width)::value, decltype(turn)::value>, of_lane);
  });
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
