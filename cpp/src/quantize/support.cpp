// What is refused, and why: descriptors that no kernel could ever serve, and types that those of a device do not.
#include <algorithm>
#include <string>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "quantize/family.hpp"

namespace cutplan::quantize {
namespace {

/// The float side's name: the operand's.
const char* float_operand(const Q&) { return "x"; }
const char* float_operand(const D&) { return "out"; }

bool is_integer(DType type) { return type == DType::i8 || type == DType::i4; }

template <typename G>
void check_groups(const G& g) {
  const bool of_groups = g.granularity == Granularity::group || g.granularity == Granularity::block;
  if (!of_groups) {
    if (g.group_size != 0)
      throw InvalidProblem(text("group_size: none required with granularity '", name(g.granularity), "', got ", g.group_size,
                                "; granularity 'group' or 'block' has one"));
  } else if (g.group_size < (g.granularity == Granularity::group ? 1 : 0)) {
    throw InvalidProblem(text("group_size: elements that share a scale, at least 1, required with granularity '",
                              name(g.granularity), "', got ", g.group_size, "; 128 is usual"));
  } else if (g.group_size > (std::int64_t{1} << 40)) {
    throw InvalidProblem(text("group_size: at most 2^40 required, got ", g.group_size, "; granularity 'row', 'column' or ",
                              "'tensor' has no end"));
  }
  if (g.axis != -1 && (g.axis != -2 || g.granularity != Granularity::group))
    throw InvalidProblem(
        text("axis: ", g.granularity == Granularity::group ? "-1, along a row, or -2, along a column," : "-1",
             " required with granularity '", name(g.granularity), "', got ", g.axis,
             g.granularity == Granularity::group ? "" : "; groups alone have one"));
  if (g.dtype == DType::i4 && g.columns % 2 != 0)
    throw InvalidProblem(text("columns: an even number required with int4, two of which are one byte, got ", g.columns,
                              "; pad to ", g.columns + 1));
  const bool across = g.granularity == Granularity::block || (g.granularity == Granularity::group && g.axis == -1);
  if (g.dtype == DType::i4 && across && g.group_size % 2 != 0)
    throw InvalidProblem(text("group_size: an even number required with int4, two of which are one byte, got ", g.group_size,
                              "; ", g.group_size + 1, " is the next"));
}

}  // namespace

template <typename F, typename G>
void Common<F, G>::check(const G& g) {
  if (F::type(g) == DType::none) throw InvalidProblem(text(float_operand(g), ": an element type required, got none"));
  if (!is_integer(g.dtype) && g.dtype != DType::fp8_e4m3 && g.dtype != DType::fp8_e5m2)
    throw Unsupported(text("dtype: one of int8, int4, float8_e4m3fn, float8_e5m2 required, got ", name(g.dtype)));
  if (!g.symmetric && !is_integer(g.dtype))
    throw Unsupported(text("symmetric: True required with ", name(g.dtype),
                           ", which has no zero point, got False; int8 and "
                           "int4 have one"));
  for (const auto& [extent, value] :
       {std::pair("batch", g.batch), std::pair("rows", g.rows), std::pair("columns", g.columns)})
    check_extent(extent, value);
  check_groups(g);
}

template <typename F, typename G>
void Common<F, G>::check_types(const G& g, const Setting& s) {
  std::string served;
  for (const auto* table : tables) {
    for (const Kernel& k : *table) {
      if (k.op != F::kOp || device_obstacle(k, s.device) != nullptr) continue;
      if (k.operand == F::type(g)) return;
      if (served.find(name(k.operand)) == std::string::npos)
        served += std::string(served.empty() ? "" : ", ") + name(k.operand);
    }
  }
  if (served.empty()) return;  // no kernel runs here: the ranking says so
  throw Unsupported(text("operand ", float_operand(g), ": one of ", served, " required, whose elements float32 holds, got ",
                         name(F::type(g))));
}

/// Kernels number scales, and what blocks of threads take at once, in 32 bits; and elements of a row that share a scale.
template <typename F, typename G>
std::string Common<F, G>::obstacle(const Kernel& k, const G& g, const Setting&, int) {
  if (k.arch == Arch::host) return "";
  constexpr double most = 0x1p31;
  const auto count = [](std::int64_t n) { return static_cast<double>(n); };
  if (count(g.batch) * count(ceil_div(g.rows, group_rows(g))) * count(ceil_div(g.columns, group_columns(g))) >= most)
    return "2^31 scales or more";
  if (count(g.batch) * count(g.rows) >= most) return "2^31 rows or more";
  if (g.granularity != Granularity::tensor && g.columns >= std::int64_t{1} << 30) return "rows of 2^30 elements or more";
  if (g.granularity == Granularity::block &&
      count(std::min(g.group_size, g.rows)) * count(std::min(g.group_size, g.columns)) >= 0x1p30)
    return "blocks of 2^30 elements or more";
  if (count(g.batch) * count(g.rows) * count(g.columns) >= 0x1p40) return "2^40 elements or more";
  return "";
}

template struct Common<Quantize, QuantizeDescriptor>;
template struct Common<Dequantize, DequantizeDescriptor>;

}  // namespace cutplan::quantize
