// The support table of the GEMM family: what each architecture's kernels serve. select() refuses by it, the documentation
// prints it, the tests walk it.
#pragma once

#include "core/kernel.hpp"
#include "gemm/kernel.hpp"
#include "gemm/operands.hpp"

namespace cutplan::gemm {

struct Support {
  Arch arch;
  DType operand, operand_b;  // of A and B
  DType d[5];                // output types; C, bias, residual and aux: is_epilogue_input()
  int minimum_compute_capability, maximum_compute_capability;  // 0, 0: the host
  const char* note;
};

inline constexpr Support support_table[] = {
    {Arch::host, DType::f16, DType::f16, {DType::f16, DType::f32, DType::bf16}, 0, 0, "float32 accumulation"},
    {Arch::host, DType::bf16, DType::bf16, {DType::bf16, DType::f32, DType::f16}, 0, 0, "float32 accumulation"},
    {Arch::host, DType::f32, DType::f32, {DType::f32, DType::f16, DType::bf16}, 0, 0, "IEEE float32"},
    {Arch::host, DType::f64, DType::f64, {DType::f64}, 0, 0, ""},
    {Arch::host,
     DType::i8,
     DType::i8,
     {DType::i32, DType::f32, DType::bf16, DType::f16, DType::i8},
     0,
     0,
     "exact int32 sums"},
    {Arch::host,
     DType::fp8_e4m3,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     0,
     0,
     "float64 accumulation"},
    {Arch::host,
     DType::fp8_e4m3,
     DType::fp8_e5m2,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     0,
     0,
     "float64 accumulation"},
    {Arch::host,
     DType::fp8_e5m2,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     0,
     0,
     "float64 accumulation"},
    {Arch::host, DType::f16, DType::u8, {DType::f16, DType::f32, DType::bf16}, 0, 0, "packed weights"},
    {Arch::host, DType::bf16, DType::u8, {DType::bf16, DType::f32, DType::f16}, 0, 0, "packed weights"},
    {Arch::sm80,
     DType::f16,
     DType::u8,
     {DType::f16, DType::f32, DType::bf16},
     80,
     any_newer,
     "packed weights; up to 16 rows a tile"},
    {Arch::sm80,
     DType::bf16,
     DType::u8,
     {DType::bf16, DType::f32, DType::f16},
     80,
     any_newer,
     "packed weights; up to 16 rows a tile"},
    {Arch::sm90,
     DType::f16,
     DType::u8,
     {DType::f16, DType::f32, DType::bf16},
     90,
     90,
     "packed weights; TMA and wgmma; 16-byte aligned A"},
    {Arch::sm90,
     DType::bf16,
     DType::u8,
     {DType::bf16, DType::f32, DType::f16},
     90,
     90,
     "packed weights; TMA and wgmma; 16-byte aligned A"},
    {Arch::sm80, DType::f16, DType::f16, {DType::f16, DType::f32, DType::bf16}, 80, any_newer, "mma.sync; any alignment"},
    {Arch::sm80, DType::bf16, DType::bf16, {DType::bf16, DType::f32, DType::f16}, 80, any_newer, "mma.sync; any alignment"},
    {Arch::sm80,
     DType::f32,
     DType::f32,
     {DType::f32, DType::f16, DType::bf16},
     80,
     any_newer,
     "three TF32 products; one TF32 product or IEEE float32 by choice; any alignment"},
    {Arch::sm80, DType::f64, DType::f64, {DType::f64}, 80, any_newer, "mma.sync; any alignment"},
    {Arch::sm89,
     DType::f16,
     DType::f16,
     {DType::f16, DType::f32, DType::bf16},
     89,
     90,
     "mma.sync; tiles within 99 KiB of shared memory"},
    {Arch::sm89,
     DType::bf16,
     DType::bf16,
     {DType::bf16, DType::f32, DType::f16},
     89,
     90,
     "mma.sync; tiles within 99 KiB of shared memory"},
    {Arch::sm90,
     DType::f16,
     DType::f16,
     {DType::f16, DType::f32, DType::bf16},
     90,
     90,
     "TMA and wgmma; 16-byte aligned A and B"},
    {Arch::sm90,
     DType::bf16,
     DType::bf16,
     {DType::bf16, DType::f32, DType::f16},
     90,
     90,
     "TMA and wgmma; 16-byte aligned A and B"},
    {Arch::sm90,
     DType::f32,
     DType::f32,
     {DType::f32, DType::f16, DType::bf16},
     90,
     90,
     "TMA and wgmma with math='tf32'; 16-byte aligned A and B"},
    {Arch::sm90, DType::f64, DType::f64, {DType::f64}, 90, 90, "mma.sync m16n8k8; any alignment"},
    {Arch::sm80,
     DType::i8,
     DType::i8,
     {DType::i32, DType::f32, DType::bf16, DType::f16, DType::i8},
     80,
     any_newer,
     "mma.sync, exact int32 sums; any alignment"},
    {Arch::sm89,
     DType::fp8_e4m3,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     89,
     90,
     "mma.sync with math='fast'; any alignment"},
    {Arch::sm89,
     DType::fp8_e4m3,
     DType::fp8_e5m2,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     89,
     90,
     "mma.sync with math='fast'; any alignment"},
    {Arch::sm89,
     DType::fp8_e5m2,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     89,
     90,
     "mma.sync with math='fast'; any alignment"},
    {Arch::sm90,
     DType::i8,
     DType::i8,
     {DType::i32, DType::f32, DType::bf16, DType::f16, DType::i8},
     90,
     90,
     "TMA and wgmma, exact int32 sums; 16-byte aligned A and B"},
    {Arch::sm90,
     DType::fp8_e4m3,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     90,
     90,
     "TMA and wgmma, sums leave the tensor core every 128 products but with math='fast'; 16-byte aligned A and B"},
    {Arch::sm90,
     DType::fp8_e4m3,
     DType::fp8_e5m2,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     90,
     90,
     "TMA and wgmma, sums leave the tensor core every 128 products but with math='fast'; 16-byte aligned A and B"},
    {Arch::sm90,
     DType::fp8_e5m2,
     DType::fp8_e4m3,
     {DType::bf16, DType::f16, DType::f32, DType::fp8_e4m3, DType::fp8_e5m2},
     90,
     90,
     "TMA and wgmma, sums leave the tensor core every 128 products but with math='fast'; 16-byte aligned A and B"},
};

/// Epilogues (epilogue.cuh, sm80/wide.cuh, host.cpp) and TMA's types (core/sm90/tensor_map.hpp) tell apart what the table has
/// today, the last type by an else: a row with another one has to begin there.
constexpr bool epilogues_know(const Support& row) {
  for (const DType t : row.d) {
    const bool is_float = t == DType::f32 || t == DType::f16 || t == DType::bf16,
               known = row.operand == DType::f64 ? t == DType::f64
                       : is_quantized(row.operand)
                           ? is_float || (row.operand == DType::i8 ? t == DType::i32 || t == DType::i8
                                                                   : is_quantized(t) && t != DType::i8)
                           : is_float;
    if (t != DType::none && !known) return false;
  }
  return true;
}

constexpr bool epilogues_know_all() {
  for (const Support& row : support_table) {
    if (!epilogues_know(row)) return false;
  }
  return true;
}
static_assert(epilogues_know_all());

constexpr bool is_output(const Support& row, DType t) {
  for (const DType d : row.d) {
    if (t != DType::none && t == d) return true;
  }
  return false;
}

/// C, bias, residual and aux may come in D's type, in the operands' or in float32 (float64 operands: float64 only; quantised ones:
/// any type of 16 bits, or float32).
constexpr bool is_epilogue_input(DType operand, DType d, DType t) {
  if (is_quantized(operand)) return t == DType::f16 || t == DType::bf16 || t == DType::f32;
  return t == d || t == operand || (t == DType::f32 && operand != DType::f64);
}

}  // namespace cutplan::gemm
