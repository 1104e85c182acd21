// Rotary embedding, both ways.
//
// Data movement. Every element is read once and written once, 16 bytes a lane. A team of lanes has one position of several heads
// of x or k, computes its lanes' angles once, and has four heads in flight. A lane has one piece of a row: of pairs (2i, 2i + 1)
// that is all, of pairs (i, i + n) another lane has the partners and hands them over. Few rows are shared out among more teams, so
// that there are enough of them.
//
// An angle by base is a fraction of a turn in 64 bits, position times frequency, whose overflow takes away whole turns: its high 32
// bits go to float32 (all of them to float64), so that no position is too far out. 16-bit elements, whose rounding hides it, are
// turned by the hardware's own sine and cosine, five instructions an angle in place of thirty.
#include "attention_ops/sm80/rows.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

/// kFast: within 2^-20; else within two units in the last place.
template <bool kFast>
__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, float& sine, float& cosine) {
  const auto signed_turns = static_cast<float>(static_cast<std::int32_t>(turns >> 32));
  if constexpr (kFast) {
    __sincosf(signed_turns * 0x1.921fb6p-30f, &sine, &cosine);
  } else {
    sincospif(signed_turns * 0x1p-31f, &sine, &cosine);
  }
}
template <bool>
__device__ __forceinline__ void sincos_of_turns(std::uint64_t turns, double& sine, double& cosine) {
  sincospi(static_cast<double>(static_cast<std::int64_t>(turns)) * 0x1p-63, &sine, &cosine);
}

/// Of pairs from `i` on. Lanes read different ones, which the path of parameters would hand out one by one: so by address.
template <int kPairs>
__device__ __forceinline__ void load_turns(const Turns& turns, int i, std::uint64_t (&of_pair)[kPairs]) {
  if constexpr (kPairs % 2 == 0) {
#pragma unroll
    for (int j = 0; j < kPairs; j += 2)
      asm("ld.v2.u64 {%0, %1}, [%2];" : "=l"(of_pair[j]), "=l"(of_pair[j + 1]) : "l"(turns.of_pair + i + j));
  } else {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) asm("ld.u64 %0, [%1];" : "=l"(of_pair[j]) : "l"(turns.of_pair + i + j));
  }
}

using TwoTensors = Shares<RopeProblem::tensors>;

template <typename Element, int kWidth, Turn kTurn>
__global__ __launch_bounds__(threads) void sm80_rope(const __grid_constant__ TwoTensors shares,
                                                     const __grid_constant__ RopeProblem p,
                                                     const __grid_constant__ Turns turns) {
  using S = Arithmetic<Element>;
  const int tensor = shares.tensor();
  const TwoTensors::Tensor& mine = shares.of[tensor];
  const TwoTensors::Place place = shares.place(tensor);
  if (place.heads == 0) return;
  const int lanes = 1 << shares.team, lane = threadIdx.x & (lanes - 1);
  const HeadRows<Element> rows{
      static_cast<const Element*>(mine.from.data) + at(mine.from.strides, place.batch, place.first_head, place.row),
      mine.from.strides.head, place.heads, mine.pairs, mine.dim};
  const auto find = [&]() -> Target<Element> {
    return {static_cast<Element*>(mine.to.data) + at(mine.to.strides, place.batch, place.first_head, place.row),
            mine.to.strides.head, position(p, place.batch, place.row)};
  };
  const auto angles = [&](std::int64_t at, int pair, auto& sine, auto& cosine) {
    constexpr int kPairs = sizeof(sine) / sizeof(S);
    if (p.tables.cos != nullptr) {
      sincos_of_table(p.tables, at, pair, sine, cosine);
    } else {
      const auto factor = static_cast<S>(turns.factor);
      std::uint64_t of_pair[kPairs];
      load_turns(turns, pair, of_pair);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        sincos_of_turns<sizeof(Element) == 2>(static_cast<std::uint64_t>(at) * of_pair[i], sine[i], cosine[i]);
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
    TwoTensors::Tensor tensors[p.tensors] = {};
    for (int i = 0; i < p.tensors; ++i) {
      const bool in_place = p.from[i].data == p.to[i].data;  // nothing but what is turned moves
      tensors[i] = {p.from[i],
                    p.to[i],
                    static_cast<int>(p.heads[i]),
                    static_cast<int>(in_place ? 2 * p.pairs : p.dim),
                    static_cast<int>(p.pairs),
                    {},
                    {}};
    }
    const TwoTensors shares(p.packed ? 1 : p.batch, p.rows, ceil_div(p.dim, of_lane), launch.sm_count, tensors);
    launch_kernel("launch of the kernel for rotary embedding", launch.stream, {shares.blocks, threads}, kernel, shares, p,
                  *p.turns);
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
