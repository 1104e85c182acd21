// What is refused, and why: descriptors that no kernel could ever serve, and types that those of a device do not.
#include "gemm/support.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "gemm/family.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

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
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = g.a;
  if (g.bias == DType::none) g.bias = g.d;
  const int64_t a_run = a_is_row_major(g.layout) ? g.k : g.m,
                b_run = b_is_row_major(g.layout) ? halves(g.epilogue) * g.n : g.k;
  const int element = std::max(1, std::min(bits(g.a), bits(g.b)) / 8);
  if (g.alignment == 0) {
    g.alignment = 16;
    while (g.alignment > element && ((a_run | b_run) * element) % g.alignment != 0) g.alignment /= 2;
  }
  if (g.alignment < element) {
    throw InvalidProblem(
        text("alignment: at least ", element, " bytes, one element of a and b, required, got ", g.alignment));
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
  check_extent("batch", g.batch);
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
    if (*type == DType::none) *type = g.d;
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
  if (g.a != g.b)
    throw Unsupported(text("operands a and b: one element type required, got ", name(g.a), " and ", name(g.b)));
  const Epilogue& e = g.epilogue;
  std::string operands, outputs;
  bool operand_known = false;
  for (const Support& row : support_table) {
    if ((row.arch == Arch::host) != s.on_host() || (s.preference.arch && row.arch != *s.preference.arch)) continue;
    if (operands.find(name(row.operand)) == std::string::npos)
      operands += std::string(operands.empty() ? "" : ", ") + name(row.operand);
    if (row.operand != g.a) continue;
    operand_known = true;
    if (!is_output(row, g.d)) {
      outputs.clear();
      for (DType t : row.d) {
        if (t != DType::none) outputs += (outputs.empty() ? "" : " or ") + std::string(name(t));
      }
      continue;
    }
    for (const auto& [operand, used, type] :
         {std::tuple("c", e.c, g.c), std::tuple("bias", e.bias != BiasOver::none, g.bias),
          std::tuple("residual", e.residual, g.residual), std::tuple("aux", e.aux != Auxiliary::none, g.aux)}) {
      if (used && !is_epilogue_input(g.a, g.d, type)) {
        const bool f32_too = g.a != DType::f64 && g.a != DType::f32 && g.d != DType::f32;
        throw Unsupported(text("operand ", operand, ": dtype ", name(g.d), g.a == g.d ? "" : std::string(" or ") + name(g.a),
                               f32_too ? " or float32" : "", " required beside a ", name(g.a), " and d ", name(g.d),
                               ", got ", name(type)));
      }
    }
    return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the ranking says so
  if (!operand_known)
    throw Unsupported(text("operands a and b: one of ", operands, " required on this device, got ", name(g.a)));
  throw Unsupported(text("operand d: dtype ", outputs, " required for ", name(g.a), " operands, got ", name(g.d)));
}

}  // namespace cutplan::gemm

namespace cutplan {

std::vector<GemmSupport> gemm_support() {
  std::vector<GemmSupport> rows;
  for (const gemm::Support& s : gemm::support_table) {
    GemmSupport row{s.arch, s.operand, {}, {}, s.minimum_compute_capability, s.note};
    for (const GemmLayout layout : {GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr, GemmLayout::rcc,
                                    GemmLayout::rrc, GemmLayout::crc, GemmLayout::ccc}) {
      GemmDescriptor g;
      g.layout = layout;
      const GemmLayout of_kernel = gemm::canonical(g).layout;
      bool built = false;
      for (const gemm::KernelTable* table : gemm::tables) {
        for (const gemm::Kernel& k : *table)
          built = built || (k.arch == s.arch && k.operand == s.operand && k.layout == of_kernel);
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
