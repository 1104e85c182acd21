#include "core/operands.hpp"

#include <algorithm>
#include <cstdlib>

#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan {
namespace {

using std::int64_t;

/// Bytes from the first to beyond the last element when only the steps shorter than `pitch` are taken.
int64_t extent_within(const Footprint& f, int64_t pitch) {
  int64_t extent = f.run;
  for (const Footprint::Step& s : f.steps) {
    if (s.bytes < pitch) extent += (s.count - 1) * s.bytes;
  }
  return extent;
}

bool steps_evenly(const Footprint& f, int64_t pitch) {
  for (const Footprint::Step& s : f.steps) {
    if (s.bytes >= pitch && s.bytes % pitch != 0) return false;
  }
  return true;
}

/// Where all long steps are multiples of a pitch, operands whose short steps stay within it are apart if they are modulo the
/// pitch.
bool apart_modulo(const Footprint& x, const Footprint& y, int64_t pitch) {
  if (pitch <= 0 || !steps_evenly(x, pitch) || !steps_evenly(y, pitch)) return false;
  const int64_t x_extent = extent_within(x, pitch), y_extent = extent_within(y, pitch);
  const int64_t offset = static_cast<int64_t>(y.begin - x.begin) % pitch;
  const int64_t y_begin = offset < 0 ? offset + pitch : offset;
  return x_extent <= y_begin && y_begin + y_extent <= pitch;
}

// ---- refusals: what is required, what came, what would work ----

using Row = Operands::Row;

const TensorView& shown(const Row& row, const TensorView& t) { return row.given != nullptr ? *row.given : t; }

bool is_float(DType t) { return t == DType::f16 || t == DType::bf16 || t == DType::f32 || t == DType::f64; }

[[noreturn, gnu::cold]] void refuse_type(const Row& row, Caller caller, const TensorView& t) {
  const Rule& rule = row.rule;
  const bool either = rule.type_too != DType::none && rule.type_too != rule.type,
             by_descriptor = !rule.type_is_fixed && caller == Caller::plan;
  std::string required = text("dtype ", name(rule.type), either ? text(" or ", name(rule.type_too)) : "", " required",
                              by_descriptor ? " by the descriptor" : "");
  std::string advice = "; cutplan never casts: convert it";
  if (rule.type == DType::boolean) {
    required += " (true: the key takes part)";
    // A float mask is most often one that is added. Converted to bool it would hide what it shows.
    if (is_float(t.dtype))
      advice = "; an additive mask (0 and -inf) goes to bias=, as it is; one of ones and zeros has to be converted to bool";
  } else if (by_descriptor && is_float(t.dtype)) {
    advice += text(", or select a plan for ", name(t.dtype));
  }
  throw DTypeMismatch(text("operand ", row.name, ": ", required, ", got ", name(t.dtype), advice));
}

[[noreturn, gnu::cold]] void refuse_device(const Row& row, Caller caller, Device expected, const TensorView& t) {
  const bool by_plan = caller == Caller::plan;
  throw DeviceMismatch(text("operand ", row.name, ": must be on ", describe(expected), by_plan ? ", the plan's device" : "",
                            ", got ", describe(t.device), "; move it", by_plan ? ", or select a plan for that device" : ""));
}

[[noreturn, gnu::cold]] void refuse_shape(const Row& row, const TensorView& t) {
  const Rule& rule = row.rule;
  const std::string whole = extents(rule.extents, rule.rank),
                    rest = rule.rank > 0 ? extents(rule.extents + 1, rule.rank - 1) : whole;
  const char* sharing = "";
  std::string shape = whole;
  if (rule.droppable == rule.rank) {
    shape = "that broadcasts to " + whole;
  } else if (rule.droppable > 0 && rule.extents[0] == 1) {
    shape = rest;  // of a batch of one nobody speaks
  } else if (rule.droppable > 0 && rule.shareable == 0) {
    shape = rest + " or " + whole;
  } else if (rule.droppable > 0) {
    sharing = " (or without the batch dimension, to share it)";
  }
  throw ShapeMismatch(text("operand ", row.name, ": shape ", shape,
                           *rule.meaning != '\0' ? text(" (", rule.meaning, ")") : "", " required", sharing, ", got ",
                           extents(t.shape, t.rank)));
}

/// `got`: a stride, and what is wrong with it.
[[noreturn, gnu::cold]] void refuse_layout(const Row& row, Caller caller, const TensorView& t, const std::string& got) {
  const Rule& rule = row.rule;
  const bool by_plan = caller == Caller::plan && rule.by_layout, by_other = !by_plan && *rule.ordered_as != '\0',
             free_order = caller == Caller::function && rule.aligned && !by_other, last = rule.run == rule.rank - 1;
  std::string required = rule.run < 0      ? ""
                         : rule.rank == 1  ? "contiguous"
                         : free_order      ? "one of its last two dimensions contiguous"
                         : !rule.by_layout ? "a contiguous last dimension"
                         : last            ? "row-major (last dimension contiguous"
                         : t.rank > 2      ? "column-major (second to last dimension contiguous"
                                           : "column-major (first dimension contiguous";
  if (rule.by_layout && !free_order) required += rule.repeats ? ", or of stride 0)" : ")";
  if (by_other) required += text(", as ", rule.ordered_as, ",");
  if (rule.rank != 1 || required.empty()) required += required.empty() ? "strides >= 0" : " and strides >= 0";
  throw LayoutMismatch(text("operand ", row.name, ": ", required, " required", by_plan ? " by the plan's layout" : "",
                            ", got ", got, " (", describe(shown(row, t)),
                            by_plan ? "); select the layout that its strides have, or" : ");", " pass one that is ",
                            rule.by_layout && !free_order && !last ? "ordered so" : "contiguous"));
}

/// A function takes the alignment that its operands have, unless rows have to be alike in any company.
[[noreturn, gnu::cold]] void refuse_alignment(const Row& row, Caller caller, int alignment, const TensorView& t) {
  const int bytes = bits(t.dtype) / 8;
  const bool by_plan = caller == Caller::plan;
  throw Misaligned(text(
      "operand ", row.name, ": an address and strides that are multiples of ", alignment, " bytes required ",
      by_plan ? "by this plan's kernel" : "with batch_invariant", ", got ", describe(shown(row, t)), " at ", t.data, " (",
      reinterpret_cast<std::uintptr_t>(t.data) % static_cast<unsigned>(alignment), " past a multiple of ", alignment,
      "), elements of ", bytes, " bytes; ",
      by_plan ? text("select with alignment=", bytes, " for a kernel that reads any alignment") : "pass a contiguous copy"));
}

[[noreturn, gnu::cold]] void refuse_read_only(const Row& row, const TensorView& t) {
  throw ReadOnly(text("operand ", row.name, ": must be writable, got a read-only tensor (", describe(shown(row, t)),
                      "); JAX arrays and NumPy arrays with writeable=False cannot be outputs"));
}

[[noreturn, gnu::cold]] void refuse_rank(const char* operand, const TensorView& t) {
  throw ShapeMismatch(text("operand ", operand, ": rank 0 to ", max_rank, " required, got ", t.rank));
}

[[noreturn, gnu::cold]] void refuse_address(const char* operand, const TensorView& t) {
  const int element = bits(t.dtype) / 8;
  throw Misaligned(text("operand ", operand, ": an address that is a multiple of ", element, " bytes, one ", name(t.dtype),
                        ", required, got ", t.data, ", ", reinterpret_cast<std::uintptr_t>(t.data) % element,
                        " past one; pass a copy, whose elements begin at such addresses"));
}

// ---- one operand ----

/// Bytes that steps stay below, powers of two: those of a process's memory; on a device the 2^40 that a tensor map counts,
/// halved because an interleaved gate steps over two columns at once.
constexpr std::uint64_t end_of_memory = std::uint64_t{1} << 56, end_of_steps = std::uint64_t{1} << 39;

/// `empty`: of no elements.
void place(const Operands& operands, const Row& row, bool empty, const TensorView& t, Placed& p) {
  const Rule& rule = row.rule;
  check_given(row.name, t);
  if (t.dtype != rule.type && (rule.type_too == DType::none || t.dtype != rule.type_too))
    refuse_type(row, operands.caller, t);
  if (t.device != operands.device) refuse_device(row, operands.caller, operands.device, t);
  check_address(row.name, t);

  p.data = t.data;
  const int missing = rule.rank - t.rank;
  if (missing < 0 || missing > rule.droppable) refuse_shape(row, t);
  for (int i = missing; i < rule.rank; ++i) {
    const int64_t extent = t.shape[i - missing];
    if (extent != rule.extents[i] && !(extent == 1 && (rule.shareable >> i & 1) != 0)) refuse_shape(row, t);
    if (extent > 1) p.strides[i] = t.strides[i - missing];
  }
  if (empty) {
    for (int64_t& stride : p.strides) stride = 0;
    return;
  }
  if (rule.run >= 0) {
    int64_t& step = p.strides[rule.run];
    if (rule.extents[rule.run] == 1) {
      step = 1;
    } else if (step != 1) {
      const int across = rule.rank > 1 ? 2 * rule.rank - 3 - rule.run : -1;  // of the last two the other
      if (!(rule.repeats && (step == 0 || p.strides[across] == 0)))
        refuse_layout(row, operands.caller, t, text("stride ", step));
    }
  }
  const auto bytes = static_cast<std::uint64_t>(bits(t.dtype) / 8);
  std::uint64_t steps = 0, jumps = 0, reach = 0;  // jumps: steps but those along the run
  for (int i = 0; i < most_dimensions; ++i) {
    const auto stride = static_cast<std::uint64_t>(p.strides[i]);
    steps |= stride;
    jumps |= i == rule.run ? 0 : stride;
    reach += static_cast<std::uint64_t>(rule.extents[i] - 1) * stride;
  }
  const bool on_host = operands.device.type == DeviceType::cpu;
  if ((steps | steps * bytes) >= (on_host ? end_of_memory : end_of_steps)) {
    const int64_t* const worst = std::max_element(p.strides, p.strides + rule.rank, [](int64_t x, int64_t y) {
      return static_cast<std::uint64_t>(x) < static_cast<std::uint64_t>(y);
    });
    refuse_layout(row, operands.caller, t,
                  text("stride ", *worst,
                       *worst < 0 ? ""
                       : on_host  ? ", 2^56 bytes or more"
                                  : ", 2^39 bytes or more"));
  }
  if (t.data == nullptr) throw InvalidProblem(text("operand ", row.name, ": null data for ", describe(shown(row, t))));
  const auto begin = reinterpret_cast<std::uintptr_t>(t.data);
  if (rule.aligned && ((begin | jumps * bytes) & static_cast<std::uint64_t>(operands.alignment - 1)) != 0)
    refuse_alignment(row, operands.caller, operands.alignment, t);
  p.end = begin + (reach + 1) * bytes;
}

// ---- who shares memory with whom ----

Footprint footprint(const TensorView& t) {
  const int64_t bytes = bits(t.dtype) / 8;
  Footprint f;
  f.begin = reinterpret_cast<std::uintptr_t>(t.data);
  f.run = bytes;
  for (int i = 0; i < t.rank; ++i) {
    const int64_t extent = t.shape[i], step = t.strides[i] * bytes;
    if (extent <= 1 || step == 0) continue;
    if (step < 0) f.begin -= static_cast<std::uintptr_t>((extent - 1) * -step);
    if (step == bytes && f.run == bytes) {
      f.run = extent * bytes;
    } else {
      f.repeat(extent, std::abs(step));
    }
  }
  return f;
}

[[noreturn, gnu::cold]] void refuse_shared_elements(const Row& row, const TensorView& t) {
  throw Overlap(text("operand ", row.name, ": its elements must not share memory, got ", describe(shown(row, t)),
                     "; pass an output without zero or overlapping strides"));
}

/// Whether every element of an output has memory of its own.
bool elements_apart(const TensorView& t, Footprint f) {
  for (int i = 0; i < t.rank; ++i) {
    if (t.strides[i] == 0 && t.shape[i] > 1) return false;
  }
  int64_t extent = f.run;
  // From the shortest step to the longest, each must leave behind all that the shorter ones reach.
  const auto shorter = [](const Footprint::Step& a, const Footprint::Step& b) { return a.bytes < b.bytes; };
  for (Footprint::Step* next = f.steps.begin(); next != f.steps.end(); ++next) {
    std::iter_swap(next, std::min_element(next, f.steps.end(), shorter));
    if (next->bytes < extent) return false;
    extent += (next->count - 1) * next->bytes;
  }
  return true;
}

/// Whether elements of one place, counted from the last, are the same.
bool same_elements(const TensorView& x, const TensorView& y) {
  if (x.data != y.data || bits(x.dtype) != bits(y.dtype)) return false;
  const auto step = [](const TensorView& t, int from_last) {
    const int i = t.rank - 1 - from_last;
    return i < 0 || t.shape[i] == 1 ? 0 : t.strides[i];
  };
  for (int i = 0; i < std::max(x.rank, y.rank); ++i) {
    if (step(x, i) != step(y, i)) return false;
  }
  return true;
}

[[noreturn, gnu::cold]] void refuse_overlap(const Operands& operands, const Row& output, const Placed& written,
                                            const Row& other, const Placed& touched) {
  std::string may;
  for (const Row& row : operands.rows) {
    if (row.rule.wanted() && row.rule.role == Role::in_place) may += text(may.empty() ? "" : " and ", row.name);
  }
  throw Overlap(text("operand ", output.name, ": must not share memory with operand ", other.name, ", got ", output.name,
                     " at ", written.data, " and ", other.name, " at ", touched.data,
                     may.empty() ? "; pass an output with memory of its own"
                                 : text("; only ", may, " may be the result itself, element for element")));
}

void check_outputs(const Operands& operands, const Views& views, std::uint32_t with_elements, const Places& places) {
  const Row* const rows = operands.rows.begin();
  const std::uint32_t outputs = operands.outputs & with_elements;
  for_each_bit(outputs, [&](std::size_t o) {
    const TensorView& t = *views.of[o];
    const Placed& written = places[o];
    if (t.read_only) refuse_read_only(rows[o], t);
    const Footprint footprint_of_output = footprint(t);
    if (!elements_apart(t, footprint_of_output)) refuse_shared_elements(rows[o], t);
    const std::uint32_t from_o = ~std::uint32_t{0} << o, later = outputs & from_o;  // these look back at this one
    const int which = __builtin_popcount(operands.outputs & operands.wanted & ~from_o);
    for_each_bit(with_elements & ~later, [&](std::size_t i) {
      const Placed& touched = places[i];
      if (reinterpret_cast<std::uintptr_t>(touched.data) >= written.end ||
          reinterpret_cast<std::uintptr_t>(written.data) >= touched.end ||
          !overlap(footprint_of_output, footprint(*views.of[i])))
        return;
      const Rule& read = rows[i].rule;
      if (read.role == Role::in_place && read.result == which && same_elements(t, *views.of[i])) return;
      refuse_overlap(operands, rows[o], written, rows[i], touched);
    });
  });
}

}  // namespace

void check(const Operands& operands, const Views& views, Places& places) {
  for_each_bit(operands.wanted | views.given, [&](std::size_t i) {
    const Row& row = operands.rows.begin()[i];
    if ((operands.wanted >> i & 1) == 0) return check_absent(row.name, row.option, *views.of[i]);
    place(operands, row, (operands.with_elements >> i & 1) == 0, *views.of[i], places[i]);
  });
  check_outputs(operands, views, operands.with_elements, places);
}

void check_memory(const Operands& operands, const Views& views) {
  Places places;
  const std::uint32_t with_elements = operands.with_elements & views.given;
  for_each_bit(with_elements, [&](std::size_t i) {
    const Footprint f = footprint(*views.of[i]);
    places[i].data = reinterpret_cast<void*>(f.begin);
    places[i].end = f.end();
  });
  check_outputs(operands, views, with_elements, places);
}

std::string describe(const TensorView& t) {
  return text(name(t.dtype), " ", extents(t.shape, t.rank), " with strides ", extents(t.strides, t.rank));
}

void check_given(const char* operand, const TensorView& t) {
  if (!t.present()) throw MissingOperand(text("operand ", operand, ": required, not given"));
  if (static_cast<unsigned>(t.rank) > max_rank) refuse_rank(operand, t);  // also a negative one
}

void check_rank(const char* operand, const TensorView& t, int least, int most) {
  if (!t.present()) throw MissingOperand(text("operand ", operand, ": not given"));
  check_given(operand, t);
  if (t.rank < least || t.rank > most)
    throw ShapeMismatch(text("operand ", operand, ": rank ", least, most > least ? text(" or ", most) : "",
                             " required, got ", extents(t.shape, t.rank)));
}

void check_absent(const char* operand, const char* option, const TensorView& t) {
  if (!t.present()) return;
  throw MissingOperand(text("operand ", operand, ": given, but the plan was selected without it; select with ", option));
}

void check_address(const char* operand, const TensorView& t) {
  const auto element = static_cast<std::uintptr_t>(std::max(bits(t.dtype), 8) / 8);  // a power of two
  if ((reinterpret_cast<std::uintptr_t>(t.data) & (element - 1)) != 0) refuse_address(operand, t);
}

void check_workspace(const Workspace& workspace, std::size_t needed) {
  if (needed == 0) return;
  const bool misaligned = reinterpret_cast<std::uintptr_t>(workspace.data) % workspace_alignment != 0;
  if (workspace.data == nullptr || workspace.bytes < needed) {
    throw WorkspaceTooSmall(
        text("workspace: ", needed, " bytes required (plan.workspace_size), got ", workspace.data ? workspace.bytes : 0));
  }
  if (misaligned) {
    throw WorkspaceTooSmall(text("workspace: an address that is a multiple of ", workspace_alignment, " required, got ",
                                 workspace.data, ", ",
                                 reinterpret_cast<std::uintptr_t>(workspace.data) % workspace_alignment, " bytes past one"));
  }
}

void check_extent(const char* extent, int64_t value) {
  if (value < 0) throw InvalidProblem(text(extent, ": an extent >= 0 required, got ", value));
  if (value > (int64_t{1} << 40)) throw InvalidProblem(text(extent, ": an extent <= 2^40 required, got ", value));
}

bool overlap(const Footprint& x, const Footprint& y) {
  if (x.begin >= y.end() || y.begin >= x.end()) return false;
  for (const Footprint* f : {&x, &y}) {
    for (const Footprint::Step& s : f->steps) {
      if (apart_modulo(x, y, s.bytes)) return false;
    }
  }
  return true;
}

}  // namespace cutplan
