// What the handlers have to be told of a plan beside its table of operands: the name of its target, and which words of a call's
// text are scalars of its arguments and options of its descriptor.
#pragma once

#include <tuple>

#include "attention_ops/operands.hpp"
#include "fmha/operands.hpp"
#include "gemm/operands.hpp"

namespace cutplan::jax {

/// A word and the member that it sets.
template <typename At>
struct Setting {
  const char* name;
  At at;  // from the object to the member
};
template <typename At>
Setting(const char*, At) -> Setting<At>;

inline constexpr auto preference_settings =
    std::make_tuple(Setting{"max_workspace_bytes", [](PlanPreference& p) -> auto& { return p.max_workspace_bytes; }},
                    Setting{"deterministic", [](PlanPreference& p) -> auto& { return p.deterministic; }},
                    Setting{"batch_invariant", [](PlanPreference& p) -> auto& { return p.batch_invariant; }},
                    Setting{"arch", [](PlanPreference& p) -> auto& { return p.arch; }},
                    Setting{"kernel", [](PlanPreference& p) -> auto& { return p.kernel; }},
                    Setting{"sm_count", [](PlanPreference& p) -> auto& { return p.sm_count; }},
                    Setting{"math", [](PlanPreference& p) -> auto& { return p.math; }},
                    Setting{"tune", [](PlanPreference& p) -> auto& { return p.tune; }});

template <typename P>
struct Face;

template <>
struct Face<GemmPlan> {
  using Options = Epilogue;
  static constexpr char name[] = "cutplan_gemm";
  static constexpr const auto& operands = gemm::operands;
  static constexpr auto scalars = std::make_tuple(Setting{"alpha", [](GemmArguments& x) -> auto& { return x.alpha; }},
                                                  Setting{"beta", [](GemmArguments& x) -> auto& { return x.beta; }});
  static constexpr auto options = std::make_tuple(Setting{"activation", [](Epilogue& e) -> auto& { return e.activation; }},
                                                  Setting{"aux_mode", [](Epilogue& e) -> auto& { return e.aux; }},
                                                  Setting{"gate", [](Epilogue& e) -> auto& { return e.gate; }});
};

template <>
struct Face<GroupedGemmPlan> {
  using Options = Epilogue;
  static constexpr char name[] = "cutplan_grouped_gemm";
  static constexpr const auto& operands = gemm::grouped_operands;
  static constexpr auto scalars =
      std::make_tuple(Setting{"alpha", [](GroupedGemmArguments& x) -> auto& { return x.alpha; }});
  static constexpr auto options = std::make_tuple(Setting{"activation", [](Epilogue& e) -> auto& { return e.activation; }},
                                                  Setting{"gate", [](Epilogue& e) -> auto& { return e.gate; }});
};

struct AttentionFace {
  using Options = FmhaDescriptor;
  static constexpr auto scalars =
      std::make_tuple(Setting{"scale", [](FmhaArguments& x) -> auto& { return x.scale; }},
                      Setting{"dropout_p", [](FmhaArguments& x) -> auto& { return x.dropout_p; }});
  static constexpr auto options = std::make_tuple(Setting{"layout", [](FmhaDescriptor& d) -> auto& { return d.layout; }},
                                                  Setting{"causal", [](FmhaDescriptor& d) -> auto& { return d.causal; }},
                                                  Setting{"align", [](FmhaDescriptor& d) -> auto& { return d.align; }},
                                                  Setting{"window", [](FmhaDescriptor& d) -> auto& { return d.window; }},
                                                  Setting{"softcap", [](FmhaDescriptor& d) -> auto& { return d.softcap; }});
};

template <>
struct Face<FmhaPlan> : AttentionFace {
  static constexpr char name[] = "cutplan_fmha";
  static constexpr const auto& operands = fmha::operands;
};

template <>
struct Face<FmhaBackwardPlan> : AttentionFace {
  static constexpr char name[] = "cutplan_fmha_backward";
  static constexpr const auto& operands = fmha::backward_operands;
};

struct RopeFace {
  using Options = RopeDescriptor;
  static constexpr auto scalars = std::make_tuple();
  static constexpr auto options = std::make_tuple(
      Setting{"layout", [](RopeDescriptor& d) -> auto& { return d.layout; }},
      Setting{"rotary_dim", [](RopeDescriptor& d) -> auto& { return d.rotary_dim; }},
      Setting{"interleaved", [](RopeDescriptor& d) -> auto& { return d.interleaved; }},
      Setting{"base", [](RopeDescriptor& d) -> auto& { return d.base; }},
      Setting{"kind", [](RopeDescriptor& d) -> auto& { return d.scaling.kind; }},
      Setting{"factor", [](RopeDescriptor& d) -> auto& { return d.scaling.factor; }},
      Setting{"original_max_position", [](RopeDescriptor& d) -> auto& { return d.scaling.original_max_position; }},
      Setting{"beta_fast", [](RopeDescriptor& d) -> auto& { return d.scaling.beta_fast; }},
      Setting{"beta_slow", [](RopeDescriptor& d) -> auto& { return d.scaling.beta_slow; }},
      Setting{"attention_factor", [](RopeDescriptor& d) -> auto& { return d.scaling.attention_factor; }},
      Setting{"low_freq_factor", [](RopeDescriptor& d) -> auto& { return d.scaling.low_freq_factor; }},
      Setting{"high_freq_factor", [](RopeDescriptor& d) -> auto& { return d.scaling.high_freq_factor; }});
};

template <>
struct Face<RopePlan> : RopeFace {
  static constexpr char name[] = "cutplan_rope";
  static constexpr const auto& operands = attention_ops::rope_operands;
};

template <>
struct Face<RopeBackwardPlan> : RopeFace {
  static constexpr char name[] = "cutplan_rope_backward";
  static constexpr const auto& operands = attention_ops::rope_backward_operands;
};

struct AlibiFace {
  using Options = AlibiDescriptor;
  static constexpr auto scalars = std::make_tuple();
  static constexpr auto options =
      std::make_tuple(Setting{"distance", [](AlibiDescriptor& d) -> auto& { return d.distance; }},
                      Setting{"align", [](AlibiDescriptor& d) -> auto& { return d.align; }});
};

template <>
struct Face<AlibiPlan> : AlibiFace {
  static constexpr char name[] = "cutplan_alibi";
  static constexpr const auto& operands = attention_ops::alibi_operands;
};

template <>
struct Face<AlibiBackwardPlan> : AlibiFace {
  static constexpr char name[] = "cutplan_alibi_backward";
  static constexpr const auto& operands = attention_ops::alibi_backward_operands;
};

template <>
struct Face<MergeStatesPlan> {
  using Options = MergeStatesDescriptor;
  static constexpr char name[] = "cutplan_merge_states";
  static constexpr const auto& operands = attention_ops::merge_operands;
  static constexpr auto scalars = std::make_tuple();
  static constexpr auto options =
      std::make_tuple(Setting{"layout", [](MergeStatesDescriptor& d) -> auto& { return d.layout; }});
};

template <>
struct Face<KvCacheAppendPlan> {
  using Options = KvCacheAppendDescriptor;
  static constexpr char name[] = "cutplan_kv_cache_append";
  static constexpr const auto& operands = attention_ops::append_operands;
  static constexpr auto scalars = std::make_tuple();
  static constexpr auto options =
      std::make_tuple(Setting{"layout", [](KvCacheAppendDescriptor& d) -> auto& { return d.layout; }},
                      Setting{"page_layout", [](KvCacheAppendDescriptor& d) -> auto& { return d.page_layout; }},
                      Setting{"interleaved", [](KvCacheAppendDescriptor& d) -> auto& { return d.interleaved; }});
};

}  // namespace cutplan::jax
