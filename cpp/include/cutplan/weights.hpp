// Weights of few bits for products of A and a quantised B: packed into the one layout that kernels read, from the layouts that
// others store them in, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cutplan/plan.hpp"
#include "cutplan/weight_packing.hpp"

namespace cutplan {

/// Along which extent an element of w holds adjacent codes; none: an element holds one, in its lowest bits.
enum class PackedAlong : std::uint8_t { none, k, n };

constexpr const char* name(PackedAlong p) noexcept {
  switch (p) {
    case PackedAlong::none: return "none";
    case PackedAlong::k: return "k";
    case PackedAlong::n: return "n";
  }
  return "";
}

/// Which of the codes of one element is where in it, counted from its lowest bits:
///     linear      code i is the i-th                 high_first  code i is the last but i
///     awq         of eight: 0, 2, 4, 6, 1, 3, 5, 7
enum class CodeOrder : std::uint8_t { linear, awq, high_first };

constexpr const char* name(CodeOrder o) noexcept {
  switch (o) {
    case CodeOrder::linear: return "linear";
    case CodeOrder::awq: return "awq";
    case CodeOrder::high_first: return "high_first";
  }
  return "";
}

/// B [k, n] of codes, to the packed layout. value(k, n) = (decode(u) - zero(g, n)) scale(g, n), g = k / group_size.
struct PackWeightsDescriptor {
  std::int64_t n = 0, k = 0;
  WeightFormat format = WeightFormat::int4;
  std::int64_t group_size = 128;  // 32, 64, 128; 0, or k and more: a whole column shares a scale
  DType w = DType::none;          // i32, u8, i8; one code an element: also i64, e4m3, and of nf4 and e2m1 f16, bf16, f32
  DType scale = DType::none;      // f16, bf16, f32, and so are packed scales and zeros
  DType zero = DType::none;       // none: there is none; an integer type of w, or scale's
  PackedAlong packed_along = PackedAlong::none;
  CodeOrder order = CodeOrder::linear;  // of codes in elements of w, and in those of a packed zero
  bool signed_codes = false;            // w has two's complement, of int4 and int8; else u itself
  bool zero_packed = false;             // elements of zero hold as many codes as fit, along n
  int zero_bias = 0;                    // added to integers of zero
  bool permutation = false;
};

/// w [k, n], of elements that hold several codes [k / codes, n] or [k, n / codes]; scale [groups, n]; zero the same, or
/// [groups, n / codes]; permutation int32 [k]: row j of what is packed is row permutation[j] of w, and group_size counts such
/// rows. All of any strides. packed: uint8 [packed_weights_size()], contiguous.
///
/// Floats of nf4 and e2m1 become the codes nearest to w / scale; NaN, and all of a scale of 0, that of 0. A number in permutation
/// that is no row's stands for a row of codes 0.
struct PackWeightsArguments {
  TensorView w, scale, packed, zero, permutation;
};

using PackWeightsPlan = Plan<PackWeightsDescriptor, PackWeightsArguments>;
extern template class CUTPLAN_API Plan<PackWeightsDescriptor, PackWeightsArguments>;

/// Packed weights as floats: the float32 product of (decode(u) - zero) and scale, rounded to the type of out.
struct UnpackWeightsDescriptor {
  std::int64_t n = 0, k = 0;
  WeightFormat format = WeightFormat::int4;
  std::int64_t group_size = 128;  // as PackWeightsDescriptor has it
  DType scale = DType::none;      // f16, bf16, f32
  bool zero = false;
  bool permutation = false;
  DType out = DType::none;  // f16, bf16, f32
};

/// packed as PackWeightsPlan writes it; out [k, n], any strides, its rows in w's order.
struct UnpackWeightsArguments {
  TensorView packed, out;
};

using UnpackWeightsPlan = Plan<UnpackWeightsDescriptor, UnpackWeightsArguments>;
extern template class CUTPLAN_API Plan<UnpackWeightsDescriptor, UnpackWeightsArguments>;

/// The descriptor that these arguments fit: what tensors do not tell is taken from `options`.
CUTPLAN_API PackWeightsDescriptor describe(const PackWeightsArguments& arguments, const PackWeightsDescriptor& options);
CUTPLAN_API UnpackWeightsDescriptor describe(const UnpackWeightsArguments& arguments,
                                             const UnpackWeightsDescriptor& options);

/// Bytes of the packed tensor. Throws what the plan's select() does of such a descriptor.
CUTPLAN_API std::int64_t packed_weights_size(const PackWeightsDescriptor& descriptor);

/// What a packed tensor of `bytes` bytes says of itself, of its first packed_weights_header bytes, in host memory; out is f32.
/// Throws InvalidProblem where they are not of packed weights or contradict each other, Unsupported for another version of the
/// layout, ShapeMismatch where `bytes` is not their length.
inline constexpr std::size_t packed_weights_header = 256;
CUTPLAN_API UnpackWeightsDescriptor read_packed_weights(const void* header, std::int64_t bytes);

/// Every kernel of these ops in this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> weights_registry();

}  // namespace cutplan
