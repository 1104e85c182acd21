// The support table of the attention family: what each architecture's kernels serve, forward and backward. select() refuses
// by it, the documentation prints it, the tests walk it.
#pragma once

#include "core/kernel.hpp"
#include "fmha/kernel.hpp"

namespace cutplan::fmha {

inline constexpr std::int64_t largest_dim = 256;

/// Packed operands are [T, H, D] elsewhere: read as [H, T, D], their extents do not fit.
inline constexpr char rows_before_heads[] = "; of operands [T, H, D], with rows before heads, pass layout='bshd'";

/// What scores are computed in.
inline const char* arithmetic(DType operand) { return operand == DType::f64 ? "float64" : "float32"; }

/// Whether a scalar is finite in the arithmetic of these operands.
bool is_number(double x, DType operand);

struct Support {
  Arch arch;
  DType operand;  // of Q, K, V and the gradient of O
  DType o[2];     // output types, and those of dQ, dK and dV
  int largest_dim;
  int minimum_compute_capability, maximum_compute_capability;  // 0, 0: the host
  const char* note;
};

inline constexpr Support support_table[] = {
    {Arch::host, DType::f16, {DType::f16, DType::f32}, 256, 0, 0, "float32 scores and sums"},
    {Arch::host, DType::bf16, {DType::bf16, DType::f32}, 256, 0, 0, "float32 scores and sums"},
    {Arch::host, DType::f32, {DType::f32, DType::none}, 256, 0, 0, ""},
    {Arch::host, DType::f64, {DType::f64, DType::none}, 256, 0, 0, ""},
    {Arch::sm80, DType::f16, {DType::f16, DType::f32}, 256, 80, any_newer, "mma.sync; float32 softmax"},
    {Arch::sm80, DType::bf16, {DType::bf16, DType::f32}, 256, 80, any_newer, "mma.sync; float32 softmax"},
    {Arch::sm80, DType::f32, {DType::f32, DType::none}, 256, 80, any_newer, "three TF32 products, or one by choice"},
    {Arch::sm80, DType::f64, {DType::f64, DType::none}, 256, 80, any_newer, "CUDA cores"},
    {Arch::sm89, DType::f16, {DType::f16, DType::f32}, 256, 89, 90, "mma.sync; tiles within 99 KiB of shared memory"},
    {Arch::sm89, DType::bf16, {DType::bf16, DType::f32}, 256, 89, 90, "mma.sync; tiles within 99 KiB of shared memory"},
};

constexpr bool is_output(const Support& row, DType t) { return t != DType::none && (row.o[0] == t || row.o[1] == t); }

}  // namespace cutplan::fmha
