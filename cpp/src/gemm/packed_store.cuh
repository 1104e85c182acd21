// The end of every kernel of packed weights: sums in shared memory, 8 columns of a row at a time, to D.
#pragma once

#include "gemm/epilogue.cuh"

namespace cutplan::gemm {

/// Sums of a gate are two vectors.
template <bool kGated>
class StoreVector {
 public:
  __device__ __forceinline__ explicit StoreVector(const Problem& p) : p_(p) {
    const Terms& t = p.terms;
    plain_ = static_cast<float>(t.alpha) == 1.0f && t.row_scale.data == nullptr && t.column_scale.data == nullptr &&
             t.c.data == nullptr && t.bias.data == nullptr && t.activation == Activation::none &&
             t.residual.data == nullptr && t.auxiliary == Auxiliary::none;
  }

  /// Those inside D, of `first` and, gated, `second`.
  __device__ __forceinline__ void operator()(std::int64_t batch, std::int64_t row, std::int64_t col, const float* first,
                                             const float* second) const {
    if (col >= p_.n) return;
    Float8 x = load(first);
    if constexpr (kGated) {
      Float8 y = load(second);
      EightColumns<> of_first(x.x, batch, row, col, p_.n), of_second(y.x, batch, row, col, p_.n);
      gate(p_.terms, of_first, of_second);
    } else if (plain_) {
      // Not by finish(), which reads what it needs to know with loads, one after the other: 2 of 16 microseconds.
      DirectStore<>(p_, output_of(p_, col), batch).store(EightColumns<>(x.x, batch, row, col, p_.n));
      return;
    }
    finish<>(p_, batch, batch, row, col, kGated ? Stage::gated : Stage::sums, x);
  }

 private:
  __device__ __forceinline__ static Float8 load(const float* from) {
    Float8 x;
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      x.x[i] = four.x, x.x[i + 1] = four.y, x.x[i + 2] = four.z, x.x[i + 3] = four.w;
    }
    return x;
  }

  const Problem& p_;
  bool plain_;
};

}  // namespace cutplan::gemm
