#include "gemm/registry.hpp"

#include <algorithm>
#include <cmath>

#include "core/kernels.hpp"
#include "core/text.hpp"
#include "cutplan/version.hpp"
#include "gemm/check.hpp"
#include "gemm/host.hpp"
#include "gemm/kernels.hpp"
#include "gemm/support.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

// One line a unit. A new tile, type or architecture is a line here and a unit in its smNN folder.
const KernelTable* const tables[] = {
    &gemm_host_kernels,
#if CUTPLAN_SM80
    &sm80_f16_large,    &sm80_f16_medium, &sm80_f16_small, &sm80_bf16_large, &sm80_bf16_medium, &sm80_bf16_small,
#endif
#if CUTPLAN_SM89
    &sm89_f16,          &sm89_bf16,
#endif
#if CUTPLAN_SM90
    &sm90_f16_large,    &sm90_f16_medium, &sm90_f16_small, &sm90_bf16_large, &sm90_bf16_medium, &sm90_bf16_small,
#endif
};

template <typename Visit>
void for_each_kernel(const Visit& visit) {
  for (const KernelTable* table : tables) {
    for (const Kernel& kernel : *table) visit(kernel);
  }
}

/// Ways to cut K, where a kernel can.
constexpr int split_choices[] = {1, 2, 3, 4, 6, 8, 12, 16};
constexpr double largest_split = 16;

std::string kernel_name(const Kernel& k, int split_k) {
  std::string s = text("gemm.", name(k.arch), ".", short_name(k.operand), ".", name(k.layout), ".", k.tile_m, "x", k.tile_n,
                       "x", k.tile_k);
  if (k.stages > 0) s += text(".s", k.stages);
  if (k.cluster_m * k.cluster_n > 1) s += text(".c", k.cluster_m, "x", k.cluster_n);
  s += text(".", k.schedule, ".a", k.alignment);
  if (split_k > 1) s += text(".k", split_k);
  return s;
}

/// Seconds that a kernel takes, by count of waves, tensor core work and bytes. Only the order of the answers matters: clock,
/// latency and bandwidths are an H200's (measured), and roughly cancel on other cards.
double predict(const Kernel& k, const GemmDescriptor& g, int sms, const DeviceProperties& device, int split_k) {
  constexpr double clock = 1.7e9, device_bandwidth = 3.9e12, l2_bandwidth_per_sm = 80e9, load_latency = 1.4e-6,
                   launch = 2.5e-6;
  const int cc = device.compute_capability;
  const double flop_per_clock = cc >= 90 ? 4096 : cc == 80 ? 2048 : 1024;  // dense 16-bit, per SM
  const double element = bits(g.a) / 8.0;
  const auto up = [](int64_t a, int64_t b) { return static_cast<double>(ceil_div(a, b)); };
  const double k_slice = static_cast<double>(split_k > 1 ? split_extent(g.k, split_k, k.tile_k) : g.k);
  // A cluster is scheduled whole, with tiles outside D if need be.
  const double tiles = up(g.m, k.tile_m * k.cluster_m) * k.cluster_m * up(g.n, k.tile_n * k.cluster_n) * k.cluster_n *
                       static_cast<double>(g.batch) * split_k;
  const double resident = std::clamp(std::ceil(tiles / sms), 1.0, static_cast<double>(resident_blocks(k, device)));
  const double waves = std::ceil(tiles / (resident * sms));
  const double flop = 2.0 * k.tile_m * k.tile_n * std::ceil(k_slice / k.tile_k) * k.tile_k;
  const double rows = static_cast<double>(std::min<int64_t>(g.m, k.tile_m) + std::min<int64_t>(g.n, k.tile_n));
  const double m = static_cast<double>(g.m), n = static_cast<double>(g.n), batch = static_cast<double>(g.batch);
  const double operands = batch * (m + n) * static_cast<double>(g.k) * element;
  // A block has at most its ring of slots in flight, and shares what arrives at its SM; what no other tile has read yet
  // comes from memory, where each SM has its share.
  const double tile_bytes = rows * k_slice * element;
  const double in_flight = rows * k.tile_k * element * std::max(1, k.stages - 1);
  const double from_l2 = tile_bytes / std::min(in_flight / load_latency, l2_bandwidth_per_sm / resident);
  const double from_memory = std::min(tile_bytes, operands / tiles) * std::min(tiles, resident * sms) / device_bandwidth;
  const double from_tensor_cores = flop * resident / (flop_per_clock * clock * k.peak_fraction);
  const double tile_seconds = std::max({from_tensor_cores, from_l2, from_memory}) + k.exposed_seconds / resident;
  double seconds = std::max(waves * tile_seconds, (operands + batch * m * n * bits(g.d) / 8) / device_bandwidth) + launch;
  if (split_k > 1) seconds += launch + batch * m * n * sizeof(float) * 2 * split_k / device_bandwidth;
  return seconds;
}

/// Whether a kernel is of the kind that the problem asks for at all. Its math need not be asked: all that multiply float32 do
/// so strictly.
bool fits(const Kernel& k, const GemmDescriptor& g, const PlanPreference& preference) {
  return k.operand == g.a && k.layout == g.layout && (!preference.arch || k.arch == *preference.arch);
}

/// Why a kernel of the right kind cannot serve the problem on `sms` SMs; null: it can.
const char* obstacle(const Kernel& k, const GemmDescriptor& g, const DeviceProperties& device, int sms) {
  if (const char* why = device_obstacle(k, device)) return why;
  if (k.arch == Arch::host) return nullptr;
  if (k.cluster_m * k.cluster_n > sms) return "sm_count is less than a cluster takes";
  if (g.alignment % k.alignment != 0) return "a and b are less aligned than the kernel reads";
  if (k.needs_k && g.k == 0) return "K = 0";
  // Tiles are counted, and TMA coordinates given, in 32 bits.
  constexpr int64_t end = int64_t{1} << 31;
  const double tiles = static_cast<double>(ceil_div(g.m, k.tile_m)) * static_cast<double>(ceil_div(g.n, k.tile_n)) *
                       static_cast<double>(g.batch);
  if (tiles * largest_split >= static_cast<double>(end)) return "more tiles than 32 bits count";
  if (k.arch == Arch::sm90 && std::max({g.m, g.n, g.k, g.batch}) >= end) return "an extent of 2^31 or more";
  return nullptr;
}

}  // namespace

std::vector<Choice> rank(const GemmDescriptor& g, const DeviceProperties& device, const PlanPreference& preference,
                         std::string* reasons) {
  std::vector<Choice> choices;
  std::vector<std::string> causes;
  GemmDescriptor modelled = g;
  if (preference.batch_invariant) {
    // The choice must not depend on how many rows come: rank as for a large, single problem, and never split K.
    modelled.m = 4096;
    modelled.batch = 1;
  }
  const int sms = preference.sm_count > 0 ? std::min(preference.sm_count, device.sm_count) : device.sm_count;
  const bool by_name = !preference.kernel.empty();
  bool name_known = false;
  for_each_kernel([&](const Kernel& k) {
    if (by_name && preference.kernel.compare(0, kernel_name(k, 1).size(), kernel_name(k, 1)) != 0) return;
    if (!by_name && !fits(k, g, preference)) return;
    for (const int split_k : split_choices) {
      const std::string name_of = by_name ? kernel_name(k, split_k) : std::string();
      if (by_name && name_of != preference.kernel) continue;
      name_known = true;
      std::string cause;
      if (!fits(k, g, preference)) {
        cause = "of another operand type, layout or preferred architecture";
      } else if (const char* why = obstacle(k, g, device, sms)) {
        cause = why;
      } else if (split_k > 1) {
        const bool slices_hold_work = g.k > 0 && ceil_div(g.k, split_extent(g.k, split_k, k.tile_k)) == split_k;
        const int64_t tiles = ceil_div(modelled.m, k.tile_m) * ceil_div(modelled.n, k.tile_n) * modelled.batch;
        const bool may_pay =
            by_name || (tiles <= int64_t{2} * sms * resident_blocks(k, device) && g.k >= int64_t{4} * split_k * k.tile_k);
        if (!k.splits_k || !slices_hold_work) {
          cause = text("K = ", g.k, " cannot be cut into ", split_k, " slices");
        } else if (preference.batch_invariant) {
          cause = "split K is not batch-invariant";
        } else if (workspace_size(g, split_k) > preference.max_workspace_bytes) {
          cause = text(workspace_size(g, split_k), " bytes of workspace needed, max_workspace_bytes allows ",
                       preference.max_workspace_bytes);
        } else if (!may_pay) {
          continue;
        }
      }
      if (cause.empty()) {
        choices.push_back({&k, split_k, predict(k, modelled, sms, device, split_k)});
      } else if (reasons && (split_k == 1 || by_name)) {
        cause = text(by_name ? name_of : name(k.arch), ": ", cause);
        if (std::find(causes.begin(), causes.end(), cause) == causes.end()) causes.push_back(cause);
      }
    }
  });
  std::stable_sort(choices.begin(), choices.end(), [](const Choice& x, const Choice& y) { return x.seconds < y.seconds; });
  if (choices.empty() && reasons) {
    if (!name_known) {
      const std::string wanted =
          by_name ? text("kernel \"", preference.kernel, "\"")
                  : text(preference.arch ? name(*preference.arch) : "", " kernel for ", name(g.a), " ", name(g.layout));
      *reasons = text("this build (", built_architectures(), ") holds no ", wanted, "; gemm_registry() lists what it holds");
    }
    for (const std::string& cause : causes) *reasons += (reasons->empty() ? "" : "; ") + cause;
  }
  return choices;
}

KernelSku sku(const Kernel& k, int split_k, const GemmDescriptor& g) {
  KernelSku s;
  s.name = kernel_name(k, split_k);
  s.op = "gemm";
  s.a = s.b = k.operand;
  s.accumulator = k.operand == DType::f64 ? DType::f64 : DType::f32;
  s.d = g.d;
  s.layout = name(k.layout);
  s.epilogue = text(g.epilogue.c ? "c+" : "", g.epilogue.bias ? "bias+" : "", name(g.epilogue.activation));
  s.arch = k.arch;
  s.backend = k.backend;
  s.tile_m = k.tile_m;
  s.tile_n = k.tile_n;
  s.tile_k = k.tile_k;
  s.stages = k.stages;
  s.cluster_m = k.cluster_m;
  s.cluster_n = k.cluster_n;
  s.schedule = k.schedule;
  s.split_k = split_k;
  s.alignment = k.alignment;
  return s;
}

std::size_t workspace_size(const GemmDescriptor& g, int split_k) {
  return split_k > 1 ? static_cast<std::size_t>(g.m) * static_cast<std::size_t>(g.n) * static_cast<std::size_t>(g.batch) *
                           static_cast<std::size_t>(split_k) * sizeof(float)
                     : 0;
}

PrecisionGuarantee precision(const Kernel& kernel, int split_k, const GemmDescriptor& g) {
  const bool host = kernel.arch == Arch::host, wide = g.a == DType::f64;
  const double unit = std::ldexp(1.0, wide ? -53 : -24);  // unit roundoff of the accumulator
  PrecisionGuarantee p;
  p.math = g.a;
  p.accumulator = wide ? DType::f64 : DType::f32;
  p.deterministic = true;  // every kernel sums each element in one fixed order
  p.bit_stable_on_same_hardware = true;
  // The host rounds each addition to nearest. A tensor core aligns a block of at least 8 products and the running sum to the
  // largest of them, drops what does not fit into 24 bits, and truncates the total: 10 errors of up to 2 u for 8 products
  // (Fasi, Higham, Mikaitis and Pranesh 2021, section 4).
  const double of_the_sum = host ? static_cast<double>(host_sum_roundings(g.k)) : static_cast<double>(g.k) * 20 / 8;
  const double roundings =
      of_the_sum + host_epilogue_roundings + (split_k > 1 ? split_k : 0);  // each slice of K is added once
  p.accumulation = error_of_roundings(roundings, unit);
  switch (g.epilogue.activation) {
    case Activation::none:
    case Activation::relu: break;
    case Activation::gelu_erf:
    case Activation::gelu_tanh: p.lipschitz = 1.13; break;
    case Activation::silu: p.lipschitz = 1.1; break;
  }
  // On a device: exp and a division within a few units each, or erf within 2.5 units (epilogue.cuh).
  if (g.epilogue.activation > Activation::relu) p.evaluation = (host ? host_activation_roundings : 16) * unit;
  set_output_type(p, g.d);
  // Products below the accumulator's normal range may be flushed, one by one.
  p.smallest += static_cast<double>(g.k) * std::ldexp(1.0, wide ? -1022 : -126);
  return p;
}

}  // namespace cutplan::gemm

namespace cutplan {

std::vector<KernelSku> gemm_kernels(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                                    const PlanPreference& preference) {
  const GemmDescriptor g = gemm::resolve(descriptor);
  std::vector<KernelSku> skus;
  for (const gemm::Choice& choice : gemm::rank(g, properties, preference, nullptr))
    skus.push_back(gemm::sku(*choice.kernel, choice.split_k, g));
  return skus;
}

std::vector<GemmSupport> gemm_support() {
  std::vector<GemmSupport> rows;
  for (const gemm::Support& s : gemm::support_table) {
    bool built = false;
    gemm::for_each_kernel([&](const gemm::Kernel& k) { built = built || (k.arch == s.arch && k.operand == s.operand); });
    if (!built) continue;
    GemmSupport row{s.arch,
                    s.operand,
                    {},
                    {GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr},
                    s.minimum_compute_capability,
                    s.note};
    for (DType d : s.d) {
      if (d != DType::none) row.d.push_back(d);
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<KernelSku> gemm_registry() {
  std::vector<KernelSku> skus;
  gemm::for_each_kernel([&](const gemm::Kernel& k) {
    GemmDescriptor g;
    g.a = g.b = g.d = k.operand;
    skus.push_back(gemm::sku(k, 1, g));
  });
  return skus;
}

}  // namespace cutplan
