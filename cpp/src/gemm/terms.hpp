// The terms of the epilogue, each once, and their order, for the host and the device: gemm.hpp has the formula.
//
// A walk has some values of D and knows their rows and columns. Terms ask it for
//   Value, Math                 float or double, and its Activations
//   kInRegisters                whether it is a warp's accumulator where it lies, for which only the common terms are meant
//   kQuantized                  whether operands may be quantised: what is said of these alone is left out of other kernels
//   x, each(f)                  the values; f(value) for each, in their order
//   with(matrix, f)             f(value, the element at its row and column), if the matrix is there
//   with_columns(vector, f)     in registers, the same of a vector along columns
//   with_row_and_column(v, w, f)  f(value, that of v for its row, that of w for its column): 1 and 0 of what is not there
//   write(matrix)               stores the values
// What becomes of results is a store's business (epilogue.cuh). A new term is a function on a walk, its line in apply() and
// its field of Terms.
#pragma once

#include <cmath>
#include <type_traits>

#include "gemm/kernel.hpp"

/// Where nvcc reads these, they are for the device.
#if defined(__CUDACC__)
#define CUTPLAN_INLINE __device__ __forceinline__
#else
#define CUTPLAN_INLINE inline
#endif

namespace cutplan::gemm {

template <typename T>
CUTPLAN_INLINE T multiply_add(T x, T y, T z) {
#if defined(__CUDACC__)
  return fma(x, y, z);
#else
  return x * y + z;  // std::fma is a call where the machine is not known to have the instruction
#endif
}

// ---- activations ----

/// A sigmoid and what it leaves of 1.
template <typename T>
struct Sigmoid {
  T value, rest;
};

/// Functions of the C library, in forms that do not cancel. Beyond kFlat an activation's derivative is 0 or 1 to the last bit.
template <typename T>
struct ExactMath {
  static constexpr T kFlat = 800;
  CUTPLAN_INLINE static T exp(T x) { return std::exp(x); }
  CUTPLAN_INLINE static T one_plus_erf(T x) { return std::erfc(-x); }
  CUTPLAN_INLINE static T divide(T x, T y) { return x / y; }
  CUTPLAN_INLINE static Sigmoid<T> sigmoid(T x) {
    const T small = std::exp(-std::abs(x)), large = T(1) / (T(1) + small);
    return x < T(0) ? Sigmoid<T>{small * large, large} : Sigmoid<T>{large, small * large};
  }
};

/// By `Functions`, such as ExactMath.
template <typename T, typename Functions>
struct Activations {
  CUTPLAN_INLINE static T activate(Activation activation, T x) {
    switch (activation) {
      case Activation::relu: return x < T(0) ? T(0) : x;  // keeps NaN
      case Activation::gelu_erf: return T(0.5) * x * Functions::one_plus_erf(x * T(0.70710678118654752440));
      case Activation::gelu_tanh: {
        // x/2 (1 + tanh u) = x sigmoid(2u)
        const T u = T(0.79788456080286535588) * (x + T(0.044715) * x * x * x);
        return Functions::divide(x, T(1) + Functions::exp(T(-2) * u));
      }
      case Activation::silu: return Functions::divide(x, T(1) + Functions::exp(-x));
      case Activation::none: break;
    }
    return x;
  }

  /// Of numbers beyond kFlat it is that of kFlat, so that x^3 does not overflow; NaN stays.
  CUTPLAN_INLINE static T derivative(Activation activation, T x) {
    x = std::abs(x) > Functions::kFlat ? std::copysign(Functions::kFlat, x) : x;
    switch (activation) {
      case Activation::relu: return x > T(0) ? T(1) : x <= T(0) ? T(0) : x;
      case Activation::gelu_erf:
        return multiply_add(x * T(0.39894228040143267794), Functions::exp(T(-0.5) * x * x),
                            T(0.5) * Functions::one_plus_erf(x * T(0.70710678118654752440)));
      case Activation::gelu_tanh: {
        const T square = x * x, u = T(0.79788456080286535588) * multiply_add(T(0.044715) * square, x, x),
                du = T(0.79788456080286535588) * multiply_add(3 * T(0.044715), square, T(1));
        const Sigmoid<T> s = Functions::sigmoid(T(2) * u);
        return multiply_add(T(2) * x * du * s.value, s.rest, s.value);
      }
      case Activation::silu: {
        const Sigmoid<T> s = Functions::sigmoid(x);
        return s.value * multiply_add(x, s.rest, T(1));
      }
      case Activation::none: break;
    }
    return T(1);
  }
};

// ---- terms ----

/// What values have become: sums; sums times their scales; the product of a gate's two, of which only the residual is left.
enum class Stage { sums, scaled, gated };

/// x *= alpha row_scale column_scale
template <typename Walk>
CUTPLAN_INLINE void scale(const Terms& t, Walk& x) {
  using T = typename Walk::Value;
  const T alpha = static_cast<T>(t.alpha);
  if constexpr (Walk::kQuantized || (std::is_same_v<T, float> && !Walk::kInRegisters)) {  // float64 has no float32 factors
    x.with_row_and_column(t.row_scale, Matrix{}, [=](T& v, T factor, T) { v *= alpha * factor; });
    if constexpr (Walk::kInRegisters) {
      x.with_columns(t.column_scale, [](T& v, T factor) { v *= factor; });
    } else {
      x.with(t.column_scale, [](T& v, T factor) { v *= factor; });
    }
  } else if (alpha != T(1)) {
    x.each([=](T& v) { v *= alpha; });
  }
}

/// x += factor matrix: C, residual
template <typename Walk>
CUTPLAN_INLINE void add(const Matrix& matrix, typename Walk::Value factor, Walk& x) {
  using T = typename Walk::Value;
  x.with(matrix, [=](T& v, T element) { v = multiply_add(factor, element, v); });
}

/// x += bias
template <typename Walk>
CUTPLAN_INLINE void add_bias(const Terms& t, Walk& x) {
  using T = typename Walk::Value;
  const auto add = [](T& v, T bias) { v += bias; };
  if constexpr (Walk::kInRegisters) {
    x.with_columns(t.bias, add);
  } else {
    x.with(t.bias, add);
  }
}

/// x = activation(x)
template <typename Walk>
CUTPLAN_INLINE void activate(const Terms& t, Walk& x) {
  using T = typename Walk::Value;
  const auto each = [&](auto activation) { x.each([=](T& v) { v = Walk::Math::activate(activation, v); }); };
  if constexpr (Walk::kInRegisters) {
    // One loop an activation: a switch in the loop would be there once for each value.
    switch (t.activation) {
      case Activation::none: break;
      case Activation::relu: each(std::integral_constant<Activation, Activation::relu>{}); break;
      case Activation::gelu_erf: each(std::integral_constant<Activation, Activation::gelu_erf>{}); break;
      case Activation::gelu_tanh: each(std::integral_constant<Activation, Activation::gelu_tanh>{}); break;
      case Activation::silu: each(std::integral_constant<Activation, Activation::silu>{}); break;
    }
  } else {
    if (t.activation != Activation::none) each(t.activation);
  }
}

/// x *= activation'(aux)
template <typename Walk>
CUTPLAN_INLINE void differentiate(const Terms& t, Walk& x) {
  using T = typename Walk::Value;
  x.with(t.aux, [&](T& v, T at) { v *= Walk::Math::derivative(t.activation, at); });
}

/// x = activation(scale x + bias) (scale x2 + bias2), of the sums of a gate's two products
template <typename Walk>
CUTPLAN_INLINE void gate(const Terms& t, Walk& x, Walk& x2, Stage stage = Stage::sums) {
  using T = typename Walk::Value;
  const bool scaled = Walk::kQuantized && stage == Stage::scaled;
  const T alpha = scaled ? T(1) : static_cast<T>(t.alpha);
  if (Walk::kQuantized && !scaled) {
    const auto multiply = [](T& v, T, T factor) { v *= factor; };
    if (t.column_scale.data != nullptr) x.with_row_and_column(Matrix{}, t.column_scale, multiply);
    if (t.column_scale2.data != nullptr) x2.with_row_and_column(Matrix{}, t.column_scale2, multiply);
  }
  const auto scale_and_add = [=](T& v, T factor, T bias) { v = multiply_add(v, alpha * factor, bias); };
  const Matrix row_scale = scaled ? Matrix{} : t.row_scale;
  x.with_row_and_column(row_scale, t.bias, scale_and_add);
  x2.with_row_and_column(row_scale, t.bias2, scale_and_add);
  activate(t, x);
  int i = 0;
  x.each([&](T& v) { v *= x2.x[i++]; });
}

/// amax = max |x|, x /= out_scale, where D is written
template <typename Walk>
CUTPLAN_INLINE void leave(const Terms& t, Walk& x) {
  using T = typename Walk::Value;
  if (t.amax != nullptr) {
    T greatest = 0;
    x.each([&](T& v) { greatest = std::abs(v) > greatest ? std::abs(v) : greatest; });  // passes NaN by
    x.note(t.amax, greatest);
  }
  if (t.out_scale != nullptr) {
    const T inverse = T(1) / static_cast<T>(*t.out_scale);
    x.each([=](T& v) { v *= inverse; });
  }
}

// ---- their order ----

/// To results.
template <typename Walk>
CUTPLAN_INLINE void apply(const Terms& t, Walk& x, Stage stage = Stage::sums) {
  using T = typename Walk::Value;
  if (stage != Stage::gated) {
    if (!Walk::kQuantized || stage == Stage::sums) scale(t, x);
    add(t.c, static_cast<T>(t.beta), x);
    add_bias(t, x);
    if constexpr (!Walk::kInRegisters) {
      if (t.auxiliary == Auxiliary::store) x.write(t.aux);
      if (t.auxiliary == Auxiliary::gradient) differentiate(t, x);
    }
    if (t.auxiliary != Auxiliary::gradient) activate(t, x);
  }
  if constexpr (!Walk::kInRegisters) add(t.residual, T(1), x);
  if constexpr (Walk::kQuantized) leave(t, x);
}

}  // namespace cutplan::gemm
