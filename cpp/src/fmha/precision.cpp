// How exact a kernel's results are.
#include <algorithm>
#include <cmath>
#include <limits>

#include "fmha/family.hpp"
#include "fmha/host.hpp"

namespace cutplan::fmha {
namespace {

using std::int64_t;

/// What the steps of a kernel lose, in unit roundoffs (`unit`) where a count is given.
struct Arithmetic {
  double unit;           // of the accumulator
  double operand;        // relative error of a product from rounding its factors
  double weight;         // of a weight, or of a score's gradient, where a 16-bit product reads it
  double weight_rounds;  // of a weight besides its score's: the exponential, dropout
  double score_rounds;   // of a score after its product, in the exponent
  double tanh;           // absolute error of tanh, where score_rounds do not cover it
  double product;        // of each term of a sum of products
  bool host;

  explicit Arithmetic(const Kernel& k) {
    const bool wide = k.operand == DType::f64;
    unit = std::ldexp(1.0, wide ? -53 : -24);
    host = k.arch == Arch::host;
    operand = weight = tanh = 0;
    product = 1;
    weight_rounds = host_weight_roundings;
    score_rounds = static_cast<double>(host_score_roundings(0));
    if (host) return;
    // ex2.approx is off by up to 2^-22, 4 units; its argument and dropout as on the host.
    weight_rounds += 4;
    score_rounds += 4;
    if (k.operand == DType::f16 || k.operand == DType::bf16) {
      // A tensor core adds 8 products with up to 10 errors of 2 units (gemm/precision.cpp). tanh is 1 - 2 / (1 + exp(2 x)).
      product = 20.0 / 8;
      weight = std::ldexp(1.0, k.operand == DType::f16 ? -11 : -8);
      tanh = 12 * unit;
    } else if (!wide && k.math != Math::strict) {
      // The same with 4 products and 6 errors. TF32 rounds each factor by 2^-11. Of a pair of TF32 numbers 2^-22 is missing,
      // and three products leave out that of the two small halves, another 2^-22.
      product = k.math == Math::tf32 ? 12.0 / 4 : 3 * 12.0 / 4;
      operand = k.math == Math::tf32 ? std::ldexp(1.0, -10) + std::ldexp(1.0, -22) : std::ldexp(1.0, -20);
    }
  }

  /// Roundings of a sum of `length` products, over `group` heads.
  double sum(int64_t length, int64_t group = 1) const {
    return host ? static_cast<double>(host_sum_roundings(length, group))
                : product * static_cast<double>(length) * static_cast<double>(group);
  }
};

/// Keys that a query sees at most, and queries that see a key.
int64_t most_visible(const FmhaDescriptor& g, int64_t length) {
  const int64_t right = g.causal != Causal::none ? 0 : g.window.right;
  if (g.window.left < 0 || right < 0) return length;
  return std::min(length, std::min(g.window.left, unlimited) + std::min(right, unlimited) + 1);
}

/// Errors of one pass: (1 + sums) (1 + steps) exp(scores * score_magnitude) - 1, relative to a magnitude.
struct Errors {
  double sums, steps, scores;
};

/// Of a score, per unit of score_magnitude.
double score_error(const Arithmetic& a, const FmhaDescriptor& g) {
  return error_of_roundings(a.sum(g.dim) + a.score_rounds, a.unit) + a.operand;
}

/// Of the softmax's denominator, besides that of the scores. Rescaling it multiplies once for each tile that raises the
/// maximum, by a factor that is itself a weight; so does a split's share of the keys.
double denominator_error(const Arithmetic& a, const Kernel& k, int splits, int64_t keys) {
  const double tiles = a.host ? 0 : std::ceil(static_cast<double>(keys) / k.tile_n) + 1;
  const double terms = a.host ? static_cast<double>(host_sum_roundings(keys)) : static_cast<double>(keys);
  return error_of_roundings(terms + (tiles + (splits > 1 ? splits + 2 : 1)) * (a.weight_rounds + 1), a.unit);
}

/// O = sum w v / sum w: a weight's error counts twice, above and below; the tiles' factors are the same in both.
Errors forward_errors(const Arithmetic& a, const Kernel& k, int splits, const FmhaDescriptor& g) {
  const int64_t keys = most_visible(g, g.seq_k);
  Errors e;
  e.sums = error_of_roundings(a.sum(keys) + host_output_roundings + 4 + (splits > 1 ? 2 * splits : 0), a.unit);
  // log(sum) is at most log(1 + keys), and its error below 2 units of itself and, on a device, 2^-22.
  const double logarithm = a.unit * (a.host ? 4 : 8) * (1 + std::log1p(static_cast<double>(keys)));
  e.steps = both_errors(
      both_errors(denominator_error(a, k, splits, keys), error_of_roundings(2 * a.weight_rounds, a.unit) + logarithm),
      a.weight + a.operand);
  e.steps = both_errors(e.steps, std::expm1(2 * g.softcap * a.tanh));
  e.scores = 2 * score_error(a, g);
  return e;
}

/// exp(s - LSE): no denominator of its own, but LSE's errors; and o's errors come in through D = sum_c grad_c o_c.
Errors backward_errors(const Arithmetic& a, const Kernel& k, const FmhaBackwardDescriptor& b) {
  const FmhaDescriptor& g = b.forward;
  const int64_t keys = most_visible(g, g.seq_k), queries = most_visible(g, g.seq_q),
                group = g.heads_k > 0 ? g.heads / g.heads_k : 1;
  const double lse_unit = std::ldexp(1.0, -24), log_keys = std::log1p(static_cast<double>(keys));
  const Errors forward = forward_errors(a, k, 1, g);
  PrecisionGuarantee o;
  set_output_type(o, g.o);
  Errors e;
  // dK and dV sum over the queries of a group, dQ over keys: on a device one addition a tile of these.
  const double tiles = a.host ? 0 : std::ceil(static_cast<double>(keys) / k.tile_n);
  e.sums = error_of_roundings(std::max(a.sum(queries, group), a.sum(keys) + tiles) + host_scale_roundings, a.unit);
  const double weight = both_errors(error_of_roundings(a.weight_rounds, a.unit),
                                    denominator_error(a, k, 1, keys) + (2 * lse_unit + 4 * a.unit) * (1 + log_keys));
  const double gradient = error_of_roundings(2 * a.sum(g.dim_v) + host_gradient_roundings, a.unit) + a.operand +
                          both_errors(both_errors(forward.sums, forward.steps), o.rounding) +
                          (g.softcap > 0 ? 2 * a.tanh : 0);
  e.steps =
      both_errors(both_errors(both_errors(weight, gradient), a.weight + a.operand), std::expm1(2 * g.softcap * a.tanh));
  const double score = score_error(a, g);
  e.scores = 2 * score + 2 * lse_unit + forward.scores + (g.softcap > 0 ? 0.77 / g.softcap * score : 0);
  return e;
}

/// sum + steps' + expm1(scores' x) of the guarantee is no less than (1 + sums) (1 + steps) exp(scores x) - 1.
void set_errors(PrecisionGuarantee& p, const Errors& e) {
  const double constant = both_errors(e.sums, e.steps);
  p.accumulation = e.sums;
  p.evaluation = std::isfinite(constant) ? constant - e.sums : 0;
  p.scores = std::isfinite(constant) ? e.scores * (1 + constant) : 0;
}

PrecisionGuarantee guarantee(const Kernel& k, int splits, const Errors& e, std::initializer_list<DType> written,
                             int64_t summed) {
  PrecisionGuarantee p;
  p.math = k.operand;
  p.accumulator = k.operand == DType::f64 ? DType::f64 : DType::f32;
  p.deterministic = p.bit_stable_on_same_hardware = deterministic(k, splits);
  set_errors(p, e);
  p.rounding = p.smallest = 0;
  p.largest = std::numeric_limits<double>::infinity();
  for (DType t : written) add_output_type(p, t);
  // Products below the accumulator's normal range may be flushed, one by one.
  p.smallest += static_cast<double>(summed) * std::ldexp(1.0, p.accumulator == DType::f64 ? -1022 : -126);
  return p;
}

}  // namespace

PrecisionGuarantee Forward::precision(const Kernel& k, int split, const FmhaDescriptor& g) {
  return guarantee(k, split, forward_errors(Arithmetic(k), k, split, g), {g.o}, g.seq_k);
}

PrecisionGuarantee Backward::precision(const Kernel& k, int split, const FmhaBackwardDescriptor& b) {
  const FmhaDescriptor& g = b.forward;
  return guarantee(k, split, backward_errors(Arithmetic(k), k, b), {b.grad, b.dbias ? g.bias : b.grad},
                   std::max(g.seq_k, g.seq_q * (g.heads_k > 0 ? g.heads / g.heads_k : 1)));
}

}  // namespace cutplan::fmha
