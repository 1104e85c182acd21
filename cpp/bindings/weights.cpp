// Packed weights, both ways: descriptors, plans, and what a packed tensor says of itself.
#include "weights/operands.hpp"

#include "plans.hpp"

namespace cutplan::bindings {

template <>
inline constexpr Spelling<PackedAlong, 3> spelling<PackedAlong> = {
    nullptr, "PackedAlongLike", {PackedAlong::none, PackedAlong::k, PackedAlong::n}};
template <>
inline constexpr Spelling<CodeOrder, 3> spelling<CodeOrder> = {
    nullptr, "CodeOrderLike", {CodeOrder::linear, CodeOrder::awq, CodeOrder::high_first}};

template <>
inline constexpr auto fields<PackWeightsDescriptor> = std::make_tuple(
    required("n", &PackWeightsDescriptor::n), required("k", &PackWeightsDescriptor::k),
    required("format", &PackWeightsDescriptor::format),
    field("group_size", &PackWeightsDescriptor::group_size, "32, 64, 128; 0, or k and more: a whole column."),
    required("w", &PackWeightsDescriptor::w, "Of w."), required("scale", &PackWeightsDescriptor::scale, "Of scale."),
    field("zero", &PackWeightsDescriptor::zero, "Of zero; None: there is none."),
    field("packed_along", &PackWeightsDescriptor::packed_along, "Along which extent an element of w holds adjacent codes."),
    field("order", &PackWeightsDescriptor::order, "Of codes in an element."),
    field("signed_codes", &PackWeightsDescriptor::signed_codes, "w has two's complement."),
    field("zero_packed", &PackWeightsDescriptor::zero_packed, "Elements of zero hold as many codes as fit, along n."),
    field("zero_bias", &PackWeightsDescriptor::zero_bias, "Added to integers of zero."),
    field("permutation", &PackWeightsDescriptor::permutation, "Whether rows have an order of their own."));

template <>
inline constexpr auto fields<UnpackWeightsDescriptor> = std::make_tuple(
    required("n", &UnpackWeightsDescriptor::n), required("k", &UnpackWeightsDescriptor::k),
    required("format", &UnpackWeightsDescriptor::format),
    field("group_size", &UnpackWeightsDescriptor::group_size, "32, 64, 128; 0, or k and more: a whole column."),
    required("scale", &UnpackWeightsDescriptor::scale, "Of packed scales and zeros."),
    field("zero", &UnpackWeightsDescriptor::zero, "Whether there are zeros."),
    field("permutation", &UnpackWeightsDescriptor::permutation, "Whether rows have an order of their own."),
    required("out", &UnpackWeightsDescriptor::out, "Of out."));

template <>
struct Face<PackWeightsPlan> : PlainFace {
  using A = PackWeightsArguments;
  using Options = PackWeightsDescriptor;
  static constexpr char name[] = "PackWeightsPlan", family[] = "pack_weights", call[] = "pack_weights",
                        kernels[] = "pack_weights_kernels", result_type_name[] = "out_dtype", result_called[] = "packed";
  static constexpr const auto& operands = weights::pack_operands;
  static constexpr auto options = std::make_tuple(
      field("format", &PackWeightsDescriptor::format), field("group_size", &PackWeightsDescriptor::group_size),
      field("packed_along", &PackWeightsDescriptor::packed_along), field("order", &PackWeightsDescriptor::order),
      field("signed_codes", &PackWeightsDescriptor::signed_codes), field("zero_packed", &PackWeightsDescriptor::zero_packed),
      field("zero_bias", &PackWeightsDescriptor::zero_bias));
  static constexpr auto like = &A::w, result = &A::packed;
  static constexpr DType PackWeightsDescriptor::* result_type = nullptr;
};

template <>
struct Face<UnpackWeightsPlan> : PlainFace {
  using A = UnpackWeightsArguments;
  using Options = UnpackWeightsDescriptor;
  static constexpr char name[] = "UnpackWeightsPlan", family[] = "unpack_weights", call[] = "unpack_weights",
                        kernels[] = "unpack_weights_kernels", result_type_name[] = "out_dtype";
  static constexpr const auto& operands = weights::unpack_operands;
  static constexpr auto options = std::make_tuple(
      field("n", &UnpackWeightsDescriptor::n), field("k", &UnpackWeightsDescriptor::k),
      field("format", &UnpackWeightsDescriptor::format), field("group_size", &UnpackWeightsDescriptor::group_size),
      field("scale", &UnpackWeightsDescriptor::scale), field("zero", &UnpackWeightsDescriptor::zero),
      field("permutation", &UnpackWeightsDescriptor::permutation));
  static constexpr auto like = &A::packed, result = &A::out;
  static constexpr auto result_type = &UnpackWeightsDescriptor::out;
};

void bind_weights(nb::module_& m) {
  bind_value<PackWeightsDescriptor>(m, "PackWeightsDescriptor",
                                    "Codes of a weight B [k, n] put into the layout that kernels read.",
                                    "value(k, n) = (decode(u) - zero(g, n)) * scale(g, n), g = k / group_size. "
                                    "packed_along, order and signed_codes say how\n"
                                    "w holds the codes u, zero_packed and zero_bias how zero holds integers.");
  bind_value<UnpackWeightsDescriptor>(m, "UnpackWeightsDescriptor", "Packed weights as floats.",
                                      "The fields are those of a packed tensor's header; `out` is the type of the result.");
  m.def("weights_registry", &weights_registry, "Every kernel of packed weights in this build.");
  m.def("packed_weights_size", &packed_weights_size, nb::arg("descriptor"),
        "Bytes of the packed tensor. Raises what PackWeightsPlan.select does of such a descriptor.");
  m.def(
      "read_packed_weights",
      [](const nb::bytes& header, std::int64_t size) {
        if (header.size() < packed_weights_header && static_cast<std::int64_t>(header.size()) < size)
          throw nb::value_error("header: the first 256 bytes of the packed tensor required");
        return read_packed_weights(header.data(), size);
      },
      nb::arg("header"), nb::arg("size"),
      "What a packed tensor of `size` bytes says of itself in its first 256 bytes; `out` is float32.\n\n"
      "Raises InvalidProblem where they are not of packed weights or contradict each other, Unsupported for another "
      "version\n"
      "of the layout, ShapeMismatch where `size` is not their length.");

  CallsOf<PackWeightsPlan>::bind(
      m, "A kernel that packs weights, chosen for one descriptor and device.",
      "w [k, n], of elements that hold several codes [k / codes, n] or [k, n / codes]; scale [groups, n]; zero the same, "
      "or\n"
      "[groups, n / codes]; permutation int32 [k]: row j of what is packed is row permutation[j] of w. All of any strides.\n"
      "packed, uint8 [packed_weights_size(descriptor)], is written.",
      "");
  CallsOf<UnpackWeightsPlan>::bind(m, "A kernel that makes floats of packed weights, chosen for one descriptor and device.",
                                   "packed as PackWeightsPlan.run writes it; out [k, n] of any strides is written.", "");
}

}  // namespace cutplan::bindings
