// What the lanes of a warp do together: reductions, transpositions.
#pragma once

#include <cstdint>

namespace cutplan::sm80 {

/// The values of each kLanes neighbouring lanes combined, from the farthest to the nearest; in all of them.
template <int kLanes = 32, typename T, typename Combine>
__device__ __forceinline__ T reduce_lanes(T x, const Combine& combine) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x = combine(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

template <int kLanes = 32, typename T>
__device__ __forceinline__ T sum_lanes(T x) {
  return reduce_lanes<kLanes>(x, [](T a, T b) { return a + b; });
}

/// Word j of lane q becomes word q of lane j, within each quad of lanes.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&word)[4], int lane) {
  const bool odd = lane & 1, high = lane & 2;
  const std::uint32_t r0 = __shfl_xor_sync(0xffffffffu, odd ? word[0] : word[1], 1);
  const std::uint32_t r1 = __shfl_xor_sync(0xffffffffu, odd ? word[2] : word[3], 1);
  const std::uint32_t w0 = odd ? r0 : word[0], w1 = odd ? word[1] : r0, w2 = odd ? r1 : word[2], w3 = odd ? word[3] : r1;
  const std::uint32_t r2 = __shfl_xor_sync(0xffffffffu, high ? w0 : w2, 2);
  const std::uint32_t r3 = __shfl_xor_sync(0xffffffffu, high ? w1 : w3, 2);
  word[0] = high ? r2 : w0;
  word[1] = high ? r3 : w1;
  word[2] = high ? w2 : r2;
  word[3] = high ? w3 : r3;
}

/// Transposes an 8 x 8 matrix of 16-bit elements, two of a row in each lane.
__device__ __forceinline__ std::uint32_t movmatrix(std::uint32_t x) {
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(x));
  return x;
}

}  // namespace cutplan::sm80
