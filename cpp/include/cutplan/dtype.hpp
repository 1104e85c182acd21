// Element types: every type that DLPack can name and that a matmul or attention kernel can meet.
#pragma once

#include <cstdint>

namespace cutplan {

enum class DType : std::uint8_t {
  none,  // absent operand, or "use the default"
  f64,
  f32,
  f16,
  bf16,
  fp8_e4m3,  // OCP e4m3fn: finite, largest value 448
  fp8_e5m2,  // OCP e5m2: largest value 57344
  i64,
  i32,
  i8,
  u8,
  i4,  // packed two to a byte, low nibble first
  u4,
  boolean,
};

/// Width of one element in bits; 0 for DType::none.
constexpr int bits(DType t) noexcept {
  switch (t) {
    case DType::f64:
    case DType::i64: return 64;
    case DType::f32:
    case DType::i32: return 32;
    case DType::f16:
    case DType::bf16: return 16;
    case DType::fp8_e4m3:
    case DType::fp8_e5m2:
    case DType::i8:
    case DType::u8:
    case DType::boolean: return 8;
    case DType::i4:
    case DType::u4: return 4;
    case DType::none: break;
  }
  return 0;
}

constexpr bool is_float8(DType t) noexcept { return t == DType::fp8_e4m3 || t == DType::fp8_e5m2; }

/// Name as NumPy, torch and ml_dtypes spell it ("bfloat16", "float8_e4m3fn", ...).
constexpr const char* name(DType t) noexcept {
  switch (t) {
    case DType::f64: return "float64";
    case DType::f32: return "float32";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::fp8_e4m3: return "float8_e4m3fn";
    case DType::fp8_e5m2: return "float8_e5m2";
    case DType::i64: return "int64";
    case DType::i32: return "int32";
    case DType::i8: return "int8";
    case DType::u8: return "uint8";
    case DType::i4: return "int4";
    case DType::u4: return "uint4";
    case DType::boolean: return "bool";
    case DType::none: break;
  }
  return "none";
}

}  // namespace cutplan
