// New rows of K and V into caches, K and Q turned on their way.
//
// Data movement. Every element is read once and written once, 16 bytes of a new row a lane. A team of lanes has one position of
// several heads of K, V or Q, four of them in flight; where the row goes, and its angles, are looked up once, while the first rows
// come.
#include <cuda_fp8.h>

#include <cfloat>

#include "attention_ops/sm80/rows.cuh"
#include "core/fp8.hpp"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

/// x / scale: the quotient by the reciprocal, corrected by what it leaves, which rounds it correctly (Markstein 1990) where the
/// scale and its reciprocal are normal numbers.
struct Divisor {
  float scale, inverse;

  __device__ __forceinline__ explicit Divisor(float x) : scale(x), inverse(1 / x) {
    if (x != 0) inverse = fminf(fmaxf(inverse, -FLT_MAX), FLT_MAX);
  }
  __device__ __forceinline__ float divide(float x) const {
    const float y = x * inverse, better = fmaf(fmaf(-y, scale, x), inverse, y);
    return fabsf(better) > 0 ? better : y;  // no infinity, and no zero, whose sign y has
  }
};

/// To nearest even, saturated.
template <typename Output, int kWidth>
__device__ __forceinline__ Piece<Output, kWidth> quantised(const float (&x)[kWidth]) {
  Piece<Output, kWidth> narrow;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    if constexpr (std::is_same_v<Output, std::int8_t>) {
      narrow.x[e] = static_cast<std::int8_t>(__float2int_rn(fminf(fmaxf(x[e] == x[e] ? x[e] : 0.0f, -128.0f), 127.0f)));
    } else {
#if __CUDA_ARCH__ >= 890
      constexpr auto kFormat = std::is_same_v<Output, E4M3> ? __NV_E4M3 : __NV_E5M2;
      if constexpr (kWidth > 1) {
        if (e % 2 == 0)
          reinterpret_cast<__nv_fp8x2_storage_t&>(narrow.x[e]) =
              __nv_cvt_float2_to_fp8x2(make_float2(x[e], x[e + 1]), __NV_SATFINITE, kFormat);
      } else {
        narrow.x[e].bits = __nv_cvt_float_to_fp8(x[e], __NV_SATFINITE, kFormat);
      }
#else
      narrow.x[e] = Output(x[e]);
#endif
    }
  }
  return narrow;
}

/// As a cache has them: the elements themselves, or x / scale.
template <typename Element, int kWidth, typename Output>
__device__ __forceinline__ void store_cached(Output* to, const Piece<Element, kWidth>& piece, const float* scale) {
  if constexpr (std::is_same_v<Output, Element>) {
    store<Element, kWidth>(to, piece);
  } else {
    const Divisor divisor(*scale);
    float x[kWidth];
    piece.get(x);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = divisor.divide(x[e]);
    store<Output, kWidth>(to, quantised<Output>(x));
  }
}

using ThreeTensors = Shares<AppendProblem::tensors>;

template <typename Element, typename CacheElement, int kWidth, Turn kTurn>
__global__ __launch_bounds__(threads, kTurn == Turn::none ? 4 : 3) void sm80_kv_cache_append(
    const __grid_constant__ ThreeTensors shares, const __grid_constant__ AppendProblem p) {
  const int tensor = shares.tensor();
  const ThreeTensors::Tensor& mine = shares.of[tensor];
  const ThreeTensors::Place place = shares.place(tensor);
  if (place.heads > 0) {
    const int lanes = 1 << shares.team, lane = threadIdx.x & (lanes - 1);
    const HeadRows<Element> rows{
        static_cast<const Element*>(mine.from.data) + at(mine.from.strides, place.batch, place.first_head, place.row),
        mine.from.strides.head, place.heads, mine.pairs, mine.dim};
    const auto angles = [&](std::int64_t at, int pair, auto& sine, auto& cosine) {
      sincos_of_table(p.tables, at, pair, sine, cosine);
    };
    if (tensor == p.q) {
      if constexpr (kTurn != Turn::none) {
        const auto find = [&]() -> Target<Element> {
          std::int64_t sequence, position;
          find_position(p, place.batch, place.row, sequence, position);
          return {static_cast<Element*>(mine.to.data) + at(mine.to.strides, place.batch, place.first_head, place.row),
                  mine.to.strides.head, position};
        };
        move_rows<kWidth, kTurn>(rows, lane, lanes, find, angles,
                                 [](Element* to, const auto& piece, int) { store<Element, kWidth>(to, piece); });
      }
    } else {
      const float* scale = p.scale[tensor];
      const std::int64_t scale_step = p.scale_stride[tensor];
      bool fits = false;
      const auto find = [&]() -> Target<CacheElement> {
        std::int64_t sequence, position, outer = 0, inner = 0;
        fits = find_position(p, place.batch, place.row, sequence, position) && find_row(p, sequence, position, outer, inner);
        return {static_cast<CacheElement*>(mine.to.data) + at(mine.to.strides, outer, place.first_head, inner),
                mine.to.strides.head, position};
      };
      move_rows<kWidth, kTurn>(rows, lane, lanes, find, angles, [&](CacheElement* to, const auto& piece, int head) {
        if (fits) store_cached<Element, kWidth>(to, piece, scale + (place.first_head + head) * scale_step);
      });
      // Lane 0 has elements of every row.
      if (!fits && lane == 0 && tensor == p.k && place.first_head == 0 && p.rejected != nullptr) atomicAdd(p.rejected, 1);
    }
  }
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
       p.lengths_out.data != nullptr && i < p.batch; i += std::int64_t{gridDim.x} * threads)
    set(p.lengths_out, i, length(p, i));
}

template <typename Element, typename CacheElement>
void enqueue(const AppendProblem& p, const Launch& launch) {
  const auto start = [&](auto kernel, std::int64_t of_lane) {
    ThreeTensors::Tensor tensors[p.tensors] = {};
    for (int i = 0; i < p.tensors; ++i)
      tensors[i] = {
          p.from[i], p.to[i], static_cast<int>(p.heads[i]), static_cast<int>(p.dim[i]), static_cast<int>(p.pairs[i]),
          {},        {}};
    const ThreeTensors shares(p.packed ? 1 : p.batch, p.rows, ceil_div(std::max(p.dim[p.k], p.dim[p.v]), of_lane),
                              launch.sm_count, tensors);
    // One block at least: lengths are written also where there are no rows.
    launch_kernel("launch of the kernel that appends to caches", launch.stream,
                  {std::max<std::int64_t>(shares.blocks, 1), threads}, kernel, shares, p);
  };
  if (p.pairs[p.k] == 0) {
    constexpr int kWidth = width<Element, true>;
    p.wide ? start(sm80_kv_cache_append<Element, CacheElement, kWidth, Turn::none>, kWidth)
           : start(sm80_kv_cache_append<Element, CacheElement, 1, Turn::none>, 1);
  } else {
    choose_turn<Element>(p.wide, p.interleaved, p.pairs[p.k], [&](auto width, auto turn, int of_lane) {
      start(sm80_kv_cache_append<Element, CacheElement, decltype(width)::value, decltype(turn)::value>, of_lane);
    });
  }
}

template <typename Element>
void run(const AppendProblem& p, const Launch& launch) {
  if constexpr (!std::is_same_v<Element, double>) {
    switch (p.cache_type) {
      case DType::fp8_e4m3: return enqueue<Element, E4M3>(p, launch);
      case DType::fp8_e5m2: return enqueue<Element, E5M2>(p, launch);
      case DType::i8: return enqueue<Element, std::int8_t>(p, launch);
      default: break;
    }
  }
  enqueue<Element, Element>(p, launch);
}

constexpr Kernel table[] = {
    kernel(Op::kv_cache_append, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::f32, run<float>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::f64, run<double>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
