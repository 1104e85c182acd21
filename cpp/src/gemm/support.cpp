// What is refused, and why: descriptors that no kernel could ever serve, and types that those of a device do not.
#include "gemm/support.hpp"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "gemm/family.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

/// Scales, zeros and what goes with D of few bits.
template <typename Descriptor>
void check_quantized(const Descriptor& g, std::optional<Granularity> a_zero, std::optional<Granularity> b_zero) {
  const Epilogue& e = g.epilogue;
  const DType b = g.b == DType::none ? g.a : g.b, d = g.d == DType::none ? default_result(g) : g.d;
  if (g.weights.format) {
    if (g.weights.n != halves(e) * g.n)
      throw InvalidProblem(text("weights: n = ", halves(e) * g.n, " columns required, got ", g.weights.n));
    if (g.a_scale || g.b_scale || a_zero || b_zero)
      throw Unsupported("a_scale, b_scale, a_zero, b_zero: none with packed weights, which hold their own, got one");
    if (b_is_row_major(g.layout) || !d_is_row_major(g.layout))
      throw Unsupported(text("layout: rcr or ccr required with packed weights, got ", name(g.layout)));
  }
  const auto is_one_of = [](std::optional<Granularity> g, std::initializer_list<Granularity> those) {
    return !g || std::find(those.begin(), those.end(), *g) != those.end();
  };
  const auto check_kind = [&](const char* option, std::optional<Granularity> of, DType operand, const char* name_of,
                              std::initializer_list<Granularity> those, const char* words) {
    if (!of) return;
    if (!is_quantized(operand))
      throw Unsupported(text(option, ": goes with int8 and float8 operands, got ", name(operand), " ", name_of,
                             "; row_scale, column_scale and alpha go with all"));
    if (!is_one_of(of, those)) throw Unsupported(text(option, ": one of ", words, " required, got '", name(*of), "'"));
  };
  check_kind("a_scale", g.a_scale, g.a, "a", {Granularity::tensor, Granularity::row, Granularity::group},
             "'tensor', 'row', 'group'");
  check_kind("b_scale", g.b_scale, b, "b",
             {Granularity::tensor, Granularity::column, Granularity::group, Granularity::block},
             "'tensor', 'column', 'group', 'block'");
  check_kind("a_zero", a_zero, g.a, "a", {Granularity::tensor, Granularity::row}, "'tensor', 'row'");
  check_kind("b_zero", b_zero, b, "b", {Granularity::tensor, Granularity::column}, "'tensor', 'column'");
  for (const auto& [option, zero, operand] : {std::tuple("a_zero", a_zero, g.a), std::tuple("b_zero", b_zero, b)}) {
    if (zero && operand != DType::i8)
      throw Unsupported(text(option, ": goes with int8, got ", name(operand), ", whose 0 is 0; leave it out"));
    if (zero && e.gate != Gate::none)
      throw Unsupported(text(option, ": none with gate='", name(e.gate),
                             "'; quantise symmetrically, or compute the two "
                             "products by plans without a gate"));
  }
  if (e.row_scale && is_factor_of_d(g.a_scale))
    throw Unsupported(
        text("row_scale: not beside a_scale '", name(*g.a_scale), "', which is such a factor; multiply the two"));
  if (e.column_scale && is_factor_of_d(g.b_scale))
    throw Unsupported(
        text("column_scale: not beside b_scale '", name(*g.b_scale), "', which is such a factor; multiply the two"));
  if (g.a == DType::i8) {
    // The largest product is 2^14, or 255^2 with zeros.
    const int64_t most = a_zero || b_zero ? 33024 : 131071;
    if (g.k > most)
      throw Unsupported(text("k: at most ", most, " required of int8 operands", a_zero || b_zero ? " with zeros" : "",
                             ", whose sums are int32, got ", g.k, "; cut k, and add the float32 results"));
  }
  if (const char* beside = beside_sums(g); d == DType::i32 && beside != nullptr) {
    throw Unsupported(text("d: a float32, float16, bfloat16 or int8 one required with ", beside,
                           ", got int32, which holds sums alone; ask for another (out_dtype='bfloat16', say)"));
  }
  const bool narrow = d != DType::none && is_quantized(d);
  if (e.out_scale && !narrow)
    throw Unsupported(text("out_scale: goes with a d of int8 or float8, got ", name(d), "; use alpha"));
  if (e.amax && !is_quantized(g.a))
    throw Unsupported(text("amax: goes with int8 and float8 operands, got ", name(g.a), "; take it of the result"));
}

/// What single and grouped descriptors have in common.
template <typename Descriptor>
void check_common(const Descriptor& g) {
  check_extent("m", g.m);
  check_extent("n", g.n);
  check_extent("k", g.k);
  if (g.alignment < 0 || (g.alignment & (g.alignment - 1)))
    throw InvalidProblem(text("alignment: a power of two of bytes (or 0 for the extents' own) required, got ", g.alignment));
  if (g.a == DType::none) throw InvalidProblem("a: an element type required, got none");
  const Epilogue& e = g.epilogue;
  if (e.gate != Gate::none) {
    const char* beside = e.c                        ? "c"
                         : e.aux != Auxiliary::none ? "aux"
                         : e.column_scale           ? "column_scale"
                         : e.bias == BiasOver::m    ? "a bias over m"
                                                    : nullptr;
    if (beside != nullptr) {
      throw Unsupported(text("gate: '", name(e.gate), "' goes with bias over n, row_scale, residual and an activation, got ",
                             beside, " beside it; leave it out, or compute the two products by plans without a gate"));
    }
  }
  if (g.a == DType::f64 && (e.row_scale || e.column_scale)) {
    throw Unsupported(text(e.row_scale ? "row_scale" : "column_scale",
                           ": float32 factors go with operands of up to 32 bits, got float64 operands; use alpha, or scale ",
                           e.row_scale ? "a" : "b"));
  }
}

/// `alignment`, or where it is 0 the most that contiguous matrices have: 16 bytes at most. Refuses less than an element, of the
/// smaller type: that a and b differ, check_types() says.
template <typename Descriptor>
void resolve_common(Descriptor& g) {
  if (g.weights.format) g.b = DType::u8;
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = default_result(g);
  if (g.bias == DType::none) g.bias = default_beside(g.d);
  const int64_t a_run = a_is_row_major(g.layout) ? g.k : g.m,
                b_run = b_is_row_major(g.layout) ? halves(g.epilogue) * g.n : g.k;
  const int element = std::max(1, (g.weights.format ? bits(g.a) : std::min(bits(g.a), bits(g.b))) / 8);
  if (g.alignment == 0) {
    g.alignment = 16;
    while (g.alignment > element && ((a_run | (g.weights.format ? 0 : b_run)) * element) % g.alignment != 0)
      g.alignment /= 2;
  }
  if (g.alignment < element) {
    throw InvalidProblem(
        text("alignment: at least ", element, " bytes, one element of a and b, required, got ", g.alignment));
  }
}

/// D as several matrices.
void check_outputs(const GemmDescriptor& g) {
  std::size_t count = 0;
  int64_t columns = 0;
  while (count < g.out_columns.size() && g.out_columns[count] != 0) columns += g.out_columns[count++];
  const DType d = g.d == DType::none ? default_result(g) : g.d;
  std::string widths;
  for (std::size_t i = 0; i < count; ++i) widths += text(i == 0 ? "" : " + ", g.out_columns[i]);
  for (std::size_t i = 0; i < g.out_columns.size(); ++i) {
    const int64_t width = g.out_columns[i];
    if (width < 0 || (width != 0 && i >= count))
      throw InvalidProblem(text("out_columns: at least 1 column required of each output, got ", width < 0 ? width : 0));
    if (i + 1 < count && width % 8 != 0) {
      throw Unsupported(text("out_columns: multiples of 8 required but for the last, which kernels store 8 at a time, got ",
                             width, " of ", widths, "; put that output last, or pad its columns of b"));
    }
    if (i == 0) continue;
    const DType type = g.*further_types[i - 1];
    const char* const operand = further_names[i - 1];
    if (type == DType::none) continue;
    if (i >= count) {
      throw InvalidProblem(text("operand ", operand, ": out_columns of ", i + 1,
                                " outputs required beside its type, got columns of ", count));
    }
    if (bits(type) != bits(d) || (type == DType::i32) != (d == DType::i32)) {
      throw Unsupported(text("operand ", operand, ": a dtype of ", bits(d), " bits, as the first output's ", name(d),
                             ", required", bits(type) == bits(d) ? ", and int32 for all or none" : "", ", got ",
                             name(type)));
    }
  }
  if (count == 0) return;
  if (columns != g.n) {
    throw InvalidProblem(
        text("out_columns: n = ", g.n, " columns required in all, got ", widths, count > 1 ? text(" = ", columns) : ""));
  }
  if (!d_is_row_major(g.layout)) {
    throw Unsupported(text("out_columns: a row-major d required of several outputs, got layout ", name(g.layout), "; ",
                           name(layout_of(a_is_row_major(g.layout), b_is_row_major(g.layout), true)), " works"));
  }
}

template <typename Descriptor>
void check_preference(const Descriptor& g, const PlanPreference& preference) {
  if (preference.batch_invariant && g.alignment == 0 && !a_is_row_major(g.layout)) {
    throw Unsupported(
        "batch_invariant: an explicit alignment required with a column-major a, whose own alignment depends on m; select "
        "with alignment=16, or less");
  }
}

}  // namespace

void Gemm::check(const GemmDescriptor& g) {
  check_common(g);
  check_quantized(g, g.a_zero, g.b_zero);
  check_extent("batch", g.batch);
  check_outputs(g);
  const Epilogue& e = g.epilogue;
  if (e.aux == Auxiliary::gradient && e.activation == Activation::none)
    throw InvalidProblem("aux: an activation required with 'gradient', whose derivative it is, got activation 'none'");
  if (e.gate != Gate::none && !d_is_row_major(g.layout)) {
    throw Unsupported(text("gate: a row-major d required with '", name(e.gate), "', got layout ", name(g.layout), "; ",
                           name(layout_of(a_is_row_major(g.layout), b_is_row_major(g.layout), true)), " works"));
  }
}

void Gemm::check(const GemmDescriptor& g, const PlanPreference& preference) {
  check(g);
  check_preference(g, preference);
}

GemmDescriptor Gemm::resolve(GemmDescriptor g) {
  resolve_common(g);
  for (DType* type : {&g.c, &g.residual, &g.aux}) {
    if (*type == DType::none) *type = default_beside(g.d);
  }
  for (std::size_t i = 0; i < std::size(further_types); ++i) {
    DType& type = g.*further_types[i];
    if (g.out_columns[i + 1] != 0 && type == DType::none) type = g.d;
  }
  return g;
}

void GroupedGemm::check(const GroupedGemmDescriptor& g) {
  check_extent("groups", g.groups);
  check_common(g);
  const bool over_m = g.over == GroupedOver::m;
  const int64_t shared = over_m ? g.m : g.k;
  if (shared >= int64_t{1} << 31)
    throw InvalidProblem(text(name(g.over), ": an extent < 2^31 required, which int32 offsets can count, got ", shared));
  const bool serves_layout = over_m ? a_is_row_major(g.layout) && d_is_row_major(g.layout) : g.layout == GemmLayout::crr;
  if (!serves_layout) {
    throw Unsupported(text("layout: ", over_m ? "rcr or rrr" : "crr", " required with groups over ", name(g.over), ", got ",
                           name(g.layout)));
  }
  check_quantized(g, std::nullopt, std::nullopt);
  if (!over_m && is_quantized(g.a))
    throw Unsupported(text("groups over k: operands of 16 bits or more required, got ", name(g.a)));
  const Epilogue& e = g.epilogue;
  const char* beside = e.c                                ? "c"
                       : e.residual                       ? "residual"
                       : e.aux != Auxiliary::none         ? "aux"
                       : e.bias == BiasOver::m            ? "a bias over m"
                       : over_m                           ? nullptr
                       : e.bias != BiasOver::none         ? "bias"
                       : e.row_scale                      ? "row_scale"
                       : e.column_scale                   ? "column_scale"
                       : e.gate != Gate::none             ? "gate"
                       : e.activation != Activation::none ? "activation"
                                                          : nullptr;
  if (beside != nullptr) {
    throw Unsupported(text("epilogue: ",
                           over_m ? "bias over n, row_scale, column_scale, a gate and an activation go with groups over m"
                                  : "none goes with groups over k, only alpha",
                           ", got ", beside));
  }
}

void GroupedGemm::check(const GroupedGemmDescriptor& g, const PlanPreference& preference) {
  check(g);
  check_preference(g, preference);
}

GroupedGemmDescriptor GroupedGemm::resolve(GroupedGemmDescriptor g) {
  resolve_common(g);
  return g;
}

/// The types of an operation against the support table, before any kernel is looked at: the reason names the type.
void Common::check_types(const Request& r, const Setting& s) {
  const GemmDescriptor& g = r.asked;
  const Epilogue& e = g.epilogue;
  std::string operands, partners, outputs;
  const char* output = "d";
  DType refused = g.d;
  const auto list = [](std::string& all, DType t, const char* between) {
    if (all.find(name(t)) == std::string::npos) all += (all.empty() ? "" : between) + std::string(name(t));
  };
  for (const Support& row : support_table) {
    if ((row.arch == Arch::host) != s.on_host() || (s.preference.arch && row.arch != *s.preference.arch)) continue;
    list(operands, row.operand, ", ");
    if (row.operand != g.a) continue;
    list(partners, row.operand_b, " or ");
    if (row.operand_b != g.b) continue;
    DType unserved = is_output(row, g.d) ? DType::none : g.d;
    for (std::size_t i = 0; unserved == DType::none && i < std::size(further_types); ++i) {
      const DType type = g.*further_types[i];
      if (type == DType::none || is_output(row, type)) continue;
      unserved = type;
      output = further_names[i];
    }
    if (unserved != DType::none) {
      refused = unserved;
      outputs.clear();
      for (DType t : row.d) {
        if (t != DType::none) list(outputs, t, " or ");
      }
      continue;
    }
    for (const auto& [operand, used, type] :
         {std::tuple("c", e.c, g.c), std::tuple("bias", e.bias != BiasOver::none, g.bias),
          std::tuple("residual", e.residual, g.residual), std::tuple("aux", e.aux != Auxiliary::none, g.aux)}) {
      if (!used || is_epilogue_input(g.a, g.d, type)) continue;
      std::string allowed;
      for (const DType t : {g.d, g.a, DType::f32, DType::f16, DType::bf16}) {
        if (is_epilogue_input(g.a, g.d, t)) list(allowed, t, " or ");
      }
      throw Unsupported(text("operand ", operand, ": dtype ", allowed, " required beside a ", name(g.a), " and d ",
                             name(g.d), ", got ", name(type)));
    }
    return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the ranking says so
  if (partners.empty())
    throw Unsupported(text("operands a and b: one of ", operands, " required on this device, got ", name(g.a)));
  if (outputs.empty()) {
    if (!is_quantized(g.a))
      throw Unsupported(text("operands a and b: one element type required, got ", name(g.a), " and ", name(g.b)));
    throw Unsupported(text("operand b: dtype ", partners, " required beside a ", name(g.a), ", got ", name(g.b)));
  }
  throw Unsupported(
      text("operand ", output, ": dtype ", outputs, " required for ", name(g.a), " operands, got ", name(refused)));
}

}  // namespace cutplan::gemm

namespace cutplan {

std::vector<GemmSupport> gemm_support() {
  std::vector<GemmSupport> rows;
  for (const gemm::Support& s : gemm::support_table) {
    GemmSupport row{s.arch, s.operand, s.operand_b, {}, {}, s.minimum_compute_capability, s.note};
    for (const GemmLayout layout : {GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr, GemmLayout::rcc,
                                    GemmLayout::rrc, GemmLayout::crc, GemmLayout::ccc}) {
      GemmDescriptor g;
      g.layout = layout;
      g.a = s.operand;
      g.b = s.operand_b;
      const GemmDescriptor of_kernel = gemm::canonical(g);
      bool built = false;
      for (const gemm::KernelTable* table : gemm::tables) {
        for (const gemm::Kernel& k : *table)
          built = built || (k.arch == s.arch && k.operand == of_kernel.a && k.operand_b == of_kernel.b &&
                            k.layout == of_kernel.layout);
      }
      if (built) row.layouts.push_back(layout);
    }
    if (row.layouts.empty()) continue;
    for (DType d : s.d) {
      if (d != DType::none) row.d.push_back(d);
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace cutplan
