// Merging of partial results of attention: o = sum_p w_p o_p / sum_p w_p, w_p = exp(lse_p - max lse).
//
// Data movement. Every part of o is read once and the result written once, 16 bytes a lane; a team of lanes has a row, whose
// weights each of them computes for itself from the parts' lse, which they read together. Four parts are in flight in a lane: at
// 2048 lanes an SM that is more than memory needs.
#include "attention_ops/sm80/rows.cuh"
#include "core/sm80/math.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;
using cutplan::sm80::exp2_approx, cutplan::sm80::kLog2e;

template <typename Element, typename Output, int kWidth>
__global__ __launch_bounds__(threads) void sm80_merge_states(const __grid_constant__ MergeProblem p,
                                                             const __grid_constant__ Rows rows, int team) {
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) >> team;
  if (index >= rows.count) return;
  const int lane = threadIdx.x & ((1 << team) - 1), dim = static_cast<int>(p.dim), parts = static_cast<int>(p.parts);
  const Rows::Place at = rows.at(index);
  const Element* const o = static_cast<const Element*>(p.o.data) + offset(p.o.strides, at);
  const Element* const o2 = static_cast<const Element*>(p.o2) + (p.o2 != nullptr ? offset(p.o2_strides, at) : 0);
  const float* const lse = p.lse + offset(p.lse_strides, at);
  const float* const lse2 = p.lse2 + (p.o2 != nullptr ? offset(p.lse2_strides, at) : 0);
  const auto lse_of = [&](int part) { return __ldg(p.o2 != nullptr && part == 1 ? lse2 : lse + part * p.of_part_lse); };

  float largest = -INFINITY;
  for (int part = 0; part < parts; ++part) largest = fmaxf(largest, lse_of(part));
  const auto weight_of = [&](int part) {
    const float x = lse_of(part);
    return largest == -INFINITY && x == x ? 0.0f : x == largest ? 1.0f : exp2_approx((x - largest) * kLog2e);
  };
  float sum = 0;
  for (int part = 0; part < parts; ++part) sum += weight_of(part);
  const float factor = sum == 0 ? 0 : 1 / sum;

  Output* const out = static_cast<Output*>(p.out.data) + offset(p.out.strides, at);
  for (int c = lane * kWidth; c < dim; c += kWidth << team) {
    float sums[kWidth] = {};
#pragma unroll 4
    for (int part = 0; part < parts; ++part) {
      const float weight = weight_of(part);
      const auto piece = load<Element, kWidth>((p.o2 != nullptr && part == 1 ? o2 : o + part * p.of_part) + c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e)
        if (weight != 0) sums[e] = fmaf(weight, to_float(piece.x[e]), sums[e]);  // without one, whatever o holds
    }
    Piece<Output, kWidth> result;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) result.x[e] = from_float<Output>(sums[e] * factor);
    if constexpr (sizeof(result) <= 16) {
      store<Output, kWidth>(out + c, result);
    } else {
      store<Output, kWidth / 2>(out + c, reinterpret_cast<const Piece<Output, kWidth / 2>(&)[2]>(result)[0]);
      store<Output, kWidth / 2>(out + c + kWidth / 2, reinterpret_cast<const Piece<Output, kWidth / 2>(&)[2]>(result)[1]);
    }
  }
  if (lane == 0 && p.out_lse != nullptr)
    p.out_lse[offset(p.out_lse_strides, at)] = sum == 0 ? -INFINITY : largest + logf(sum);
}

template <typename Element>
void run(const MergeProblem& p, const Launch& launch) {
  const Rows rows(p.batch, p.heads, p.rows);
  const auto enqueue = [&](auto kernel, int width) {
    const int team = team_bits(ceil_div(p.dim, width), 5);
    launch_kernel("launch of the kernel that merges states", launch.stream, {ceil_div(rows.count << team, threads), threads},
                  kernel, p, rows, team);
  };
  const auto choose = [&](auto wide) {
    constexpr int kWidth = width<Element, decltype(wide)::value>;
    p.o_type == DType::f32 ? enqueue(sm80_merge_states<Element, float, kWidth>, kWidth)
                           : enqueue(sm80_merge_states<Element, Element, kWidth>, kWidth);
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
