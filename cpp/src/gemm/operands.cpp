#include "gemm/operands.hpp"

#include <algorithm>
#include <cmath>

#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

[[noreturn, gnu::cold]] void refuse_shape(const Matrix& e, const TensorView& t) {
  const bool batched = e.batch != 1 || e.rank == 3;
  throw ShapeMismatch(
      text("operand ", e.operand, ": shape [", batched ? std::to_string(e.batch) + ", " : "", e.rows, ", ", e.cols,
           "] required", batched && e.shareable ? " (or without the batch dimension, to share it)" : "", ", got ",
           extents(t.shape, t.rank), t.rank == 2 || t.rank == 3 || e.rank != 0 ? "" : ": rank 2 or 3 required"));
}

[[noreturn, gnu::cold]] void refuse_shape(const Vector& e, const TensorView& t) {
  throw ShapeMismatch(text("operand ", e.operand, ": shape [", e.count, e.column ? ", 1" : "", "] required, got ",
                           extents(t.shape, t.rank), e.column ? "; along the columns of D it has one dimension" : ""));
}

[[noreturn, gnu::cold]] void refuse_layout(const Matrix& e, const TensorView& t, const char* why) {
  throw LayoutMismatch(
      text("operand ", e.operand, ": ",
           e.row_major ? "row-major (last dimension contiguous" : "column-major (first dimension contiguous",
           e.broadcasts ? ", or of stride 0)" : ")", " with strides >= 0 required by the plan's layout, got ", describe(t),
           ": ", why, "; select the layout that its strides have, or pass one that is contiguous"));
}

[[noreturn, gnu::cold]] void refuse_alignment(const Matrix& e, const Placed& p, int alignment) {
  const int bytes = bits(e.dtype) / 8;
  throw Misaligned(text("operand ", e.operand, ": address, leading dimension and batch stride must be multiples of ",
                        alignment, " bytes for this plan's kernel, got address ", p.data, " (",
                        reinterpret_cast<std::uintptr_t>(p.data) % 16, " past a multiple of 16), leading dimension ", p.ld,
                        " and batch stride ", p.batch_stride, " elements of ", bytes,
                        " bytes; select with alignment=", bytes, " for a kernel that reads any alignment"));
}

/// Bytes that steps stay below, powers of two: those of a process's memory; on a device the 2^40 that a tensor map counts,
/// halved because an interleaved gate steps over two columns at once.
constexpr std::uint64_t end_of_memory = std::uint64_t{1} << 56, end_of_steps = std::uint64_t{1} << 39;

}  // namespace

Placed place(const Matrix& e, Device device, int alignment, const TensorView& t) {
  check_given(e.operand, t);
  check_element_type(e.operand, e.dtype, t);
  check_device(e.operand, device, t);
  check_address(e.operand, t);
  if (e.rank != 0 && t.rank != e.rank) refuse_shape(e, t);
  int first = 0;
  Placed p;
  p.data = t.data;
  if (t.rank == 3) {
    first = 1;
    if (t.shape[0] != e.batch && !(e.shareable && t.shape[0] == 1)) refuse_shape(e, t);
    if (t.shape[0] > 1) p.batch_stride = t.strides[0];
  } else if (t.rank != 2 || (e.batch != 1 && !e.shareable)) {
    refuse_shape(e, t);
  }
  if (t.shape[first] != e.rows || t.shape[first + 1] != e.cols) refuse_shape(e, t);

  // `rows` are the contiguous runs: rows of a row-major matrix, columns of a column-major one.
  const int run = first + (e.row_major ? 1 : 0), step = first + (e.row_major ? 0 : 1);
  const int64_t run_length = t.shape[run], runs = t.shape[step];
  if (run_length == 0 || runs == 0 || e.batch == 0) return p;
  p.ld = runs == 1 ? 0 : t.strides[step];
  if (run_length > 1) p.step = t.strides[run];
  if (p.step != 1 && !(e.broadcasts && (p.step == 0 || p.ld == 0)))
    refuse_layout(e, t, "the elements of a run are not adjacent");
  if (runs == 1) p.ld = (run_length + 63) / 64 * 64;  // never followed: any aligned value will do
  const auto bytes = static_cast<std::uint64_t>(bits(e.dtype) / 8);
  const bool on_host = device.type == DeviceType::cpu;
  if (static_cast<std::uint64_t>(p.ld | p.batch_stride | p.step) >= (on_host ? end_of_memory : end_of_steps) / bytes) {
    refuse_layout(e, t,
                  p.ld < 0 || p.batch_stride < 0 || p.step < 0 ? "a stride is negative"
                  : on_host                                    ? "a stride takes 2^56 bytes or more"
                                                               : "a stride takes 2^39 bytes or more");
  }
  if (p.data == nullptr) refuse_null(e.operand, t);
  if (alignment > 1) {
    const std::uint64_t all = reinterpret_cast<std::uintptr_t>(p.data) | static_cast<std::uint64_t>(p.ld) * bytes |
                              static_cast<std::uint64_t>(p.batch_stride) * bytes;
    if (all & static_cast<std::uint64_t>(alignment - 1)) refuse_alignment(e, p, alignment);
  }
  return p;
}

Placed place(const Vector& e, Device device, const TensorView& t) {
  check_given(e.operand, t);
  check_element_type(e.operand, e.dtype, t);
  check_device(e.operand, device, t);
  check_address(e.operand, t);
  if (t.rank != (e.column ? 2 : 1) || t.shape[0] != e.count || (e.column && t.shape[1] != 1)) refuse_shape(e, t);
  if (e.count > 1 && t.strides[0] != 1)
    throw LayoutMismatch(
        text("operand ", e.operand, ": contiguous required, got stride ", t.strides[0], "; pass one that is contiguous"));
  if (e.count > 0 && t.data == nullptr) refuse_null(e.operand, t);
  Placed p;
  p.data = t.data;
  return p;
}

void check_absent(const char* operand, const char* option, const TensorView& t) {
  if (!t.present()) return;
  throw MissingOperand(
      text("operand ", operand, ": given, but the plan was selected without it; select with Epilogue(", option, ")"));
}

void check_scalar(const char* scalar, double value) {
  if (!std::isfinite(value)) throw InvalidProblem(text(scalar, ": a finite number required, got ", value));
}

Footprint footprint(const Matrix& e, const Placed& p) {
  const int64_t bytes = bits(e.dtype) / 8;
  Footprint f;
  f.begin = reinterpret_cast<std::uintptr_t>(p.data);
  const int64_t run_length = e.row_major ? e.cols : e.rows;
  f.run = p.step == 1 ? run_length * bytes : bytes;
  if (p.step > 1) f.repeat(run_length, p.step * bytes);
  f.repeat(e.row_major ? e.rows : e.cols, p.ld * bytes);
  f.repeat(e.batch, p.batch_stride * bytes);
  return f;
}

void Inputs::add(const Matrix& e, const Placed& p) {
  if (e.rows == 0 || e.cols == 0 || e.batch == 0) return;
  Input& input = inputs_.add();
  input.operand = e.operand;
  input.memory = footprint(e, p);
}

void Inputs::add(const Vector& e, const Placed& p) { add({e.operand, 1, e.count, 1, true, true, e.dtype}, p); }

void Inputs::check_apart(const Matrix& output, const Placed& placed, const char* advice) const {
  const Footprint written = footprint(output, placed);
  for (const Input& input : inputs_) cutplan::check_apart(output.operand, written, input.operand, input.memory, advice);
}

void check_extent(const char* extent, int64_t value) {
  if (value < 0) throw InvalidProblem(text(extent, ": an extent >= 0 required, got ", value));
  if (value > (int64_t{1} << 40)) throw InvalidProblem(text(extent, ": an extent <= 2^40 required, got ", value));
}

void check_alignment(int alignment) {
  if (alignment < 0 || (alignment & (alignment - 1)))
    throw InvalidProblem(text("alignment: a power of two of bytes (or 0 for the extents' own) required, got ", alignment));
}

int resolve_alignment(int alignment, int operand_bits, int64_t a_run, int64_t b_run) {
  const int element = std::max(1, operand_bits / 8);
  if (alignment == 0) {
    alignment = 16;
    while (alignment > element && ((a_run | b_run) * element) % alignment != 0) alignment /= 2;
  }
  if (alignment < element)
    throw InvalidProblem(text("alignment: at least ", element, " bytes, one element of a and b, required, got ", alignment));
  return alignment;
}

void check_rank(const char* operand, const TensorView& t, int least, int most) {
  if (!t.present()) throw MissingOperand(text("operand ", operand, ": not given"));
  check_given(operand, t);
  if (t.rank < least || t.rank > most)
    throw ShapeMismatch(text("operand ", operand, ": rank ", least, most > least ? text(" or ", most) : "",
                             " required, got ", extents(t.shape, t.rank)));
}

bool reads_row_major(const TensorView& t, bool preferred, bool broadcasts) {
  const int row = t.rank - 2, column = t.rank - 1;
  const auto repeats = [&](int dimension) { return t.shape[dimension] <= 1 || t.strides[dimension] == 0; };
  const auto runs_along = [&](int dimension) { return t.shape[dimension] <= 1 || t.strides[dimension] == 1; };
  const bool either = broadcasts && (repeats(row) || repeats(column));
  const bool by_rows = runs_along(column), by_columns = runs_along(row);
  return either || by_rows == by_columns ? preferred : by_rows;
}

Gate gate_of(const TensorView& b2, Gate asked, int64_t* n) {
  if (asked != Gate::interleaved) return b2.present() ? Gate::separate : asked;
  check_absent("b2", "gate='separate'", b2);
  if (*n % 2 != 0)
    throw ShapeMismatch(text("operand b: an even number of columns required with gate='interleaved', got ", *n));
  *n /= 2;
  return asked;
}

void set_gate(Problem& p, Gate gate, bool b_row_major) {
  p.gate = gate;
  p.b_step = p.bias_step = 1;
  if (gate != Gate::interleaved) return;
  const auto beyond = [](const void* data, DType type, int64_t elements) {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + elements * (bits(type) / 8);
  };
  p.b2 = beyond(p.b, p.operand, b_row_major ? 1 : p.ldb);
  if (b_row_major) {
    p.b_step = 2;
  } else {
    p.ldb *= 2;
  }
  p.ldb2 = p.ldb;
  p.batch_b2 = p.batch_b;
  p.bias2 = beyond(p.bias, p.bias_type, 1);
  p.bias_step = 2;
}

int alignment_of(const char* operand, const TensorView& t, bool row_major) {
  check_address(operand, t);
  const int step = t.rank - (row_major ? 2 : 1);
  std::uint64_t all = reinterpret_cast<std::uintptr_t>(t.data) | 16;
  const auto bytes = static_cast<std::uint64_t>(bits(t.dtype) / 8);
  if (t.shape[step] > 1) all |= static_cast<std::uint64_t>(t.strides[step]) * bytes;
  if (t.rank == 3 && t.shape[0] > 1) all |= static_cast<std::uint64_t>(t.strides[0]) * bytes;
  return static_cast<int>(all & (~all + 1));
}

}  // namespace cutplan::gemm
