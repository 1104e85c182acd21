#include <cmath>
#include <limits>

#include "cutplan/plan.hpp"

namespace cutplan {

double PrecisionGuarantee::error_bound(double magnitude, double exact, double score_magnitude) const noexcept {
  const double of_scores = scores > 0 ? std::expm1(scores * score_magnitude) : 0;
  const double before_rounding = (lipschitz * accumulation + evaluation + of_scores) * magnitude;
  const double largest_value = std::abs(exact) + before_rounding;
  if (!(largest_value <= largest)) return std::numeric_limits<double>::infinity();
  return before_rounding + rounding * largest_value + smallest;
}

}  // namespace cutplan
