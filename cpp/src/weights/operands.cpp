// What comes in: from tensors to a descriptor (describe), from the first bytes of a packed one (read_packed_weights), and from the
// arguments of a call to what a kernel is told (problem).
#include "weights/operands.hpp"

#include <algorithm>
#include <cstring>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "weights/family.hpp"

namespace cutplan::weights {

using std::int64_t;

namespace {

constexpr char kMagic[] = "CUTPLANW";
constexpr DType scale_types[] = {DType::f16, DType::bf16, DType::f32};

Strided strided(const Placed& p, DType type) { return {p.data, type, p.strides[0], p.strides[1]}; }

/// Of a resolved descriptor.
template <typename G>
Problem problem_of(const G& g, const Placed& packed, bool on_host) {
  if (!on_host && reinterpret_cast<std::uintptr_t>(packed.data) % device_alignment != 0) {
    throw Misaligned(text("operand packed: an address that is a multiple of ", device_alignment, " bytes required, got ",
                          packed.data, ", ", reinterpret_cast<std::uintptr_t>(packed.data) % device_alignment,
                          " past one; pass a copy"));
  }
  Problem p{};
  p.n = g.n;
  p.k = g.k;
  p.layout = layout_of(g);
  p.format = g.format;
  p.scale_type = g.scale;
  p.has_zero = has_zero(g);
  p.packed = static_cast<std::uint8_t*>(packed.data);
  return p;
}

Header header_of(const P& g, const Layout& l) {
  Header h{};
  std::memcpy(h.magic, kMagic, sizeof h.magic);
  h.version = layout_version;
  h.format = static_cast<std::uint32_t>(g.format);
  h.n = g.n;
  h.k = g.k;
  h.group_size = g.group_size;
  h.scale_type =
      static_cast<std::uint32_t>(std::find(std::begin(scale_types), std::end(scale_types), g.scale) - scale_types);
  h.has_zero = has_zero(g);
  h.has_permutation = g.permutation;
  h.codes = l.codes;
  h.scales = l.scales;
  h.zeros = l.zeros;
  h.permutation = l.permutation;
  h.total = l.total;
  return h;
}

}  // namespace

Problem PackWeights::problem(const P& g, const Selection<Kernel>& s, const Operands&, const PA& args, const Places& at) {
  constexpr const auto& table = pack_operands;
  const auto place = [&](TensorView PA::* member) -> const Placed& { return at[index_of(table, member)]; };
  Problem p = problem_of(g, place(&PA::packed), s.kernel->arch == Arch::host);
  p.header = header_of(g, p.layout);
  p.w = strided(place(&PA::w), g.w);
  p.scale = strided(place(&PA::scale), g.scale);
  p.zero = strided(place(&PA::zero), g.zero);
  p.permutation = strided(place(&PA::permutation), args.permutation.dtype);
  p.packed_along = g.packed_along;
  p.order = g.order;
  p.signed_codes = g.signed_codes;
  p.zero_packed = g.zero_packed;
  p.zero_bias = g.zero_bias;
  return p;
}

Problem UnpackWeights::problem(const U& g, const Selection<Kernel>& s, const Operands&, const UA&, const Places& at) {
  constexpr const auto& table = unpack_operands;
  Problem p = problem_of(g, at[index_of(table, &UA::packed)], s.kernel->arch == Arch::host);
  p.out = strided(at[index_of(table, &UA::out)], g.out);
  return p;
}

}  // namespace cutplan::weights

namespace cutplan {

PackWeightsDescriptor describe(const PackWeightsArguments& args, const PackWeightsDescriptor& options) {
  PackWeightsDescriptor g = options;
  check_rank("w", args.w, 2, 2);
  g.w = args.w.dtype;
  const std::int64_t codes = g.packed_along == PackedAlong::none ? 1 : std::max(bits(g.w) / bits(g.format), 1);
  g.k = args.w.shape[0] * (g.packed_along == PackedAlong::k ? codes : 1);
  g.n = args.w.shape[1] * (g.packed_along == PackedAlong::n ? codes : 1);
  check_given("scale", args.scale);
  g.scale = args.scale.dtype;
  g.zero = args.zero.dtype;  // none where it is not given
  g.permutation = args.permutation.present();
  return g;
}

UnpackWeightsDescriptor describe(const UnpackWeightsArguments& args, const UnpackWeightsDescriptor& options) {
  UnpackWeightsDescriptor g = options;
  check_rank("packed", args.packed, 1, 1);
  if (args.out.present()) g.out = args.out.dtype;
  return g;
}

std::int64_t packed_weights_size(const PackWeightsDescriptor& descriptor) {
  using weights::PackWeights;
  PackWeights::check(descriptor);
  return weights::layout_of(PackWeights::resolve(descriptor)).total;
}

UnpackWeightsDescriptor read_packed_weights(const void* header, std::int64_t bytes) {
  using namespace weights;
  constexpr char what[] = "packed weights: ";
  if (bytes < static_cast<std::int64_t>(packed_weights_header))
    throw ShapeMismatch(
        text(what, "a tensor of ", packed_weights_header, " bytes at least required, the header's, got ", bytes));
  Header h;
  std::memcpy(&h, header, sizeof h);
  if (std::memcmp(h.magic, kMagic, sizeof h.magic) != 0) {
    std::string got;
    for (const char c : h.magic) got += c >= 32 && c < 127 ? std::string(1, c) : ".";
    throw InvalidProblem(text(what, "\"", kMagic, "\" in the first 8 bytes required, got \"", got,
                              "\"; pack_weights() and its kin make such tensors"));
  }
  if (h.version != layout_version)
    throw Unsupported(text(what, "version ", layout_version, " of the layout required, got ", h.version,
                           "; pack the weights again with this version of cutplan, or use the one that packed them"));
  const auto damaged = [&](const std::string& why) { throw InvalidProblem(text(what, "the header is damaged: ", why)); };
  if (h.format > static_cast<std::uint32_t>(WeightFormat::e2m1)) damaged(text("format ", h.format));
  if (h.scale_type >= std::size(scale_types)) damaged(text("type ", h.scale_type, " of scales"));
  if (h.has_zero > 1 || h.has_permutation > 1) damaged("a flag that is neither 0 nor 1");
  PackWeightsDescriptor g;
  g.n = h.n;
  g.k = h.k;
  g.format = static_cast<WeightFormat>(h.format);
  g.group_size = h.group_size;
  g.w = DType::u8;
  g.scale = scale_types[h.scale_type];
  if (h.has_zero != 0) g.zero = g.scale;
  g.permutation = h.has_permutation != 0;
  try {
    PackWeights::check(g);
  } catch (const Error& error) {
    damaged(error.what());
  }
  if (resolved_group_size(g) != h.group_size) damaged(text("group_size ", h.group_size, " with k = ", h.k));
  const Layout l = layout_of(g);
  const Header expected = header_of(g, l);
  if (std::memcmp(&h, &expected, sizeof h) != 0) damaged("offsets that its extents do not give");
  if (bytes != l.total)
    throw ShapeMismatch(text(what, l.total, " bytes required by the header (", name(g.format), ", k = ", h.k, ", n = ", h.n,
                             "), got ", bytes,
                             bytes < l.total ? "; the tensor was cut" : "; pass the tensor itself, without what follows"));
  UnpackWeightsDescriptor u;
  u.n = g.n;
  u.k = g.k;
  u.format = g.format;
  u.group_size = g.group_size;
  u.scale = g.scale;
  u.zero = h.has_zero != 0;
  u.permutation = g.permutation;
  u.out = DType::f32;
  return u;
}

}  // namespace cutplan
