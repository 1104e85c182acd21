// Data times its scales, back to floats.
//
// Data movement. Each code is read once and each element written once, 16 bytes of them a lane, from several reads on their way.
// Each piece looks up its scale; where columns have one each, a lane has those of its columns for many rows.
#include <cutlass/numeric_types.h>

#include <limits>
#include <utility>

#include "quantize/sm80/regions.cuh"

namespace cutplan::quantize {
namespace {

using namespace quantize::sm80;

/// Of several pieces that a lane has on their way.
constexpr int pieces_of_lane = 4;

__device__ __forceinline__ float zero_of(const std::int32_t* zero, DType type, bool symmetric) {
  return static_cast<float>(coder_of(1.0f, __ldg(zero), type, symmetric).zero);
}

/// Where each piece has one scale. All pieces at once of a block are a chunk of a matrix. Those of a lane are below each other or
/// side by side, so that their scales differ along one axis. `row` of the strides of scales is that of the other axis, `column` that
/// of this one.
struct Chunks {
  Spread pieces;
  cutlass::FastDivmod of_matrix;
  bool down;                         // pieces of a lane are below each other
  cutlass::FastDivmod along, other;  // rows or columns that share a scale, along the lane's pieces and along the other axis
};

template <typename Element, typename Code, int kWidth>
__global__ __launch_bounds__(threads) void sm80_dequantize(const __grid_constant__ Problem p,
                                                           const __grid_constant__ Chunks chunks) {
  const Spread& pieces = chunks.pieces;
  int batch, chunk;
  chunks.of_matrix(batch, chunk, static_cast<int>(blockIdx.x));
  const Spread::Spot spot = pieces.at(static_cast<int>(threadIdx.x), chunk);
  const std::int64_t column = spot.column * kWidth, most = 1 << 30;
  const int row = static_cast<int>(spot.row);
  Left left{static_cast<int>(p.rows - spot.row), static_cast<int>(min(p.columns - column, most))};
  const std::uint8_t* from = static_cast<const std::uint8_t*>(p.data.data) + times(batch, p.data.batch) +
                             times(row, p.data.row) + column / per_byte<Code>;
  Element* to = static_cast<Element*>(p.x.data) + times(batch, p.x.batch) + times(row, p.x.row) + column;

  Codes<Code, kWidth> codes[pieces_of_lane];
  float scale[pieces_of_lane], offset[pieces_of_lane];
  int counts[pieces_of_lane], along[pieces_of_lane], position = chunks.down ? row : static_cast<int>(column);
  const int other = chunks.other.div(chunks.down ? static_cast<int>(column) : row);
  const float* const scales = sm80::at(p.scale, batch, other, 0);
#pragma unroll
  for (int i = 0; i < pieces_of_lane;
       ++i, from += pieces.data_step, position += pieces.row_step + pieces.column_step, left.step(pieces)) {
    counts[i] = left.of_row();
    if (counts[i] <= 0) continue;
    codes[i].load(from, counts[i]);
    along[i] = chunks.along.div(position);
    scale[i] = __ldg(scales + times(along[i], p.scale.column));
    offset[i] = code_offset<Code>(p.symmetric);
  }
  if (p.zero) {
    const std::int32_t* const zeros = sm80::at(p.zero, batch, other, 0);
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i)
      if (counts[i] > 0) offset[i] += zero_of(zeros + times(along[i], p.zero.column), type_of<Code>, p.symmetric);
  }
#pragma unroll
  for (int i = 0; i < pieces_of_lane; ++i, to += pieces.x_step) {
    if (counts[i] <= 0) continue;
    float values[kWidth];
    decode(codes[i], p.symmetric, [&](int) { return offset[i]; }, values);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) values[e] *= scale[i];
    store<Element, kWidth>(to, values, counts[i]);
  }
}

/// Regions whose columns have a scale each.
template <typename Element, typename Code, int kWidth>
__global__ __launch_bounds__(threads) void sm80_dequantize_columns(const __grid_constant__ Problem p,
                                                                   const __grid_constant__ Regions regions) {
  const Regions::Place place = regions.at(blockIdx.x);
  const int column = static_cast<int>(threadIdx.x) % lanes_across * kWidth, count = regions.columns(place) - column,
            height = regions.rows(place), row = static_cast<int>(threadIdx.x) / lanes_across,
            rows_at_once = static_cast<int>(blockDim.x) / lanes_across;
  if (count <= 0) return;
  const std::uint8_t* const data = place.in<const std::uint8_t>(p.data, regions.data) + column / per_byte<Code>;
  Element* const out = place.in<Element>(p.x, regions.x) + column;
  float scale[kWidth], offset[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const int at = place.column * regions.width + column + min(e, count - 1);
    scale[e] = __ldg(sm80::at(p.scale, place.batch, place.row, at));
    offset[e] = code_offset<Code>(p.symmetric);
    if (p.zero) offset[e] += zero_of(sm80::at(p.zero, place.batch, place.row, at), type_of<Code>, p.symmetric);
  }
  for (int first = row; first < height; first += rows_at_once * pieces_of_lane) {
    Codes<Code, kWidth> codes[pieces_of_lane];
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      const int at = first + i * rows_at_once;
      if (at < height) codes[i].load(data + at * p.data.row, count);
    }
#pragma unroll
    for (int i = 0; i < pieces_of_lane; ++i) {
      const int at = first + i * rows_at_once;
      if (at >= height) continue;
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
  Chunks chunks;
  chunks.pieces =
      spread(p, p.rows, ceil_div(p.columns, std::int64_t{kWidth}), 1, kWidth, bits_for(threads, 9), pieces_of_lane);
  chunks.of_matrix = divisor(chunks.pieces.chunks);
  chunks.down = chunks.pieces.row_step != 0;
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  chunks.along = divisor(std::min(p.group_columns, most));
  chunks.other = divisor(std::min(p.group_rows, most));
  Problem q = p;
  if (chunks.down) {
    std::swap(chunks.along, chunks.other);
    std::swap(q.scale.row, q.scale.column);
    std::swap(q.zero.row, q.zero.column);
  }
  launch_kernel(what, launch.stream, {p.batch * chunks.pieces.chunks, threads}, sm80_dequantize<Element, Code, kWidth>, q,
                chunks);
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
