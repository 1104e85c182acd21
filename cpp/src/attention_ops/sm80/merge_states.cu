// Merging of partial results of attention: o = sum_p w_p o_p / sum_p w_p, w_p = exp(lse_p - max lse).
//
// Data movement. Every part of o is read once and the result written once, 16 bytes a lane. A team of lanes has two rows of a
// head with all their parts on their way, and of more than four parts one row with eight at a time. While they come, each lane
// makes the weights of one of the rows, and hands them to the team: so the weights, which take as many instructions as the
// elements do, are made once for all rows of a warp.
#include "attention_ops/sm80/rows.cuh"
#include "core/sm80/math.cuh"
#include "core/sm80/weighted_sum.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;
using cutplan::sm80::add_weighted, cutplan::sm80::exp2_approx, cutplan::sm80::kLog2e;

constexpr int most_at_once = 8;  // parts

/// Of a team. (Four of two parts: 4 % slower, H200, for registers of 16 warps an SM are taken.)
template <int kParts>
inline constexpr int rows_of_team = kParts < most_at_once ? 2 : 1;

/// kParts: at a time, and all there are at most, but for 8. Two may lie apart, in strides of their own.
template <typename Element, typename Output, int kWidth, int kParts>
__global__ __launch_bounds__(threads) void sm80_merge_states(const __grid_constant__ MergeProblem p,
                                                             const __grid_constant__ Rows rows, int team) {
  constexpr int kRows = rows_of_team<kParts>;
  constexpr bool kAtOnce = kParts < most_at_once, kApart = kParts == 2;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> team;
  const int lanes = 1 << team, lane = threadIdx.x & (lanes - 1), dim = static_cast<int>(p.dim),
            parts = kApart ? 2 : static_cast<int>(p.parts);
  // All lanes of a warp hand weights over, those of no row too.
  Rows::Place at = rows.at(index < rows.count ? index : 0);
  at.row *= kRows;
  const int count = index < rows.count ? static_cast<int>(p.rows) - static_cast<int>(at.row) : 0;
  const Element* const o = static_cast<const Element*>(p.o.data) + offset(p.o.strides, at);
  const Element* const o2 = kApart ? static_cast<const Element*>(p.o2) + offset(p.o2_strides, at) : nullptr;
  const auto part_of = [&](int part) { return kApart && part == 1 ? o2 : o + part * p.of_part; };

  const int own = lane % kRows;
  const float* const lse = p.lse + offset(p.lse_strides, at) + own * p.lse_strides.row;
  const float* const lse2 = kApart ? p.lse2 + offset(p.lse2_strides, at) + own * p.lse2_strides.row : nullptr;
  const auto lse_of = [&](int part) {
    return part < parts && own < count ? __ldg(kApart && part == 1 ? lse2 : lse + part * p.of_part_lse) : -INFINITY;
  };
  float of_part[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) of_part[i] = lse_of(i);
  float largest = -INFINITY, factor = 0;
  const auto weight = [&](float x) {
    return largest == -INFINITY && x == x ? 0.0f : x == largest ? 1.0f : exp2_approx((x - largest) * kLog2e);
  };

  Output* const out = static_cast<Output*>(p.out.data) + offset(p.out.strides, at);
  for (int first_column = 0; first_column < dim || first_column == 0; first_column += kWidth << team) {
    const int column = first_column + lane * kWidth;
    const bool inside = column < dim;
    float sums[kRows][kWidth] = {};
    for (int first = 0; first == 0 || (!kAtOnce && first < parts); first += kParts) {
      Piece<Element, kWidth> pieces[kParts][kRows];
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (first + i < parts && r < count && inside)
            pieces[i][r] = load<Element, kWidth>(part_of(first + i) + column +
                                                 r * (kApart && i == 1 ? p.o2_strides.row : p.o.strides.row));
      }
      if (first_column == 0 && first == 0) {
        const auto for_parts = [&](const auto& use) {
#pragma unroll
          for (int i = 0; i < kParts; ++i) use(of_part[i]);
#pragma unroll 1
          for (int i = kParts; !kAtOnce && i < parts; ++i) use(lse_of(i));
        };
        float sum = 0;
        for_parts([&](float x) { largest = fmaxf(largest, x); });
        for_parts([&](float x) { sum += weight(x); });
        factor = sum == 0 ? 0 : 1 / sum;
        if (lane < kRows && lane < count && p.out_lse != nullptr)
          p.out_lse[offset(p.out_lse_strides, at) + lane * p.out_lse_strides.row] =
              sum == 0 ? -INFINITY : largest + logf(sum);
      }
      float weights[kParts];
#pragma unroll
      for (int i = 0; i < kParts; ++i) weights[i] = weight(kAtOnce ? of_part[i] : lse_of(first + i)) * factor;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
          float values[kWidth];
          pieces[i][r].get(values);
          add_weighted(sums[r], __shfl_sync(~0u, weights[i], r, lanes), values);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= count || !inside) continue;
      // Of float32 perhaps twice as long.
      constexpr int kStored = std::min(kWidth, 16 / static_cast<int>(sizeof(Output)));
#pragma unroll
      for (int k = 0; k < kWidth; k += kStored) {
        float x[kStored];
#pragma unroll
        for (int e = 0; e < kStored; ++e) x[e] = sums[r][k + e];
        Piece<Output, kStored> result;
        result.set(x);
        store<Output, kStored>(out + r * p.out.strides.row + column + k, result);
      }
    }
  }
}

template <typename Element, typename Output, int kWidth, int kParts>
void enqueue(const MergeProblem& p, const Launch& launch) {
  constexpr int kRows = rows_of_team<kParts>;
  const Rows rows(p.batch, p.heads, ceil_div(p.rows, std::int64_t{kRows}));
  const int team = std::max(team_bits(ceil_div(p.dim, std::int64_t{kWidth}), 5), team_bits(kRows));
  launch_kernel("launch of the kernel that merges states", launch.stream, {ceil_div(rows.count << team, threads), threads},
                sm80_merge_states<Element, Output, kWidth, kParts>, p, rows, team);
}

template <typename Element, typename Output>
void choose(const MergeProblem& p, const Launch& launch) {
  constexpr int kWidth = width<Element, true>;
  if (p.parts == 2)
    return p.wide ? enqueue<Element, Output, kWidth, 2>(p, launch) : enqueue<Element, Output, 1, 2>(p, launch);
  if (p.parts <= 4 && p.wide) return enqueue<Element, Output, kWidth, 4>(p, launch);
  p.wide ? enqueue<Element, Output, kWidth, most_at_once>(p, launch) : enqueue<Element, Output, 1, most_at_once>(p, launch);
}

template <typename Element>
void run(const MergeProblem& p, const Launch& launch) {
  MergeProblem given = p;
  if (p.parts == 2 && p.o2 == nullptr) {
    given.o2 = static_cast<const Element*>(p.o.data) + p.of_part;
    given.o2_strides = p.o.strides;
    given.lse2 = p.lse + p.of_part_lse;
    given.lse2_strides = p.lse_strides;
  }
  p.o_type == DType::f32 ? choose<Element, float>(given, launch) : choose<Element, Element>(given, launch);
}

constexpr Kernel table[] = {
    kernel(Op::merge_states, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::merge_states, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::merge_states, Arch::sm80, DType::f32, run<float>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
