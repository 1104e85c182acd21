// Merging of partial results of attention: o = sum_p w_p o_p / sum_p w_p, w_p = exp(lse_p - max lse).
//
// Data movement. Every part of o is read once and the result written once, 16 bytes a lane; a team of lanes has two rows of a
// head, and two parts of both on their way. Each lane makes the weights for itself from the parts' lse, which it asks for when its
// pieces are under way.
#include "attention_ops/sm80/rows.cuh"
#include "core/sm80/math.cuh"
#include "core/sm80/weighted_sum.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;
using cutplan::sm80::exp2_approx, cutplan::sm80::kLog2e, cutplan::sm80::WeightedSum;

constexpr int kRows = 2, kParts = 2;  // of a lane in flight

/// kApart: part 1 lies by itself, in strides of its own.
template <typename Element, typename Output, int kWidth, bool kApart>
__global__ __launch_bounds__(threads) void sm80_merge_states(const __grid_constant__ MergeProblem p,
                                                             const __grid_constant__ Rows rows, int team) {
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> team;
  if (index >= rows.count) return;
  const int lane = threadIdx.x & ((1 << team) - 1), dim = static_cast<int>(p.dim), parts = static_cast<int>(p.parts);
  Rows::Place at = rows.at(index);
  at.row *= kRows;
  const bool has_second = at.row + 1 < p.rows;
  const auto has = [&](int row) { return row == 0 || has_second; };
  const Element* const o = static_cast<const Element*>(p.o.data) + offset(p.o.strides, at);
  const Element* const o2 = kApart ? static_cast<const Element*>(p.o2) + offset(p.o2_strides, at) : nullptr;
  const float* const lse = p.lse + offset(p.lse_strides, at);
  const float* const lse2 = kApart ? p.lse2 + offset(p.lse2_strides, at) : nullptr;
  const auto is_second = [&](int part) { return kApart && part == 1; };
  const auto lse_of = [&](int part, int row) {
    return __ldg((is_second(part) ? lse2 + row * p.lse2_strides.row : lse + part * p.of_part_lse + row * p.lse_strides.row));
  };

  float largest[kRows], sum[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) largest[r] = -INFINITY;
  Output* const out = static_cast<Output*>(p.out.data) + offset(p.out.strides, at);
  for (int c = lane * kWidth; c < dim || c == 0; c += kWidth << team) {  // of an empty o there is still an lse
    const bool inside = c < dim;
    WeightedSum<kWidth> sums[kRows];
    for (int first = 0; first < parts; first += kParts) {
      Piece<Element, kWidth> pieces[kParts][kRows];
      float of_part[kParts][kRows];
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        const int part = first + i;
        const Element* const from = (is_second(part) ? o2 : o + part * p.of_part) + c;
        const std::int64_t step = is_second(part) ? p.o2_strides.row : p.o.strides.row;
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (part < parts && has(r) && inside) pieces[i][r] = load<Element, kWidth>(from + r * step);
#pragma unroll
        for (int r = 0; r < kRows; ++r) of_part[i][r] = part < parts && has(r) ? lse_of(part, r) : -INFINITY;
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (first == 0) {
          for (int part = kParts; has(r) && part < parts; ++part) largest[r] = fmaxf(largest[r], lse_of(part, r));
#pragma unroll
          for (int i = 0; i < kParts; ++i) largest[r] = fmaxf(largest[r], of_part[i][r]);
        }
#pragma unroll
        for (int i = 0; i < kParts; ++i) {
          if (first + i >= parts) continue;
          const float x = of_part[i][r];
          float values[kWidth];
          pieces[i][r].get(values);
          sums[r].add(largest[r] == -INFINITY && x == x ? 0.0f
                      : x == largest[r]                 ? 1.0f
                                                        : exp2_approx((x - largest[r]) * kLog2e),
                      values);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      sum[r] = sums[r].weights;
      if (!has(r) || !inside) continue;
      const float factor = sums[r].factor();
      // Of float32 perhaps twice as long.
      constexpr int kStored = std::min(kWidth, 16 / static_cast<int>(sizeof(Output)));
#pragma unroll
      for (int k = 0; k < kWidth; k += kStored) {
        float x[kStored];
#pragma unroll
        for (int e = 0; e < kStored; ++e) x[e] = sums[r].values[k + e] * factor;
        Piece<Output, kStored> result;
        result.set(x);
        store<Output, kStored>(out + r * p.out.strides.row + c + k, result);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (lane == 0 && p.out_lse != nullptr && has(r))
      p.out_lse[offset(p.out_lse_strides, at) + r * p.out_lse_strides.row] =
          sum[r] == 0 ? -INFINITY : largest[r] + logf(sum[r]);
}

template <typename Element>
void run(const MergeProblem& p, const Launch& launch) {
  const Rows rows(p.batch, p.heads, ceil_div(p.rows, std::int64_t{kRows}));
  const auto enqueue = [&](auto kernel, int width) {
    const int team = team_bits(ceil_div(p.dim, width), 5);
    launch_kernel("launch of the kernel that merges states", launch.stream, {ceil_div(rows.count << team, threads), threads},
                  kernel, p, rows, team);
  };
  const auto choose = [&](auto wide) {
    constexpr int kWidth = width<Element, decltype(wide)::value>;
    const auto with = [&](auto apart) {
      constexpr bool kApart = decltype(apart)::value;
      p.o_type == DType::f32 ? enqueue(sm80_merge_states<Element, float, kWidth, kApart>, kWidth)
                             : enqueue(sm80_merge_states<Element, Element, kWidth, kApart>, kWidth);
    };
    p.o2 != nullptr ? with(std::true_type{}) : with(std::false_type{});
  };
  p.wide ? choose(std::true_type{}) : choose(std::false_type{});
}

constexpr Kernel table[] = {
    kernel(Op::merge_states, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::merge_states, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::merge_states, Arch::sm80, DType::f32, run<float>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
