// A linear layer on the host: y = gelu(x w^T + b), with a plan that is chosen once and run as often as one likes.
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "cutplan/cutplan.hpp"

int main() try {
  using cutplan::DType;
  using cutplan::TensorView;
  constexpr std::int64_t rows = 4, in = 8, out = 3;
  const std::vector<float> x(rows * in, 0.5f), w(out * in, 0.25f), b = {0, 1, -2};
  std::vector<float> y(rows * out);

  cutplan::GemmArguments layer;
  layer.a = TensorView::row_major(x.data(), DType::f32, {rows, in});
  layer.b = TensorView::column_major(w.data(), DType::f32, {in, out});  // w is stored [out, in]: w^T by columns
  layer.bias = TensorView::row_major(b.data(), DType::f32, {out});
  layer.d = TensorView::row_major(y.data(), DType::f32, {rows, out});
  cutplan::Epilogue epilogue;
  epilogue.activation = cutplan::Activation::gelu_erf;

  const auto plan = cutplan::GemmPlan::select(describe(layer, epilogue), cutplan::Device{});
  std::vector<char> scratch(plan.workspace_size() + cutplan::workspace_alignment);
  void* aligned = scratch.data();
  std::size_t space = scratch.size();
  std::align(cutplan::workspace_alignment, plan.workspace_size(), aligned, space);
  plan.run(layer, nullptr, {aligned, space});

  std::printf("cutplan %s, kernel %s\n", cutplan::version(), plan.sku().name.c_str());
  for (std::int64_t j = 0; j < out; ++j) std::printf("y[0, %d] = %.6f\n", static_cast<int>(j), y[j]);
  // Sums of 8 products of 0.5 and 0.25 are 1, and the first bias is 0: gelu(1) = 0.841345.
  const double exact = 0.8413447460685429, bound = plan.precision_guarantee().error_bound(1.0, exact);
  std::printf("|y[0, 0] - gelu(1)| = %.1e, at most %.1e\n", std::abs(y[0] - exact), bound);
  return std::abs(y[0] - exact) <= bound ? 0 : 1;
} catch (const cutplan::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
