#include "core/operand.hpp"

#include <algorithm>

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

}  // namespace

std::string describe(const TensorView& t) {
  return text(name(t.dtype), " ", extents(t.shape, t.rank), " with strides ", extents(t.strides, t.rank));
}

void refuse_missing(const char* operand) {
  throw MissingOperand(text("operand ", operand, ": required by the descriptor, not given"));
}

void refuse_rank(const char* operand, const TensorView& t) {
  throw ShapeMismatch(text("operand ", operand, ": rank 0 to ", max_rank, " required, got ", t.rank));
}

void refuse_element_type(const char* operand, DType expected, const TensorView& t) {
  const bool has_plans = t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f32 || t.dtype == DType::f64;
  throw DTypeMismatch(text("operand ", operand, ": dtype ", name(expected), " required by the descriptor, got ",
                           name(t.dtype), "; cutplan never casts: convert it",
                           has_plans ? text(", or select a plan for ", name(t.dtype)) : ""));
}

void refuse_fixed_type(const char* operand, DType required, const TensorView& t) {
  throw DTypeMismatch(text("operand ", operand, ": dtype ", name(required), " required, got ", name(t.dtype),
                           "; cutplan never casts: convert it"));
}

void refuse_device(const char* operand, Device expected, const TensorView& t) {
  throw DeviceMismatch(text("operand ", operand, ": must be on ", describe(expected), ", the plan's device, got ",
                            describe(t.device), "; move it, or select a plan for that device"));
}

void refuse_address(const char* operand, const TensorView& t) {
  const int element = bits(t.dtype) / 8;
  throw Misaligned(text("operand ", operand, ": an address that is a multiple of ", element, " bytes, one ", name(t.dtype),
                        ", required, got ", t.data, ", ", reinterpret_cast<std::uintptr_t>(t.data) % element,
                        " past one; pass a copy, whose elements begin at such addresses"));
}

void refuse_null(const char* operand, const TensorView& t) {
  throw InvalidProblem(text("operand ", operand, ": null data for ", describe(t)));
}

void refuse_read_only(const char* operand, const TensorView& t) {
  throw ReadOnly(text("operand ", operand, ": must be writable, got a read-only tensor (", describe(t),
                      "); JAX arrays and NumPy arrays with writeable=False cannot be outputs"));
}

void refuse_workspace(const Workspace& workspace, std::size_t needed) {
  if (workspace.data == nullptr || workspace.bytes < needed) {
    throw WorkspaceTooSmall(
        text("workspace: ", needed, " bytes required (plan.workspace_size), got ", workspace.data ? workspace.bytes : 0));
  }
  throw WorkspaceTooSmall(text("workspace: an address that is a multiple of ", workspace_alignment, " required, got ",
                               workspace.data, ", ", reinterpret_cast<std::uintptr_t>(workspace.data) % workspace_alignment,
                               " bytes past one"));
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

void check_elements_apart(const char* operand, const Footprint& output, const TensorView& view) {
  Footprint f = output;
  int64_t extent = f.run;
  // From the shortest step to the longest, each must leave behind all that the shorter ones reach.
  const auto shorter = [](const Footprint::Step& a, const Footprint::Step& b) { return a.bytes < b.bytes; };
  for (Footprint::Step* next = f.steps.begin(); next != f.steps.end(); ++next) {
    std::iter_swap(next, std::min_element(next, f.steps.end(), shorter));
    const Footprint::Step& s = *next;
    if (s.bytes < extent) {
      throw Overlap(text("operand ", operand, ": its elements must not share memory, got ", describe(view),
                         "; pass an output without zero or overlapping strides"));
    }
    extent += (s.count - 1) * s.bytes;
  }
}

void check_apart(const char* output, const Footprint& written, const char* other, const Footprint& touched,
                 const char* advice) {
  if (!overlap(written, touched)) return;
  throw Overlap(text("operand ", output, ": must not share memory with operand ", other, ", got ", output, " at ",
                     reinterpret_cast<const void*>(written.begin), " and ", other, " at ",
                     reinterpret_cast<const void*>(touched.begin), advice));
}

}  // namespace cutplan
