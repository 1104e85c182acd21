// The operands of a product as plans check them: one rule and one refusal for each, shared by single and grouped plans.
#pragma once

#include <cstdint>

#include "core/operand.hpp"
#include "gemm/kernel.hpp"

namespace cutplan::gemm {

// GemmLayout has its letters in this order.
constexpr bool a_is_row_major(GemmLayout l) { return (static_cast<int>(l) & 3) < 2; }
constexpr bool b_is_row_major(GemmLayout l) { return ((static_cast<int>(l) + 3) & 3) < 2; }
constexpr bool d_is_row_major(GemmLayout l) { return l < GemmLayout::rcc; }

constexpr GemmLayout layout_of(bool a_row_major, bool b_row_major, bool d_row_major) {
  const GemmLayout l =
      a_row_major ? (b_row_major ? GemmLayout::rrr : GemmLayout::rcr) : (b_row_major ? GemmLayout::crr : GemmLayout::ccr);
  return d_row_major ? l : static_cast<GemmLayout>(static_cast<int>(l) + 4);
}

/// What a plan asks of a matrix.
struct Matrix {
  const char* operand;
  std::int64_t rows, cols, batch;
  bool row_major;
  bool shareable;  // may be given once for the whole batch
  DType dtype;
  int rank = 0;             // 0: 3 with a batch, and 2 where that is 1 or the matrix shareable
  bool broadcasts = false;  // may have the stride 0 along its runs, or any there where it has 0 across them
};

/// What a plan asks of a vector: shape [count], or [count, 1] for a column.
struct Vector {
  const char* operand;
  std::int64_t count;
  bool column;
  DType dtype;
};

/// How the memory of an operand lies.
struct Placed {
  const void* data = nullptr;
  std::int64_t ld = 0, batch_stride = 0;
  std::int64_t step = 1;  // from an element of a run to the next

  bool operator==(const Placed& p) const {
    return data == p.data && ld == p.ld && batch_stride == p.batch_stride && step == p.step;
  }
};

/// Throws the error of the first rule that the operand breaks. `alignment`: bytes that its address, leading dimension and
/// batch stride must be multiples of.
Placed place(const Matrix& matrix, Device device, int alignment, const TensorView& view);
Placed place(const Vector& vector, Device device, const TensorView& view);

/// Throws MissingOperand for an operand that the plan does not know. `option`: what to select with.
void check_absent(const char* operand, const char* option, const TensorView& view);

void check_scalar(const char* scalar, double value);

/// What a plan reads, gathered so that what it writes can be told apart from it.
class Inputs {
 public:
  void add(const Matrix& matrix, const Placed& placed);
  void add(const Vector& vector, const Placed& placed);

  /// Throws Overlap where an output shares memory with any of them.
  void check_apart(const Matrix& output, const Placed& placed, const char* advice) const;

 private:
  struct Input {
    const char* operand;
    Footprint memory;
  };
  FixedVector<Input, 12> inputs_;
};

Footprint footprint(const Matrix& matrix, const Placed& placed);

/// Refuses an extent that no problem can have.
void check_extent(const char* extent, std::int64_t value);

/// Refuses an alignment that is not a power of two of bytes.
void check_alignment(int alignment);

/// `alignment`, or where it is 0 the most that contiguous matrices of these runs have: 16 bytes at most. Refuses less than
/// an element, of the smaller type: that a and b differ, check_supported says.
int resolve_alignment(int alignment, int operand_bits, std::int64_t a_run, std::int64_t b_run);

/// Throws where a view is not given or has a rank that is not in [least, most].
void check_rank(const char* operand, const TensorView& view, int least, int most);

/// Whether a view's last two dimensions are read as row-major. Where both orders fit, `preferred` decides; so they do where
/// a view that `broadcasts` repeats one row or one column.
bool reads_row_major(const TensorView& view, bool preferred = true, bool broadcasts = false);

/// The gate that these operands ask for. `n`, the columns of b, becomes those of D.
Gate gate_of(const TensorView& b2, Gate asked, std::int64_t* n);

/// Sets what kernels see of a gate's B and bias; an interleaved one becomes two views.
void set_gate(Problem& problem, Gate gate, bool b_row_major);

/// Largest power of two of bytes, 16 at most, that divides the address and every stride that a kernel follows. Refuses an
/// address within an element.
int alignment_of(const char* operand, const TensorView& view, bool row_major);

}  // namespace cutplan::gemm
