// Matrix products: one, or a strided batch, with everything that is usually done to the result before it is stored.
//
//   x = alpha * row_scale_i * column_scale_j * (A B)_ij + beta * C_ij + bias     (bias over n: bias_j, over m: bias_i)
//   D = activation(x) + residual_ij            and, on request, aux_ij = x;
//   D = x * activation'(aux_ij) + residual_ij  in a backward pass (Auxiliary::gradient);
//   D = activation(x) * x2 + residual_ij       gated, where x2 is x with b2 and bias2 in place of b and bias.
//
// Quantised operands, int8 or fp8, stand for (a - a_zero) * a_scale and (b - b_zero) * b_scale. int8 is summed exactly. On
// request amax = max |D|, and D is divided by out_scale before it is rounded to int8 or fp8, which saturates.
//
// D may be several matrices whose columns follow each other: Q, K and V of one projection are three outputs of one product.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cutplan/granularity.hpp"
#include "cutplan/plan.hpp"
#include "cutplan/weight_packing.hpp"

namespace cutplan {

/// Order of A, B and D. r: row-major (last dimension contiguous), c: column-major. C, residual and aux are ordered as D is;
/// where they repeat one row or one column (stride 0), they fit either order.
enum class GemmLayout : std::uint8_t { rcr, rrr, crr, ccr, rcc, rrc, crc, ccc };

/// gelu_erf: x/2 (1 + erf(x/sqrt 2)); gelu_tanh: its tanh approximation (Hendrycks and Gimpel 2016, section 2); silu: x
/// sigmoid(x).
enum class Activation : std::uint8_t { none, relu, gelu_erf, gelu_tanh, silu };

/// Which way a bias vector runs: one value per column of D (n), per row (m), or none.
enum class BiasOver : std::uint8_t { none, n, m };

/// store: the value before the activation is written to aux, for training; gradient: D is multiplied by the activation's
/// derivative at aux, for the backward pass.
enum class Auxiliary : std::uint8_t { none, store, gradient };

/// Gated products (Shazeer 2020, "GLU variants improve transformer"). separate: B and b2 are two matrices, bias and bias2
/// two vectors; interleaved: column 2 j of one B [k, 2 n] belongs to x_j, column 2 j + 1 to x2_j, and so with bias [2 n].
enum class Gate : std::uint8_t { none, separate, interleaved };

constexpr const char* name(GemmLayout l) noexcept {
  switch (l) {
    case GemmLayout::rcr: return "rcr";
    case GemmLayout::rrr: return "rrr";
    case GemmLayout::crr: return "crr";
    case GemmLayout::ccr: return "ccr";
    case GemmLayout::rcc: return "rcc";
    case GemmLayout::rrc: return "rrc";
    case GemmLayout::crc: return "crc";
    case GemmLayout::ccc: return "ccc";
  }
  return "";
}

constexpr const char* name(Activation a) noexcept {
  switch (a) {
    case Activation::none: return "none";
    case Activation::relu: return "relu";
    case Activation::gelu_erf: return "gelu_erf";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::silu: return "silu";
  }
  return "";
}

constexpr const char* name(BiasOver b) noexcept { return b == BiasOver::none ? "none" : b == BiasOver::n ? "n" : "m"; }

constexpr const char* name(Auxiliary a) noexcept {
  return a == Auxiliary::none ? "none" : a == Auxiliary::store ? "store" : "gradient";
}

constexpr const char* name(Gate g) noexcept {
  return g == Gate::none ? "none" : g == Gate::separate ? "separate" : "interleaved";
}

struct Epilogue {
  BiasOver bias = BiasOver::none;
  bool c = false;             // a matrix of D's shape, scaled by beta
  bool residual = false;      // a matrix of D's shape, added last
  bool row_scale = false;     // a float32 factor per row of D
  bool column_scale = false;  // a float32 factor per column of D
  Activation activation = Activation::none;
  Auxiliary aux = Auxiliary::none;  // a matrix of D's shape
  Gate gate = Gate::none;           // not with c, aux or column_scale, nor with a bias over m or a column-major D
  bool out_scale = false;           // D of int8 or fp8: what D is divided by, float32
  bool amax = false;                // of quantised operands: the greatest |D| before that is written, float32
};

/// Columns of each output, 0 beyond the last; none: D is one matrix. All but the last are multiples of 8, and their sum is n.
inline constexpr int most_outputs = 4;
using OutColumns = std::array<std::int64_t, most_outputs>;

struct GemmDescriptor {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t batch = 1;
  DType a = DType::none, b = DType::none, d = DType::none;
  DType c = DType::none, bias = DType::none, residual = DType::none, aux = DType::none;  // none: D's type
  OutColumns out_columns = {};                                                           // with a row-major D
  DType d2 = DType::none, d3 = DType::none, d4 = DType::none;  // as many bits as D's; none: D's type
  GemmLayout layout = GemmLayout::rcr;
  Epilogue epilogue;
  /// Bytes to which A's and B's addresses, leading dimensions and batch strides are aligned. 0: what contiguous operands of
  /// these extents have, 16 at most.
  int alignment = 0;
  /// Of quantised operands; none: 1 and 0. A: tensor, row, or group, of 128 along k; B: tensor, column, group, or block, of 128 x
  /// 128. Zeros of int8 alone: of A tensor or row, of B tensor or column.
  std::optional<Granularity> a_scale, b_scale, a_zero, b_zero;
  /// Where it has a format, B and b2 are packed weights (weights.hpp) of it, in any layout's stead: uint8, and A of 16 bits.
  WeightPacking weights;
};

/// Elements along k that share a scale of a group or a block, and columns of B that share one of a block.
inline constexpr std::int64_t scale_group = 128;

/// Shapes: a [m, k], b and b2 [k, n] (an interleaved b [k, 2 n]), c, d, residual and aux [m, n]; bias and bias2 [n] over n
/// (an interleaved bias [2 n]), [m, 1] over m; row_scale [m], column_scale [n], float32. With batch > 1 matrices may have a
/// leading dimension `batch`, and all but d and a stored aux may leave it out or give it stride 0 to be shared by the whole
/// batch. c, residual and an aux that is read may have the stride 0 in any dimension.
/// Scales float32 and zeros int32, any strides: of a tensor [1]; of A's rows [batch, m], of groups [batch, m, ceil(k / 128)]; of B's
/// columns [batch, n], of groups [batch, ceil(k / 128), n], of blocks [batch, ceil(k / 128), ceil(n / 128)], b2_scale as b_scale (an
/// interleaved b's has 2 n columns); the batch may be left out, or have the stride 0. out_scale and amax float32 [1].
/// Packed weights are b, and b2, uint8 [packed_weights_size()], shared by the batch.
/// With out_columns d, d2, d3 and d4 are [m, out_columns[0]] and so on, each with an address and strides of its own.
struct GemmArguments {
  TensorView a, b, c, d, bias;
  TensorView b2, bias2, residual, aux, row_scale, column_scale;
  TensorView a_scale, b_scale, b2_scale, a_zero, b_zero, out_scale, amax;
  TensorView d2, d3, d4;
  double alpha = 1.0;
  std::optional<double> beta;  // none: 1 with c
};

using GemmPlan = Plan<GemmDescriptor, GemmArguments>;
extern template class CUTPLAN_API Plan<GemmDescriptor, GemmArguments>;

/// The descriptor that these arguments fit: extents, layout, types and alignment read off the tensors. Of `epilogue` the
/// activation, aux and an interleaved gate count, which the tensors do not show. `out_columns` stands for outputs that are not
/// there.
CUTPLAN_API GemmDescriptor describe(const GemmArguments& arguments, const Epilogue& epilogue = {},
                                    const WeightPacking& weights = {}, const OutColumns& out_columns = {});

/// One row of the support table: what a kernel family serves.
struct GemmSupport {
  Arch arch;
  DType operand;         // of A
  DType operand_b;       // of B
  std::vector<DType> d;  // output types
  std::vector<GemmLayout> layouts;
  int minimum_compute_capability;  // 0: none needed
  std::string note;
};

/// The rows that this build holds.
CUTPLAN_API std::vector<GemmSupport> gemm_support();

/// Every kernel of this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> gemm_registry();

}  // namespace cutplan
