// Rows of attention put together from results over disjoint keys: by the kernels that split keys, and of merge_states.
#pragma once

namespace cutplan::sm80 {

/// sums += weight x. With a weight of 0, which a part without keys has, x may hold anything.
template <int kWidth>
__device__ __forceinline__ void add_weighted(float (&sums)[kWidth], float weight, const float (&x)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e)
    if (weight != 0) sums[e] = fmaf(weight, x[e], sums[e]);
}

/// sum_p w_p x_p and sum_p w_p, which divided by each other are the row.
template <int kWidth>
struct WeightedSum {
  float weights = 0, values[kWidth] = {};

  __device__ __forceinline__ void add(float weight, const float (&x)[kWidth]) {
    weights += weight;
    add_weighted(values, weight, x);
  }

  /// A row without weights is 0.
  __device__ __forceinline__ float factor() const { return weights == 0 ? 0 : 1 / weights; }
};

}  // namespace cutplan::sm80
