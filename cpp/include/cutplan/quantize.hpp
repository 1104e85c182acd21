// Quantisation: narrow elements and the scales that they are to be multiplied by, and back.
#pragma once

#include <cstdint>
#include <vector>

#include "cutplan/granularity.hpp"
#include "cutplan/plan.hpp"

namespace cutplan {

/// x ~= (data - zero) scale, a scale of all, of a row, of a column, of `group_size` elements of a row (axis -1) or of a column
/// (axis -2), of squares of group_size x group_size.
///     symmetric   scale = amax / q_max, of q_max 127 (i8), 7 (i4), 448 (e4m3), 57344 (e5m2); zero is 0
///                 data = x / scale, to nearest even, within [-q_max, q_max]
///     asymmetric  scale = (max(x, 0) - min(x, 0)) / steps, of 255 steps from -128 (i8) or 15 from 0 (i4, whose nibbles are then
///                 unsigned); zero = first - min(x, 0) / scale, data = x / scale, both to nearest even, + zero, within the type
/// x / scale is the product, rounded once, of x and 1 / scale, which is rounded to float32; of fp8 the product is float32. Where
/// all of x is 0 the scale is 1; it is 2^-126 at least. NaN counts for no scale: of fp8 it stays NaN, an integer has what 0 has.
/// Infinity counts as the largest float32 for the scale, and becomes the largest or the smallest of data.
struct QuantizeDescriptor {
  std::int64_t batch = 1, rows = 0, columns = 0;
  DType x = DType::none;      // f16, bf16, f32
  DType dtype = DType::none;  // of data: i8, i4, e4m3, e5m2
  Granularity granularity = Granularity::tensor;
  std::int64_t group_size = 0;  // group: required; block: 0 is 128
  int axis = -1;                // of groups: -1, along a row, or -2
  bool symmetric = true;
  bool static_scale = false;  // scale, and without `symmetric` zero, are inputs
  bool amax = false;          // whether run() writes the greatest |x| for each scale
};

/// x [B, M, N]; data [B, M, N], of i4 [B, M, N / 2] of u8, two to a byte, the first in the low half. Last dimensions are contiguous,
/// other strides free. scale and amax float32 and zero int32, any strides: [1], [B, M], [B, N], for groups [B, M, ceil(N / g)] or
/// [B, ceil(M / g), N], for blocks [B, ceil(M / g), ceil(N / g)]. A batch of one may be left out of all. A zero that is given and
/// beyond data's type counts as the nearest that is not.
struct QuantizeArguments {
  TensorView x, data, scale, zero, amax;
};

using QuantizePlan = Plan<QuantizeDescriptor, QuantizeArguments>;
extern template class CUTPLAN_API Plan<QuantizeDescriptor, QuantizeArguments>;

/// out = (data - zero) scale: a float32 product, rounded to the type of out.
struct DequantizeDescriptor {
  std::int64_t batch = 1, rows = 0, columns = 0;  // columns: of out
  DType dtype = DType::none;                      // of data: i8, i4, e4m3, e5m2
  DType out = DType::none;                        // f16, bf16, f32
  Granularity granularity = Granularity::tensor;
  std::int64_t group_size = 0;
  int axis = -1;
  bool symmetric = true;  // without zero; nibbles of i4 are then signed
};

/// Of the shapes and types of QuantizeArguments, out being x.
struct DequantizeArguments {
  TensorView data, scale, out, zero;
};

using DequantizePlan = Plan<DequantizeDescriptor, DequantizeArguments>;
extern template class CUTPLAN_API Plan<DequantizeDescriptor, DequantizeArguments>;

/// The descriptor that these arguments fit: what tensors do not tell (dtype, granularity, group_size, axis, symmetric,
/// static_scale) is taken from `options`.
CUTPLAN_API QuantizeDescriptor describe(const QuantizeArguments& arguments, const QuantizeDescriptor& options);
CUTPLAN_API DequantizeDescriptor describe(const DequantizeArguments& arguments, const DequantizeDescriptor& options);

/// Every kernel of these ops in this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> quantize_registry();

}  // namespace cutplan
