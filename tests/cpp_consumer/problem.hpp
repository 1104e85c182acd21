// A random matrix product with its exact answer, and the judgement of a result by the plan's own error bound.
#pragma once

#include <cutplan/cutplan.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace consumer {

/// bfloat16 as bits: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

inline double value(float x) { return static_cast<double>(x); }
inline double value(double x) { return x; }
inline double value(BFloat16 x) {
  const std::uint32_t wide = static_cast<std::uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &wide, sizeof f);
  return static_cast<double>(f);
}

/// Drops what does not fit: the operands are random, so it need not be the nearest.
template <class T>
T narrow(double x) {
  return static_cast<T>(x);
}
template <>
inline BFloat16 narrow<BFloat16>(double x) {
  const float f = static_cast<float>(x);
  std::uint32_t wide;
  std::memcpy(&wide, &f, sizeof wide);
  return {static_cast<std::uint16_t>(wide >> 16)};
}

template <class T>
constexpr cutplan::DType dtype();
template <>
constexpr cutplan::DType dtype<float>() {
  return cutplan::DType::f32;
}
template <>
constexpr cutplan::DType dtype<double>() {
  return cutplan::DType::f64;
}
template <>
constexpr cutplan::DType dtype<BFloat16>() {
  return cutplan::DType::bf16;
}

template <class T>
cutplan::TensorView matrix(T* data, std::int64_t rows, std::int64_t columns, bool row_major, cutplan::Device device) {
  cutplan::TensorView view;
  view.data = data;
  view.dtype = dtype<T>();
  view.device = device;
  view.rank = 2;
  view.shape[0] = rows;
  view.shape[1] = columns;
  view.strides[0] = row_major ? columns : 1;
  view.strides[1] = row_major ? 1 : rows;
  return view;
}

template <class T>
cutplan::TensorView vector(T* data, std::int64_t size, cutplan::Device device) {
  cutplan::TensorView view;
  view.data = data;
  view.dtype = dtype<T>();
  view.device = device;
  view.rank = 1;
  view.shape[0] = size;
  view.strides[0] = 1;
  return view;
}

/// D = relu(alpha A B + bias): A [m, k] row-major, B [k, n] column-major.
template <class T>
struct Problem {
  std::int64_t m, n, k;
  double alpha;
  std::vector<T> a, b, bias;

  Problem(std::int64_t m_, std::int64_t n_, std::int64_t k_, std::uint64_t seed) : m(m_), n(n_), k(k_) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_int_distribution<int> exponent(-4, 4);
    alpha = std::ldexp(1.0 + std::abs(normal(random)), exponent(random));
    const auto fill = [&](std::vector<T>& x, std::int64_t size) {
      x.resize(static_cast<std::size_t>(size));
      for (T& element : x) element = narrow<T>(std::ldexp(normal(random), exponent(random)));
    };
    fill(a, m * k);
    fill(b, k * n);
    fill(bias, n);
  }

  cutplan::GemmDescriptor descriptor() const {
    cutplan::GemmDescriptor g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = g.b = g.d = dtype<T>();
    g.layout = cutplan::GemmLayout::rcr;
    g.epilogue.bias = true;
    g.epilogue.activation = cutplan::Activation::relu;
    return g;
  }

  cutplan::GemmArguments arguments(T* a_, T* b_, T* bias_, T* d_, cutplan::Device device) const {
    cutplan::GemmArguments arguments;
    arguments.a = matrix(a_, m, k, true, device);
    arguments.b = matrix(b_, k, n, false, device);
    arguments.bias = vector(bias_, n, device);
    arguments.d = matrix(d_, m, n, true, device);
    arguments.alpha = alpha;
    return arguments;
  }

  /// Largest error as a part of the plan's bound; infinite where an element is not a number.
  double judge(const std::vector<T>& d, const cutplan::PrecisionGuarantee& guarantee) const {
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        long double sum = 0, size = 0;
        for (std::int64_t p = 0; p < k; ++p) {
          const long double product = static_cast<long double>(value(a[static_cast<std::size_t>(i * k + p)])) *
                                      value(b[static_cast<std::size_t>(j * k + p)]);
          sum += product;
          size += std::abs(product);
        }
        const long double shift = value(bias[static_cast<std::size_t>(j)]);
        const double exact = static_cast<double>(std::max(alpha * sum + shift, 0.0L));
        const double magnitude = static_cast<double>(alpha * size + std::abs(shift));
        const double error = std::abs(value(d[static_cast<std::size_t>(i * n + j)]) - exact);
        const double ratio = error / guarantee.error_bound(magnitude, exact);
        if (std::isnan(ratio)) {
          if (error != 0) return HUGE_VAL;
        } else {
          worst = std::max(worst, ratio);
        }
      }
    }
    return worst;
  }
};

/// Prints one line about a result, and says whether the plan kept its promise.
template <class T>
bool report(const Problem<T>& problem, const cutplan::GemmPlan& plan, const std::vector<T>& d) {
  const double worst = problem.judge(d, plan.precision_guarantee());
  std::printf("%s  %lld x %lld x %lld %s: error %.3f of the bound%s\n", plan.sku().name.c_str(),
              static_cast<long long>(problem.m), static_cast<long long>(problem.n), static_cast<long long>(problem.k),
              name(dtype<T>()), worst, worst <= 1 ? "" : "  FAILED");
  return worst <= 1;
}

/// Number of results outside their bound on the GPUs of this machine.
int check_gpu(std::uint64_t seed);

}  // namespace consumer
