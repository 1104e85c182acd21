#include "gemm/registry.hpp"

#include <algorithm>
#include <cmath>

#include "core/kernels.hpp"
#include "core/text.hpp"
#include "cutplan/version.hpp"
#include "gemm/check.hpp"
#include "gemm/host.hpp"
#include "gemm/operands.hpp"
#include "gemm/stream_k.hpp"
#include "gemm/support.hpp"
#include "gemm/tune.hpp"
#include "gemm/units.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

template <typename Visit>
void for_each_kernel(const Visit& visit) {
  for (const KernelTable* table : tables) {
    for (const Kernel& kernel : *table) visit(kernel);
  }
}

/// Ways to cut K, where a kernel can.
constexpr int split_choices[] = {1, stream_k, 2, 3, 4, 6, 8, 12, 16};
constexpr double largest_split = 16;
constexpr int largest_cluster = 8;

/// How stream-K would cut a problem on `sms` SMs; tiles = 0: not at all. A cluster is one worker.
StreamPartition partition_of(const Kernel& k, const GemmDescriptor& g, int sms) {
  const int64_t tiles = ceil_div(g.m, k.tile_m * k.cluster_m) * ceil_div(g.n, k.tile_n) * g.batch;
  return stream_partition(static_cast<std::uint32_t>(tiles), static_cast<std::uint32_t>(sms / k.cluster_m));
}

constexpr const char* op_of(const Request& r) { return r.over ? "grouped_gemm" : "gemm"; }

std::string kernel_name(const Kernel& k, int split_k, const char* op) {
  std::string s = op;
  const auto number = [&s](const char* before, int value) { s.append(before).append(std::to_string(value)); };
  s.append(".").append(name(k.arch)).append(".").append(short_name(k.operand));
  if (k.operand == DType::f32 && k.arch != Arch::host) s.append(".").append(name(k.math));
  s.append(".").append(name(k.layout));
  number(".", k.tile_m);
  number("x", k.tile_n);
  number("x", k.tile_k);
  if (k.stages > 0) number(".s", k.stages);
  if (k.cluster_m * k.cluster_n > 1) {
    number(".c", k.cluster_m);
    number("x", k.cluster_n);
  }
  s.append(".").append(k.schedule);
  number(".a", k.alignment);
  if (k.gate != Gate::none) s.append(".gate_").append(name(k.gate));
  return s + split_name(split_k);
}

/// What the cost model looks at: with groups one of average size, as often as there are groups.
GemmDescriptor modelled(const Request& r, const PlanPreference& preference) {
  constexpr int64_t some_length = 4096;
  GemmDescriptor g = r.g;
  if (r.over) {
    int64_t& shared = *r.over == GroupedOver::m ? g.m : g.k;
    shared = ceil_div(shared, std::max<int64_t>(g.batch, 1));
  }
  if (preference.batch_invariant) {
    // The choice must not depend on how many rows come: rank as for a large, single problem, and never split K.
    g.m = some_length;
    g.batch = 1;
    if (r.over == GroupedOver::k) g.k = some_length;
  }
  return canonical(g);
}

/// How much longer than plain stores an epilogue is exposed (4096 cubed on an H200, bias and activation).
double epilogue_work(Activation activation) {
  switch (activation) {
    case Activation::none:
    case Activation::relu: return 1;
    case Activation::gelu_tanh:
    case Activation::silu: return 2.5;
    case Activation::gelu_erf: return 4;
  }
  return 1;
}

/// Seconds that a kernel takes, by count of waves, tensor core work and bytes. Only the order of the answers matters: clock,
/// latency and bandwidths are an H200's (measured), and roughly cancel on other cards. These and the 16-bit sm90 kernels'
/// numbers are fitted to what benchmarks/results/selection-h200.json holds, 274 problems of 1 to 16384 rows: the kernel
/// picked takes 1.02 times as long as the fastest in geometric mean (python -m benchmarks.selection --judge FILE).
double predict(const Kernel& k, const GemmDescriptor& g, int sms, const DeviceProperties& device, int split_k) {
  constexpr double clock = 1.7e9, device_bandwidth = 3.9e12, l2_bandwidth_per_sm = 84e9, load_latency = 1.4e-6,
                   launch = 6e-6, reduction = 9e-6, meeting = 1e-6, flags = 6e-6, split_lines = 1.4;
  const int cc = device.compute_capability;
  // Dense 16-bit, per SM. IEEE float32 is up to the CUDA cores, of which other cards have no fewer.
  const bool cuda_cores = k.operand == DType::f32 && k.math == Math::strict && cc != 80;
  const double flop_per_clock = cc >= 90 || cuda_cores ? 4096 : cc == 80 ? 2048 : 1024;
  const double element = bits(g.a) / 8.0;
  const auto up = [](int64_t a, int64_t b) { return static_cast<double>(ceil_div(a, b)); };
  const double k_slice = static_cast<double>(split_k > 1 ? split_extent(g.k, split_k, k.tile_k) : g.k);
  // A cluster is scheduled whole, with tiles outside D if need be.
  const double tiles = up(g.m, k.tile_m * k.cluster_m) * k.cluster_m * up(g.n, k.tile_n * k.cluster_n) * k.cluster_n *
                       static_cast<double>(g.batch) * std::max(split_k, 1);
  const double resident = std::clamp(std::ceil(tiles / sms), 1.0, static_cast<double>(resident_blocks(k, device)));
  const double waves = std::ceil(tiles / (resident * sms));
  const int factors = g.epilogue.gate == Gate::none ? 1 : 2;  // columns of B to one of D
  const double flop = 2.0 * k.tile_m * k.tile_n * factors * std::ceil(k_slice / k.tile_k) * k.tile_k;
  const auto a_rows = static_cast<double>(std::min<int64_t>(g.m, k.tile_m)),
             b_rows = static_cast<double>(factors * std::min<int64_t>(g.n, k.tile_n)), rows = a_rows + b_rows;
  const double m = static_cast<double>(g.m), n = static_cast<double>(g.n), batch = static_cast<double>(g.batch);
  const double operands = batch * (m + factors * n) * static_cast<double>(g.k) * element;
  // A block has at most its ring of slots in flight, and shares what arrives at its SM. What no other tile has read yet
  // passes L2 twice.
  const double in_flight = rows * k.tile_k * element * std::max(1, k.stages - 1);
  // Rows that do not begin with a line of 128 bytes cost two lines for one: 3072 x 3072 takes up to 2.1 times as long with K =
  // 3000 as with 3072 (H200). A contiguous operand's extent is its pitch.
  const auto lines = [&](int64_t pitch) { return pitch * bits(g.a) % (8 * 128) == 0 ? 1.0 : split_lines; };
  const double reads =
      (a_rows * lines(a_is_row_major(g.layout) ? g.k : g.m) + b_rows * lines(b_is_row_major(g.layout) ? g.n : g.k)) *
      k_slice * element;
  const double from_l2 = std::max(rows * k_slice * element * load_latency / in_flight,
                                  (reads + std::min(reads, operands / tiles)) * resident / l2_bandwidth_per_sm);
  const double from_tensor_cores = flop * resident / (flop_per_clock * clock * k.peak_fraction);
  const double exposed = k.exposed_seconds * epilogue_work(g.epilogue.activation) / resident;
  // Rows of a tile that do not exist take up slots all the same: less is in flight.
  const double absent = static_cast<double>(std::max<int64_t>(k.tile_m - g.m, 0)) / (k.tile_m + factors * k.tile_n);
  const double memory = (operands + batch * m * n * bits(g.d) / 8) / device_bandwidth * (1 + 0.4 * absent);
  const double of_wave = std::max(from_tensor_cores, from_l2);
  double seconds = std::max(waves * (of_wave + exposed), memory + exposed) + launch;
  if (split_k == stream_k) {
    const StreamPartition cut = partition_of(k, g, sms);
    const double last_wave = cut.slices > 1 ? 1.0 / cut.slices : static_cast<double>(cut.tiles) * k.cluster_m / sms;
    const double sums = static_cast<double>(k.tile_m) * k.tile_n * factors * sizeof(float);
    seconds = std::max((waves - 1 + last_wave) * of_wave + waves * exposed, memory + exposed) + launch + flags +
              std::max<double>(cut.slices, 2) * sums / l2_bandwidth_per_sm;  // left once, added by one of them
  }
  if (split_k > 1) {
    seconds += k.slices_meet ? meeting * split_k
                             : reduction + batch * m * n * std::max(element, 4.0) * 2 * split_k / device_bandwidth;
  }
  return seconds;
}

/// Whether a kernel computes a gate. The host's compute any; an interleaved column-major B is two separate views
/// (operands.hpp).
bool serves_gate(const Kernel& k, const GemmDescriptor& g) {
  const Gate gate = g.epilogue.gate;
  return k.gate == gate || k.arch == Arch::host ||
         (k.gate == Gate::separate && gate == Gate::interleaved && !b_is_row_major(g.layout));
}

/// Whether a kernel is of the kind that the problem asks for at all. `g` has a row-major D.
bool fits(const Kernel& k, const Request& r, const GemmDescriptor& g, const PlanPreference& preference) {
  return k.operand == g.a && k.layout == g.layout && serves_gate(k, g) && (k.groups || !r.over) &&
         (!preference.arch || k.arch == *preference.arch);
}

/// Why a kernel of the right kind cannot serve the problem on `sms` SMs; null: it can.
const char* obstacle(const Kernel& k, const Request& r, const GemmDescriptor& g, const DeviceProperties& device, int sms,
                     const PlanPreference& preference) {
  if (const char* why = device_obstacle(k, device)) return why;
  if (k.operand == DType::f32 && k.math < preference.math) {
    return k.math == Math::tf32 ? "math: the kernel multiplies as tf32, less exactly than the preference asks for"
                                : "math: the kernel multiplies as tf32x3, less exactly than the preference asks for";
  }
  if (k.arch == Arch::host) return nullptr;
  if (k.cluster_m * k.cluster_n > sms) return "sm_count is less than a cluster takes";
  if (g.alignment % k.alignment != 0) return "a and b are less aligned than the kernel reads";
  // Tiles are counted, and TMA coordinates given, in 32 bits.
  constexpr int64_t end = int64_t{1} << 31;
  const int64_t tiles_m = ceil_div(g.m, k.tile_m), batch = g.batch;
  const double down = r.over == GroupedOver::m
                          ? static_cast<double>(tiles_m + batch)  // each group may end with one of its own
                          : static_cast<double>(tiles_m) * static_cast<double>(batch);
  if (down * static_cast<double>(ceil_div(g.n, k.tile_n)) * largest_split >= static_cast<double>(end))
    return "more tiles than 32 bits count";
  // K is counted in whole steps, of at most 64.
  if (k.arch == Arch::sm90 && std::max({g.m, g.n, g.k, g.batch}) > end - 64)
    return "m, n, k and batch of at most 2^31 - 64 required";
  return nullptr;
}

/// The kind of kernel that was looked for, in words.
std::string wanted(const Request& r, const GemmDescriptor& g, const PlanPreference& preference) {
  if (!preference.kernel.empty()) return text("kernel \"", preference.kernel, "\"");
  std::string s =
      text(preference.arch ? std::string(name(*preference.arch)) + " " : "", "kernel for ", name(g.a), " ", name(g.layout));
  if (g.epilogue.gate != Gate::none) s += text(" with gate='", name(g.epilogue.gate), "'");
  if (r.over) s += text(" with groups over ", name(*r.over));
  return s;
}

}  // namespace

std::vector<Choice> rank(const Request& r, const DeviceProperties& device, const PlanPreference& preference,
                         std::string* reasons) {
  std::vector<Choice> choices;
  std::vector<std::string> causes;
  const GemmDescriptor g = canonical(r.g), model = modelled(r, preference);
  const int sms = occupied_sms(preference, device);
  const bool by_name = !preference.kernel.empty();
  bool known = false;  // there is a kernel of the kind or the name asked for
  const auto refuse = [&](const Kernel& k, const std::string& cause) {
    if (reasons == nullptr) return;
    const std::string line = text(by_name ? preference.kernel : name(k.arch), ": ", cause);
    if (std::find(causes.begin(), causes.end(), line) == causes.end()) causes.push_back(line);
  };
  for_each_kernel([&](const Kernel& k) {
    const bool of_kind = fits(k, r, g, preference);
    if (!of_kind && (!by_name || reasons == nullptr)) return;
    if (by_name) {
      const std::string own = kernel_name(k, 1, op_of(r));
      if (preference.kernel.compare(0, own.size(), own) != 0) return;
    }
    const char* const why = of_kind ? obstacle(k, r, g, device, sms, preference) : nullptr;
    if (!by_name) {
      known = known || device_obstacle(k, device) == nullptr;
      if (why != nullptr) return refuse(k, why);
    }
    const int64_t tiles = ceil_div(model.m, k.tile_m) * ceil_div(model.n, k.tile_n) * model.batch;
    for (const int split_k : split_choices) {
      if (by_name && kernel_name(k, split_k, op_of(r)) != preference.kernel) continue;
      known = true;
      if (!of_kind) return refuse(k, "of another operand type, layout, gate or preferred architecture");
      if (why != nullptr) return refuse(k, why);
      const auto refuse_split = [&](const auto&... cause) {
        if (by_name) refuse(k, text(cause...));
      };
      if (split_k == stream_k) {
        if (r.over || !k.streams_k || g.k == 0) {
          refuse_split("stream-K: a single product of K >= 1 and a TMA kernel of 64 rows or more required");
          continue;
        }
        // Cut tiles leave blocks at different steps of K, whose reads then meet in L2 no more, but for those within a cluster.
        // Without one, tiles cut end to end took up to 1.6 times as long, and 27 waves after 20 tiles cut alike 1.2 times (H200).
        const StreamPartition cut = partition_of(k, model, sms);
        const bool shares_reads = k.cluster_m > 1 || (cut.slices > 1 && tiles <= int64_t{8} * sms);
        if (!by_name && (cut.tiles == 0 || !shares_reads || g.k < int64_t{8} * k.tile_k)) continue;
        // Workers, tiles and steps are multiplied in 32 bits.
        const int64_t most = (int64_t{1} << 32) / (int64_t{sms} * sms) * k.tile_k;
        if (g.k >= most) {
          refuse_split("stream-K: K below ", most, " required on ", sms, " SMs, got ", g.k);
          continue;
        }
      } else if (split_k > 1) {
        const bool slices_hold_work = g.k > 0 && ceil_div(g.k, split_extent(g.k, split_k, k.tile_k)) == split_k;
        const bool may_pay =
            by_name || (tiles <= int64_t{2} * sms * resident_blocks(k, device) && g.k >= int64_t{4} * split_k * k.tile_k);
        if (!may_pay) continue;
        if (k.slices_meet && split_k > largest_cluster) {
          refuse_split("split_k: slices meet in a cluster of at most ", largest_cluster, " blocks, got ", split_k);
          continue;
        }
        if (r.over || !k.splits_k || !slices_hold_work) {
          refuse_split("K = ", g.k, " cannot be cut into ", split_k, " slices");
          continue;
        }
        if (k.slices_meet && sms < device.sm_count && tiles * split_k > sms) {
          refuse_split("sm_count: ", tiles * split_k, " SMs required, a cluster for each tile, got ", sms);
          continue;
        }
      }
      if (split_k != 1) {
        if (preference.batch_invariant) {
          refuse_split("split K is not batch-invariant");
          continue;
        }
        if (const std::size_t bytes = workspace_size(k, split_k, g, sms); bytes > preference.max_workspace_bytes) {
          refuse_split(bytes, " bytes of workspace needed, max_workspace_bytes allows ", preference.max_workspace_bytes);
          continue;
        }
      }
      choices.push_back({&k, split_k, predict(k, model, sms, device, split_k)});
    }
  });
  std::stable_sort(choices.begin(), choices.end(), [](const Choice& x, const Choice& y) { return x.seconds < y.seconds; });
  if (choices.empty() && reasons != nullptr) {
    if (!known) {
      *reasons = text("this build (", built_architectures(), ") holds no ", wanted(r, g, preference),
                      by_name ? "" : " that runs here",
                      g.epilogue.gate == Gate::interleaved && b_is_row_major(g.layout)
                          ? "; a column-major b is read as two, as gate='separate' has them"
                          : "",
                      "; gemm_registry() lists what it holds");
    }
    for (const std::string& cause : causes) *reasons += (reasons->empty() ? "" : "; ") + cause;
  }
  return choices;
}

namespace {

/// In the order of the formula: "row_scale+c+bias+gelu_erf+residual".
std::string options(const Epilogue& e) {
  std::string s;
  if (e.row_scale) s += "row_scale+";
  if (e.column_scale) s += "column_scale+";
  if (e.c) s += "c+";
  if (e.bias != BiasOver::none) s += e.bias == BiasOver::n ? "bias+" : "bias_m+";
  s += name(e.activation);
  if (e.aux != Auxiliary::none) s.append("+aux_").append(name(e.aux));
  if (e.gate != Gate::none) s.append("+gate_").append(name(e.gate));
  if (e.residual) s += "+residual";
  return s;
}

}  // namespace

KernelSku sku(const Kernel& k, int split_k, const Request& r) {
  KernelSku s;
  s.name = kernel_name(k, split_k, op_of(r));
  s.op = op_of(r);
  s.a = s.b = k.operand;
  s.accumulator = k.operand == DType::f64 ? DType::f64 : DType::f32;
  s.d = r.g.d;
  s.layout = name(r.g.layout);
  s.epilogue = options(r.g.epilogue);
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
  s.threads = k.threads;
  s.shared_memory = k.shared_memory;
  return s;
}

std::string split_name(int split_k) { return split_k == 1 ? "" : split_k == stream_k ? ".stream_k" : text(".k", split_k); }

std::size_t workspace_size(const Kernel& k, int split_k, const GemmDescriptor& g, int sm_count) {
  if (split_k == stream_k) {
    const int factors = k.gate == Gate::none ? 1 : 2;
    return stream_flags_bytes(sm_count) + static_cast<std::size_t>(sm_count) * static_cast<std::size_t>(k.tile_m) *
                                              static_cast<std::size_t>(k.tile_n * factors) * sizeof(float);
  }
  return split_k > 1 && !k.slices_meet
             ? static_cast<std::size_t>(g.m) * static_cast<std::size_t>(g.n) * static_cast<std::size_t>(g.batch) *
                   static_cast<std::size_t>(split_k) * (g.a == DType::f64 ? sizeof(double) : sizeof(float))
             : 0;
}

namespace {

/// (1 + x) (1 + y) - 1
double both(double x, double y) { return x + y + x * y; }

/// What computing A B loses: roundings of unit u in a row, and the relative error of each product from rounding its factors.
struct Arithmetic {
  double roundings, of_factors;
};

Arithmetic arithmetic(const Kernel& k, int64_t length) {
  const auto terms = static_cast<double>(length);
  if (k.arch == Arch::host) return {static_cast<double>(host_sum_roundings(length)), 0};
  // A tensor core aligns a block of at least 8 products and the running sum to the largest of them, drops what does not fit
  // into 24 bits, and truncates the total: 10 errors of up to 2 u for 8 products (Fasi, Higham, Mikaitis and Pranesh 2021,
  // section 4).
  if (k.operand == DType::f16 || k.operand == DType::bf16) return {terms * 20 / 8, 0};
  // CUDA cores and float64 tensor cores round each multiply-add to nearest.
  if (k.operand == DType::f64 || k.math == Math::strict) return {terms, 0};
  // As with 16 bits, but 4 products and 6 errors. TF32 rounds each factor by 2^-11. Of a pair of TF32 numbers 2^-22 is
  // missing, and three products leave out that of the two small halves, another 2^-22.
  if (k.math == Math::tf32) return {terms * 12 / 4, std::ldexp(1.0, -10) + std::ldexp(1.0, -22)};
  // Those are summed over one K step by the tensor core, and the steps' sums added to nearest.
  const double of_step = std::min(terms, static_cast<double>(k.tile_k)) * 3 * 12 / 4;
  return {of_step + std::ceil(terms / k.tile_k), std::ldexp(1.0, -20)};
}

}  // namespace

PrecisionGuarantee precision(const Kernel& kernel, int split_k, const Request& r) {
  const GemmDescriptor& g = r.g;
  const Epilogue& e = g.epilogue;
  const bool host = kernel.arch == Arch::host, wide = g.a == DType::f64;
  const double unit = std::ldexp(1.0, wide ? -53 : -24);  // unit roundoff of the accumulator
  PrecisionGuarantee p;
  p.math = g.a;
  p.accumulator = wide ? DType::f64 : DType::f32;
  p.deterministic = true;  // every kernel sums each element in one fixed order
  p.bit_stable_on_same_hardware = true;
  const Arithmetic sum = arithmetic(kernel, g.k);
  // Adding up slices of K costs one rounding a slice. Stream-K's pieces have at least one step of K each, whose roundings
  // within a longer sum it takes the place of.
  const double roundings = sum.roundings + host_epilogue_roundings + (e.row_scale ? 1 : 0) + (e.column_scale ? 1 : 0) +
                           (e.residual ? 2 : 0) + (split_k > 1 ? split_k : 0);
  p.accumulation = both(error_of_roundings(roundings, unit), sum.of_factors);
  switch (e.activation) {
    case Activation::none:
    case Activation::relu: break;
    case Activation::gelu_erf:
    case Activation::gelu_tanh: p.lipschitz = 1.13; break;
    case Activation::silu: p.lipschitz = 1.1; break;
  }
  const bool bounded = std::isfinite(p.accumulation);
  // On a device: exp and a division within a few units each, or erf within 2.5 units (epilogue.cuh).
  if (e.activation > Activation::relu) p.evaluation = (host ? host_activation_roundings : 16) * unit;
  if (e.aux == Auxiliary::gradient) {
    // x times a derivative of at most `lipschitz`, whose error is absolute.
    if (e.activation > Activation::relu) p.evaluation = (host ? host_derivative_roundings : 32) * unit;
    p.accumulation = both(p.accumulation, error_of_roundings(1, unit));
    if (bounded) p.evaluation *= 1 + p.accumulation;
  } else if (e.gate != Gate::none) {
    // activation(x) is at most x: relative to both magnitudes, the errors of the two factors and of their product.
    p.accumulation = both(both(p.lipschitz * p.accumulation + p.evaluation, p.accumulation), error_of_roundings(1, unit));
    p.lipschitz = 1;
    p.evaluation = 0;
  }
  set_output_type(p, g.d);
  if (e.aux == Auxiliary::store) {
    // One bound for both outputs.
    PrecisionGuarantee aux;
    set_output_type(aux, g.aux);
    p.rounding = std::max(p.rounding, aux.rounding);
    p.smallest = std::max(p.smallest, aux.smallest);
    p.largest = std::min(p.largest, aux.largest);
  }
  // Products below the accumulator's normal range may be flushed, one by one.
  p.smallest += static_cast<double>(g.k) * std::ldexp(1.0, wide ? -1022 : -126);
  return p;
}

}  // namespace cutplan::gemm

namespace cutplan {

std::vector<KernelSku> gemm_kernels(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                                    const PlanPreference& preference) {
  gemm::check(descriptor);
  const gemm::Request request = gemm::resolve(descriptor);
  std::vector<gemm::Choice> choices = gemm::rank(request, properties, preference, nullptr);
  gemm::apply_tuning(choices, request, properties, preference, nullptr);
  std::vector<KernelSku> skus;
  for (const gemm::Choice& choice : choices) skus.push_back(gemm::sku(*choice.kernel, choice.split_k, request));
  return skus;
}

std::vector<GemmSupport> gemm_support() {
  std::vector<GemmSupport> rows;
  for (const gemm::Support& s : gemm::support_table) {
    GemmSupport row{s.arch, s.operand, {}, {}, s.minimum_compute_capability, s.note};
    for (const GemmLayout layout : {GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr, GemmLayout::rcc,
                                    GemmLayout::rrc, GemmLayout::crc, GemmLayout::ccc}) {
      GemmDescriptor g;
      g.layout = layout;
      const GemmLayout of_kernel = gemm::canonical(g).layout;
      bool built = false;
      gemm::for_each_kernel([&](const gemm::Kernel& k) {
        built = built || (k.arch == s.arch && k.operand == s.operand && k.layout == of_kernel);
      });
      if (built) row.layouts.push_back(layout);
    }
    if (row.layouts.empty()) continue;
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
    g.layout = k.layout;
    g.epilogue.gate = k.gate;
    skus.push_back(gemm::sku(k, 1, g));
  });
  return skus;
}

}  // namespace cutplan
