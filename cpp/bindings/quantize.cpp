// Quantisation, both ways: descriptors and plans.
#include "quantize/operands.hpp"

#include "plans.hpp"

namespace cutplan::bindings {

template <>
inline constexpr auto fields<QuantizeDescriptor> = std::make_tuple(
    field("batch", &QuantizeDescriptor::batch), required("rows", &QuantizeDescriptor::rows),
    required("columns", &QuantizeDescriptor::columns), required("x", &QuantizeDescriptor::x, "Of x."),
    required("dtype", &QuantizeDescriptor::dtype, "Of data."), field("granularity", &QuantizeDescriptor::granularity),
    field("group_size", &QuantizeDescriptor::group_size, "Of blocks 0 is 128."),
    field("axis", &QuantizeDescriptor::axis, "Of groups: -1, along rows, or -2, along columns."),
    field("symmetric", &QuantizeDescriptor::symmetric, "Without a zero point."),
    field("static_scale", &QuantizeDescriptor::static_scale, "scale, and zero, are inputs."),
    field("amax", &QuantizeDescriptor::amax, "Whether run() writes it."));

template <>
inline constexpr auto fields<DequantizeDescriptor> = std::make_tuple(
    field("batch", &DequantizeDescriptor::batch), required("rows", &DequantizeDescriptor::rows),
    required("columns", &DequantizeDescriptor::columns, "Of out."),
    required("dtype", &DequantizeDescriptor::dtype, "Of data."), required("out", &DequantizeDescriptor::out, "Of out."),
    field("granularity", &DequantizeDescriptor::granularity),
    field("group_size", &DequantizeDescriptor::group_size, "Of blocks 0 is 128."),
    field("axis", &DequantizeDescriptor::axis, "Of groups: -1, along rows, or -2, along columns."),
    field("symmetric", &DequantizeDescriptor::symmetric, "Without a zero point."));

template <>
struct Face<QuantizePlan> : PlainFace {
  using A = QuantizeArguments;
  using Options = QuantizeDescriptor;
  static constexpr char name[] = "QuantizePlan", family[] = "quantize", call[] = "quantize", kernels[] = "quantize_kernels",
                        result_type_name[] = "out_dtype", result_called[] = "data";
  static constexpr const auto& operands = quantize::quantize_operands;
  static constexpr auto options = std::make_tuple(
      field("dtype", &QuantizeDescriptor::dtype), field("granularity", &QuantizeDescriptor::granularity),
      field("group_size", &QuantizeDescriptor::group_size), field("axis", &QuantizeDescriptor::axis),
      field("symmetric", &QuantizeDescriptor::symmetric), field("static_scale", &QuantizeDescriptor::static_scale));
  static constexpr auto like = &A::x, result = &A::data;
  static constexpr DType QuantizeDescriptor::* result_type = nullptr;
  static bool keeps_batch(const A& arguments) { return arguments.x.rank == 3; }
};

template <>
struct Face<DequantizePlan> : PlainFace {
  using A = DequantizeArguments;
  using Options = DequantizeDescriptor;
  static constexpr char name[] = "DequantizePlan", family[] = "dequantize", call[] = "dequantize",
                        kernels[] = "dequantize_kernels", result_type_name[] = "out_dtype";
  static constexpr const auto& operands = quantize::dequantize_operands;
  static constexpr auto options =
      std::make_tuple(field("dtype", &DequantizeDescriptor::dtype), field("granularity", &DequantizeDescriptor::granularity),
                      field("group_size", &DequantizeDescriptor::group_size), field("axis", &DequantizeDescriptor::axis),
                      field("symmetric", &DequantizeDescriptor::symmetric));
  static constexpr auto like = &A::data, result = &A::out;
  static constexpr auto result_type = &DequantizeDescriptor::out;
  static bool keeps_batch(const A& arguments) { return arguments.data.rank == 3; }
};

void bind_quantize(nb::module_& m) {
  bind_value<QuantizeDescriptor>(
      m, "QuantizeDescriptor", "Elements narrowed to int8, int4, float8_e4m3fn or float8_e5m2, and their scales.",
      "granularity 'tensor', 'row', 'column', 'group' (of group_size elements along axis) or 'block' (of group_size x\n"
      "group_size): which elements share a scale. symmetric: scale = amax / 127, 7, 448 or 57344; else, of int8 and int4,\n"
      "scale = range / 255 or 15 and zero, with x ~= (data - zero) scale.");
  bind_value<DequantizeDescriptor>(m, "DequantizeDescriptor", "Narrow elements times their scales.",
                                   "As QuantizeDescriptor; `dtype` is the type of data, `out` that of the result.");
  m.def("quantize_registry", &quantize_registry, "Every kernel of quantisation in this build.");

  CallsOf<QuantizePlan>::bind(
      m, "A kernel that quantises, chosen for one descriptor and device.",
      "x [B, M, N]; data [B, M, N], of int4 uint8 [B, M, N / 2], the first of two in the low half. scale float32, zero "
      "int32 and\n"
      "amax float32: [1], [B, M], [B, N], for groups [B, M, ceil(N / g)] or [B, ceil(M / g), N], for blocks [B, ceil(M / "
      "g),\n"
      "ceil(N / g)]. A batch of one may be left out of all. scale and zero are written, with static_scale they are read.",
      "");
  CallsOf<DequantizePlan>::bind(m, "A kernel that undoes quantisation, chosen for one descriptor and device.",
                                "out = (data - zero) scale, of the shapes that QuantizePlan.run has.", "");
}

}  // namespace cutplan::bindings
