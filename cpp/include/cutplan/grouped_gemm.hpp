// Many matrix products of different sizes in one launch, their sizes in device memory: mixtures of experts and their
// gradients.
//
//   over m: rows offsets[g] .. offsets[g + 1] of A times B[g] are those rows of D: an expert's tokens times its weights;
//   over k: columns .. of A times rows .. of B are D[g]: an expert's weight gradient. An empty group gives D[g] = 0.
//
// The host never reads `offsets`: a plan captured in a CUDA graph takes whatever sizes are there when it is replayed. Rows
// (over m) outside [offsets[0], offsets[groups]) are not written.
#pragma once

#include "cutplan/gemm.hpp"

namespace cutplan {

/// The extent that the groups share out.
enum class GroupedOver : std::uint8_t { m, k };

constexpr const char* name(GroupedOver g) noexcept { return g == GroupedOver::m ? "m" : "k"; }

struct GroupedGemmDescriptor {
  std::int64_t groups = 0;
  std::int64_t m = 0, n = 0, k = 0;  // over m, m counts the rows of A and D; over k, k counts the columns of A and rows of B
  GroupedOver over = GroupedOver::m;
  DType a = DType::none, b = DType::none, d = DType::none;
  DType bias = DType::none;  // none: D's type
  GemmLayout layout = GemmLayout::rcr;
  /// Bias over n, activation and an interleaved or separate gate over m; over k none. column_scale over m; row_scale over m.
  Epilogue epilogue;
  /// As in GemmDescriptor.
  int alignment = 0;
  std::optional<Granularity> a_scale, b_scale;
  WeightPacking weights;  // over m
};

/// Shapes over m: a [m, k], b and b2 [groups, k, n] (an interleaved b [groups, k, 2 n]), d [m, n], bias and bias2 [groups,
/// n] (an interleaved bias [groups, 2 n]), row_scale [m], column_scale [groups, n]. Over k: a [m, k], b [k, n], d [groups,
/// m, n]. offsets: int32 [groups + 1] on the operands' device, not decreasing, from 0 or more to at most the extent. What
/// breaks that is refused on the host; kernels clamp it to the operands.
///
/// Scales over m: of A [1], [m] or [m, ceil(k / 128)]; of B [groups], [groups, n], [groups, ceil(k / 128), n] or [groups, ceil(k /
/// 128), ceil(n / 128)], b2_scale as b_scale. Packed weights: b and b2 uint8 [groups, packed_weights_size()]. Over k: of A [1] or [m], of B [1] or [n].
struct GroupedGemmArguments {
  TensorView a, b, d, offsets, bias;
  TensorView b2, bias2, row_scale, column_scale;
  TensorView a_scale, b_scale, b2_scale, out_scale, amax;
  double alpha = 1.0;
};

using GroupedGemmPlan = Plan<GroupedGemmDescriptor, GroupedGemmArguments>;
extern template class CUTPLAN_API Plan<GroupedGemmDescriptor, GroupedGemmArguments>;

/// The descriptor that these arguments fit. Over m when b has three dimensions, over k when d has.
CUTPLAN_API GroupedGemmDescriptor describe(const GroupedGemmArguments& arguments, const Epilogue& epilogue = {},
                                           const WeightPacking& weights = {});

}  // namespace cutplan
