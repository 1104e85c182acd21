// Data times its scales, back to floats.
//
// Data movement. Each code is read once and each element written once, 16 bytes of them a lane, from several reads on their way.
// Teams of lanes take regions that have one scale, or parts of them, and blocks those whose columns have one each, as
// quantisation does.
#include <cutlass/numeric_types.h>

#include "quantize/sm80/regions.cuh"

namespace cutplan::quantize {
namespace {

using namespace quantize::sm80;

/// Of several pieces that a lane has on their way.
constexpr int pieces_of_lane = 4;

__device__ __forceinline__ float zero_of(const Problem& p, DType type, int batch, int row, int column) {
  if (!p.zero) return 0;
  return static_cast<float>(coder_of(1.0f, __ldg(sm80::at(p.zero, batch, row, column)), type, p.symmetric).zero);
}

/// Regions, or parts of regions, that have one scale.
template <typename Element, typename Code, int kWidth>
__global__ __launch_bounds__(most_threads, 2) void sm80_dequantize(const __grid_constant__ Problem p,
                                                                   const __grid_constant__ Regions regions) {
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) >> regions.team;
  if (index >= regions.count) return;
  const int lanes = 1 << regions.team, lane = threadIdx.x & (lanes - 1);
  const Regions::Place place = regions.at(p, index);
  const std::uint8_t* const data = place.in<const std::uint8_t>(p.data, per_byte<Code>);
  Element* const out = place.in<Element>(p.x);
  const float scale = __ldg(sm80::at(p.scale, place.batch, place.row, place.column)),
              offset = offset_of<Code>(p.symmetric) + zero_of(p, type_of<Code>, place.batch, place.row, place.column);
  const int pieces = place.rows * regions.pieces_of_row.divisor;
  for (int first = 0; first < pieces; first += lanes * pieces_of_lane) {
    Codes<Code, kWidth> codes[pieces_of_lane];
    std::int64_t to[pieces_of_lane];
    int counts[pieces_of_lane];
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      const int piece = first + i * lanes + lane;
      int row, column;
      regions.pieces_of_row(row, column, piece);
      column *= kWidth;
      counts[i] = piece < pieces ? place.columns - column : 0;
      to[i] = row * p.x.row + column;
      if (counts[i] > 0) codes[i].load(data + row * p.data.row + column / per_byte<Code>, counts[i]);
    }
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      if (counts[i] <= 0) continue;
      float values[kWidth];
      decode(codes[i], p.symmetric, [&](int) { return offset; }, values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) values[e] *= scale;
      store<Element, kWidth>(out + to[i], values, counts[i]);
    }
  }
}

/// Regions whose columns have a scale each.
template <typename Element, typename Code, int kWidth>
__global__ __launch_bounds__(threads) void sm80_dequantize_columns(const __grid_constant__ Problem p,
                                                                   const __grid_constant__ Regions regions) {
  const Regions::Place place = regions.at(p, blockIdx.x);
  const int column = static_cast<int>(threadIdx.x) % lanes_across * kWidth, count = place.columns - column,
            row = static_cast<int>(threadIdx.x) / lanes_across, rows_at_once = static_cast<int>(blockDim.x) / lanes_across;
  if (count <= 0) return;
  const std::uint8_t* const data = place.in<const std::uint8_t>(p.data, per_byte<Code>) + column / per_byte<Code>;
  Element* const out = place.in<Element>(p.x) + column;
  float scale[kWidth], offset[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const int at = static_cast<int>(place.first_column) + column + min(e, count - 1);
    scale[e] = __ldg(sm80::at(p.scale, place.batch, place.row, at));
    offset[e] = offset_of<Code>(p.symmetric) + zero_of(p, type_of<Code>, place.batch, place.row, at);
  }
  for (int first = row; first < place.rows; first += rows_at_once * pieces_of_lane) {
    Codes<Code, kWidth> codes[pieces_of_lane];
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      const int at = first + i * rows_at_once;
      if (at < place.rows) codes[i].load(data + at * p.data.row, count);
    }
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      const int at = first + i * rows_at_once;
      if (at >= place.rows) continue;
      float values[kWidth];
      decode(codes[i], p.symmetric, [&](int e) { return offset[e]; }, values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) values[e] *= scale[e];
      store<Element, kWidth>(out + at * p.x.row, values, count);
    }
  }
}

template <typename Element, typename Code, bool kWide>
void enqueue(const Problem& p, const Launch& launch) {
  constexpr int kWidth = width<Element, Code, kWide>;
  constexpr char what[] = "launch of the kernel that undoes quantisation";
  if (p.by_columns) {
    const Regions r = regions_of_columns(p, kWidth, threads / lanes_across * pieces_of_lane * 2);
    launch_kernel(what, launch.stream, {r.count, threads_for_rows(r.height, pieces_of_lane)},
                  sm80_dequantize_columns<Element, Code, kWidth>, p, r);
    return;
  }
  const Regions r = regions_with_one_scale(p, kWidth, p.whole, threads * pieces_of_lane, pieces_of_lane);
  const int of_block = std::max(threads, 1 << r.team);
  launch_kernel(what, launch.stream, {ceil_div(r.count << r.team, std::int64_t{of_block}), of_block},
                sm80_dequantize<Element, Code, kWidth>, p, r);
}

template <typename Element, typename Code>
void enqueue(const Problem& p, const Launch& launch) {
  p.wide ? enqueue<Element, Code, true>(p, launch) : enqueue<Element, Code, false>(p, launch);
}

template <typename Element>
void run(const Problem& p, const Launch& launch) {
  switch (p.type) {
    case DType::i8: return enqueue<Element, std::int8_t>(p, launch);
    case DType::i4: return enqueue<Element, Int4>(p, launch);
    case DType::fp8_e4m3: return enqueue<Element, E4M3>(p, launch);
    case DType::fp8_e5m2: return enqueue<Element, E5M2>(p, launch);
    default: refuse_unexpected_type(p.type);
  }
}

constexpr Kernel table[] = {
    kernel(Op::dequantize, Arch::sm80, DType::f16, run<cutlass::half_t>),
    kernel(Op::dequantize, Arch::sm80, DType::bf16, run<cutlass::bfloat16_t>),
    kernel(Op::dequantize, Arch::sm80, DType::f32, run<float>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::quantize
