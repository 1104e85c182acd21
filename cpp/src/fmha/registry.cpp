#include "fmha/registry.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels.hpp"
#include "core/text.hpp"
#include "cutplan/version.hpp"
#include "fmha/check.hpp"
#include "fmha/host.hpp"
#include "fmha/score.hpp"
#include "fmha/support.hpp"
#include "fmha/units.hpp"

namespace cutplan::fmha {
namespace {

using std::int64_t;

template <typename Visit>
void for_each_kernel(const Visit& visit) {
  for (const KernelTable* table : tables) {
    for (const Kernel& kernel : *table) visit(kernel);
  }
}

const FmhaDescriptor& forward_of(const FmhaDescriptor& g) { return g; }
const FmhaDescriptor& forward_of(const FmhaBackwardDescriptor& g) { return g.forward; }
constexpr Pass pass_of(const FmhaDescriptor&) { return Pass::forward; }
constexpr Pass pass_of(const FmhaBackwardDescriptor&) { return Pass::backward; }
constexpr const char* name_of(Pass pass) { return pass == Pass::forward ? "fmha" : "fmha_backward"; }

std::size_t workspace(const Kernel& k, const FmhaDescriptor& g, int splits) { return k.workspace_forward(k, g, splits); }
std::size_t workspace(const Kernel& k, const FmhaBackwardDescriptor& g, int splits) {
  return k.workspace_backward(k, g, splits > 0);
}

/// The usual launch. A backward kernel that can leave the order of dQ's sum open does: 0; or keeps it: 1.
int unsplit(const Kernel& k) { return k.pass == Pass::backward && k.divides ? 0 : 1; }

std::string kernel_name(const Kernel& k, int splits) {
  std::string s = text(name_of(k.pass), ".", name(k.arch), ".", short_name(k.operand));
  if (k.dim > 0) s += text(".d", k.dim);
  s += text(".", k.tile_m, "x", k.tile_n);
  if (k.stages > 0) s += text(".s", k.stages);
  if (k.operand == DType::f32 && k.arch != Arch::host) s += text(".", name(k.math));
  if (splits != unsplit(k)) s += k.pass == Pass::backward ? ".ordered" : text(".k", splits);
  return s;
}

// ---- cost ----

/// What masks leave to do. Tiles without a visible key are skipped.
struct Work {
  int64_t query_tiles, key_tiles;  // of one head
  double tiles;                    // pairs of these that are computed
  double most_keys, most_queries;  // tiles of the longest row and column of such pairs
};

Work work(const FmhaDescriptor& g, int tile_m, int tile_n) {
  // Packed sequences are taken to be equally long: their lengths are in device memory.
  const int64_t sequences = g.packed ? std::max<int64_t>(g.batch, 1) : 1;
  Problem p{};
  p.seq_q = ceil_div(g.seq_q, sequences);
  p.seq_k = ceil_div(g.seq_k, sequences);
  p.left = g.window_left < 0 ? unlimited : g.window_left;
  p.right = g.causal != Causal::none ? 0 : g.window_right < 0 ? unlimited : g.window_right;
  p.top_left = g.align == Align::top_left;
  const Sequence s = sequence(p, 0);
  Work w{ceil_div(p.seq_q, tile_m), ceil_div(p.seq_k, tile_n), 0, 0, 0};
  const int64_t samples = std::min<int64_t>(w.query_tiles, 32);
  for (int64_t n = 0; n < samples; ++n) {
    const int64_t row = (2 * n + 1) * w.query_tiles / (2 * samples) * tile_m, last = std::min(row + tile_m, s.len_q) - 1;
    const auto keys =
        static_cast<double>(std::max<int64_t>(0, ceil_div(end_key(p, s, last), tile_n) - first_key(p, s, row) / tile_n));
    w.tiles += keys / static_cast<double>(samples) * static_cast<double>(w.query_tiles);
    w.most_keys = std::max(w.most_keys, keys);
  }
  if (w.key_tiles > 0) {
    const auto rows = static_cast<double>(w.query_tiles);
    w.most_queries = std::min(rows, w.most_keys * rows / static_cast<double>(w.key_tiles));
  }
  return w;
}

// Clock, latency and bandwidths are an H200's (measured), and roughly cancel on other cards.
constexpr double clock_rate = 1.7e9, device_bandwidth = 3.9e12, l2_bandwidth_per_sm = 80e9, load_latency = 1.4e-6,
                 launch_seconds = 2.5e-6, block_seconds = 3e-6;

/// Multiplications and additions that one SM's units do in a clock.
double flop_per_clock(const Kernel& k, int cc) {
  const double tensor = cc >= 90 ? 2500 : cc == 80 ? 1600 : 800;  // what mma.sync reaches with 16-bit operands
  if (k.operand == DType::f64) return cc == 80 || cc == 90 ? 80 : 3;
  if (k.operand != DType::f32) return tensor;
  return k.math == Math::tf32 ? tensor / 2 : k.math == Math::tf32x3 ? tensor / 6 : 160;
}

/// Seconds that one SM takes for one pair of tiles of each of its `resident` blocks.
double pair_seconds(const Kernel& k, const DeviceProperties& device, double flop, double bytes, double resident) {
  double busy;
  if (k.teraflops > 0) {
    // Measured with all blocks that fit an SM; fewer leave gaps, though not as many as they are fewer.
    constexpr double sms_of_h200 = 132;
    const double most = resident_blocks(k, device);
    const double newer = flop_per_clock(k, device.compute_capability) / flop_per_clock(k, 90);
    busy = resident * flop / (k.teraflops * 1e12 / sms_of_h200 * newer * std::min(1.0, 1.4 * resident / most));
  } else {
    const double weights = static_cast<double>(k.tile_m) * k.tile_n / 14;  // 16 exponentials in a clock, and some more
    busy = resident * (flop / flop_per_clock(k, device.compute_capability) + weights) / clock_rate;
  }
  return std::max(busy, resident * bytes / l2_bandwidth_per_sm);
}

/// Seconds of `blocks` blocks, of which the longest takes `longest` and the mean `mean`, on `slots` places. Long blocks
/// start first, so that uneven ones fill the end.
double schedule(double blocks, double slots, double longest, double mean) {
  if (longest <= 1.01 * mean) return std::ceil(blocks / slots) * longest;
  return std::max(longest, blocks / slots * mean);
}

int64_t queries_of_one(const FmhaDescriptor& g) {
  return g.packed ? ceil_div(g.seq_q, std::max<int64_t>(g.batch, 1)) : g.seq_q;
}

/// Row tiles of a forward launch. With few queries the heads of a group share one.
double forward_blocks(const Kernel& k, const FmhaDescriptor& g) {
  const int64_t group = g.heads / std::max<int64_t>(g.heads_k, 1), queries = queries_of_one(g);
  const int64_t shared = !g.packed && 2 * queries <= k.tile_m ? std::max<int64_t>(group, 1) : 1;
  return static_cast<double>(std::max<int64_t>(g.batch, 1)) * static_cast<double>(g.heads / shared) *
         static_cast<double>(ceil_div(queries * shared, k.tile_m));
}

/// Seconds that a kernel takes. Only the order of the answers matters.
double predict(const Kernel& k, const FmhaDescriptor& g, int sms, const DeviceProperties& device, int splits) {
  if (k.arch == Arch::host) return 0;
  const Work w = work(g, k.tile_m, k.tile_n);
  if (w.query_tiles == 0) return launch_seconds;
  const double element = bits(g.dtype) / 8.0,
               heads = static_cast<double>(std::max<int64_t>(g.batch, 1)) * static_cast<double>(g.heads);
  const int64_t queries = queries_of_one(g);
  const double blocks = forward_blocks(k, g) * splits;
  const double flop = 4.0 * k.tile_m * k.tile_n * (k.dim > 0 ? k.dim : static_cast<double>(std::max(g.dim, g.dim_v)));
  const double bytes = k.tile_n * static_cast<double>(g.dim + g.dim_v) * element;
  const double resident = std::clamp(std::ceil(blocks / sms), 1.0, static_cast<double>(resident_blocks(k, device)));
  double pair = pair_seconds(k, device, flop, bytes, resident);
  if (w.query_tiles == 1) {
    // No other tile has read these keys: they come from memory, as fast as the copies in flight bring them.
    const double in_flight = std::max(1, k.stages - 1) * bytes / 2 * resident;
    const double bandwidth =
        std::min({in_flight / load_latency, device_bandwidth / std::min<double>(sms, blocks), l2_bandwidth_per_sm});
    pair = std::max(pair, bytes * resident / bandwidth);
  }
  const double mean = std::ceil(w.tiles / static_cast<double>(w.query_tiles) / splits),
               longest = std::ceil(w.most_keys / splits);
  double seconds =
      launch_seconds + schedule(blocks, resident * sms, longest * pair + block_seconds, mean * pair + block_seconds);
  if (splits > 1) {
    const double partial = heads * static_cast<double>(queries) * static_cast<double>(g.dim_v + 1) * sizeof(float) * splits;
    seconds += launch_seconds + 2 * partial / device_bandwidth + splits * 20e-9;
  }
  return seconds;
}

double predict(const Kernel& k, const FmhaBackwardDescriptor& b, int sms, const DeviceProperties& device, int) {
  if (k.arch == Arch::host) return 0;
  const FmhaDescriptor& g = b.forward;
  const Work w = work(g, k.tile_m, k.tile_n);
  if (w.query_tiles == 0 || w.key_tiles == 0) return launch_seconds;
  const double sequences = static_cast<double>(std::max<int64_t>(g.batch, 1)),
               heads_k = static_cast<double>(std::max<int64_t>(g.heads_k, 1)),
               group = static_cast<double>(g.heads) / heads_k, key_tiles = static_cast<double>(w.key_tiles);
  const double blocks = sequences * heads_k * key_tiles;
  const double dim = k.dim > 0 ? k.dim : static_cast<double>(std::max(g.dim, g.dim_v));
  const double flop = 10.0 * k.tile_m * k.tile_n * dim;
  // Rows of Q and grad come in, those of dQ are added to.
  const double bytes =
      k.tile_m * (static_cast<double>(g.dim + g.dim_v) * bits(g.dtype) / 8.0 + static_cast<double>(g.dim) * sizeof(float));
  const double resident = std::clamp(std::ceil(blocks / sms), 1.0, static_cast<double>(resident_blocks(k, device)));
  const double pair = pair_seconds(k, device, flop, bytes, resident);
  const double mean = group * w.tiles / key_tiles, longest = std::max(mean, group * w.most_queries);
  const double dq =
      static_cast<double>(g.seq_q) * static_cast<double>(g.heads * g.dim) * (g.packed ? 1 : sequences) * sizeof(float);
  return 2 * launch_seconds + schedule(blocks, resident * sms, longest * pair + block_seconds, mean * pair + block_seconds) +
         2 * dq / device_bandwidth;
}

// ---- choice ----

// The choice must not depend on how many rows come: rank as for one sequence, a long one where its length is theirs.
constexpr int64_t some_length = 4096;

FmhaDescriptor without_batch(FmhaDescriptor g) {
  g.batch = 1;
  g.seq_q = some_length;
  if (g.packed) g.seq_k = some_length;
  return g;
}

FmhaBackwardDescriptor without_batch(FmhaBackwardDescriptor g) {
  g.forward.batch = 1;
  if (g.forward.packed) g.forward.seq_q = g.forward.seq_k = some_length;
  return g;
}

/// Parts that are worth a look for this problem, of those that a kernel of this tile can make.
std::vector<int> split_choices(const Kernel& k, const FmhaDescriptor& g, const DeviceProperties& device, int sms,
                               const PlanPreference& preference) {
  std::vector<int> choices{unsplit(k)};
  if (preference.batch_invariant || !k.divides) return choices;
  if (forward_blocks(k, g) >= static_cast<double>(sms) * resident_blocks(k, device)) return choices;
  const Work w = work(g, k.tile_m, k.tile_n);
  for (int splits : {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128}) {
    if (splits <= w.most_keys) choices.push_back(splits);
  }
  return choices;
}

/// Whether dQ's sum must have one order.
std::vector<int> split_choices(const Kernel& k, const FmhaBackwardDescriptor&, const DeviceProperties&, int,
                               const PlanPreference& preference) {
  return {preference.deterministic || preference.batch_invariant ? 1 : unsplit(k)};
}

/// The splits that a kernel's own name asks for; -1: the name is another kernel's.
int splits_of_name(const Kernel& k, const std::string& wanted) {
  const std::string own = kernel_name(k, unsplit(k));
  if (wanted == own) return unsplit(k);
  if (k.pass == Pass::backward) return k.divides && wanted == own + ".ordered" ? 1 : -1;
  if (wanted.size() < own.size() + 3 || wanted.compare(0, own.size(), own) != 0 || wanted.compare(own.size(), 2, ".k") != 0)
    return -1;
  const std::string digits = wanted.substr(own.size() + 2);
  if (digits.size() > 4 || digits[0] == '0' || digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  const int splits = std::stoi(digits);
  return splits != unsplit(k) && k.divides ? splits : -1;
}

/// Whether a kernel is of the kind that the problem asks for at all.
template <typename Descriptor>
bool fits(const Kernel& k, const Descriptor& g, const PlanPreference& preference) {
  return k.pass == pass_of(g) && k.operand == forward_of(g).dtype && (!preference.arch || k.arch == *preference.arch);
}

/// Why a kernel of the right kind cannot serve the problem; empty: it can.
template <typename Descriptor>
std::string obstacle(const Kernel& k, const Descriptor& descriptor, const DeviceProperties& device,
                     const PlanPreference& preference, int splits) {
  const FmhaDescriptor& g = forward_of(descriptor);
  if (const char* why = device_obstacle(k, device)) return why;
  if (k.dim > 0 && std::max(g.dim, g.dim_v) > k.dim) return text("head dimensions of at most ", k.dim);
  if (g.dtype == DType::f32 && k.math < preference.math)
    return text("math: ", name(preference.math), " required by the preference, the kernel has ", name(k.math));
  if (k.pass == Pass::backward && (preference.deterministic || preference.batch_invariant) && !deterministic(k, splits)) {
    return text(preference.deterministic ? "deterministic" : "batch_invariant",
                ": the kernel adds to dq as its blocks come; with .ordered after its name they take turns");
  }
  if (k.pass == Pass::forward && splits > 1 && preference.batch_invariant) return "batch_invariant: keys must not be split";
  if (k.arch != Arch::host) {
    // Rows of a sequence and blocks are counted in 32 bits.
    if (std::max(g.seq_q, g.seq_k) >= (int64_t{1} << 31) - 1024) return "a sequence of 2^31 rows or more";
    const double tiles = static_cast<double>(g.heads) * static_cast<double>(std::max<int64_t>(g.batch, 1)) *
                         static_cast<double>(std::max(ceil_div(g.seq_q, k.tile_m), ceil_div(g.seq_k, k.tile_n)) + 1);
    if (tiles * std::max(splits, 1) >= std::ldexp(1.0, 31)) return "more tiles than 32 bits count";
  }
  const std::size_t bytes = workspace(k, descriptor, splits);
  if (bytes > preference.max_workspace_bytes)
    return text(bytes, " bytes of workspace needed, max_workspace_bytes allows ", preference.max_workspace_bytes);
  return {};
}

template <typename Descriptor>
std::vector<Choice> rank_kernels(const Descriptor& g, const DeviceProperties& device, const PlanPreference& preference,
                                 std::string* reasons) {
  std::vector<Choice> choices;
  std::vector<std::string> causes;
  const Descriptor modelled = preference.batch_invariant ? without_batch(g) : g;
  const int sms = occupied_sms(preference, device);
  const bool by_name = !preference.kernel.empty();
  bool known = false;
  for_each_kernel([&](const Kernel& k) {
    std::vector<int> splits;
    if (by_name) {
      splits.push_back(splits_of_name(k, preference.kernel));
      if (splits[0] < 0) return;
      known = true;
      if (!fits(k, g, preference)) {
        causes.push_back(text(preference.kernel, ": of another pass, operand type or preferred architecture"));
        return;
      }
    } else {
      if (!fits(k, g, preference)) return;
      known = true;
      if (device_obstacle(k, device) == nullptr)
        splits = split_choices(k, modelled, device, sms, preference);
      else
        splits.push_back(unsplit(k));
    }
    for (const int n : splits) {
      const std::string cause = obstacle(k, g, device, preference, n);
      if (cause.empty()) {
        choices.push_back({&k, n, workspace(k, g, n), predict(k, modelled, sms, device, n)});
      } else if (reasons != nullptr) {
        const std::string line = text(by_name ? preference.kernel : kernel_name(k, unsplit(k)), ": ", cause);
        if (std::find(causes.begin(), causes.end(), line) == causes.end()) causes.push_back(line);
        if (!by_name) break;  // more splits need more
      }
    }
  });
  std::stable_sort(choices.begin(), choices.end(), [](const Choice& x, const Choice& y) { return x.seconds < y.seconds; });
  if (choices.empty() && reasons != nullptr) {
    if (!known) {
      const std::string wanted = by_name ? text("kernel \"", preference.kernel, "\"")
                                         : text(preference.arch ? name(*preference.arch) : "", " kernel for ",
                                                name(forward_of(g).dtype), " ", name_of(pass_of(g)));
      *reasons = text("this build (", built_architectures(), ") holds no ", wanted, "; fmha_registry() lists what it holds");
    }
    for (const std::string& cause : causes) *reasons += (reasons->empty() ? "" : "; ") + cause;
  }
  return choices;
}

// ---- what a kernel says of itself ----

std::string options(const FmhaDescriptor& g) {
  std::string s;
  const auto add = [&](bool used, const char* option) {
    if (used) s += (s.empty() ? "" : "+") + std::string(option);
  };
  add(g.causal != Causal::none, "causal");
  add(g.window_left >= 0 || g.window_right >= 0, "window");
  add(g.softcap > 0, "softcap");
  add(g.alibi, "alibi");
  add(g.bias != DType::none, "bias");
  add(g.mask, "mask");
  add(g.sink, "sink");
  add(g.dropout, "dropout");
  return s.empty() ? "none" : s;
}

template <typename Descriptor>
KernelSku sku_of(const Kernel& k, int splits, const Descriptor& descriptor, DType written) {
  const FmhaDescriptor& g = forward_of(descriptor);
  KernelSku s;
  s.name = kernel_name(k, splits);
  s.category = "attention";
  s.op = name_of(k.pass);
  s.a = s.b = k.operand;
  s.accumulator = k.operand == DType::f64 ? DType::f64 : DType::f32;
  s.d = written;
  s.layout = name(g.layout);
  s.epilogue = options(g);
  s.arch = k.arch;
  s.backend = k.backend;
  s.tile_m = k.tile_m;
  s.tile_n = k.tile_n;
  s.tile_k = k.dim;
  s.stages = k.stages;
  if (k.operand == DType::f32) s.schedule = name(k.math);
  if (k.pass == Pass::backward && k.divides) s.schedule = splits > 0 ? "ordered" : "unordered";
  s.split_k = k.pass == Pass::forward ? splits : 1;
  s.alignment = bits(k.operand) / 8;
  s.threads = k.threads;
  s.shared_memory = k.shared_memory;
  return s;
}

// ---- precision ----

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
      // A tensor core adds 8 products with up to 10 errors of 2 units (gemm/registry.cpp). tanh is 1 - 2 / (1 + exp(2 x)).
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
  const int64_t right = g.causal != Causal::none ? 0 : g.window_right;
  if (g.window_left < 0 || right < 0) return length;
  return std::min(length, std::min(g.window_left, unlimited) + std::min(right, unlimited) + 1);
}

/// Errors of one pass: (1 + sums) (1 + steps) exp(scores * score_magnitude) - 1, relative to a magnitude.
struct Errors {
  double sums, steps, scores;
};

double both(double x, double y) { return x + y + x * y; }

/// Of a score, per unit of score_magnitude.
double score_error(const Arithmetic& a, const FmhaDescriptor& g) {
  return error_of_roundings(a.sum(g.dim) + a.score_rounds, a.unit) + a.operand;
}

/// Of the softmax's denominator, besides that of the scores. Rescaling it multiplies once for each tile that raises the
/// maximum, by a factor that is itself a weight.
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
  e.steps = both(both(denominator_error(a, k, splits, keys), error_of_roundings(2 * a.weight_rounds, a.unit) + logarithm),
                 a.weight + a.operand);
  e.steps = both(e.steps, std::expm1(2 * g.softcap * a.tanh));
  e.scores = 2 * score_error(a, g);
  if (splits > 1) {
    // Shares are weighed by their own LSE, rounded, against the largest.
    e.steps = both(e.steps, 2 * logarithm + 8 * a.unit * std::log1p(static_cast<double>(keys)));
    e.scores += 8 * a.unit;
  }
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
  const double weight = both(error_of_roundings(a.weight_rounds, a.unit),
                             denominator_error(a, k, 1, keys) + (2 * lse_unit + 4 * a.unit) * (1 + log_keys));
  const double gradient = error_of_roundings(2 * a.sum(g.dim_v) + host_gradient_roundings, a.unit) + a.operand +
                          both(both(forward.sums, forward.steps), o.rounding) + (g.softcap > 0 ? 2 * a.tanh : 0);
  e.steps = both(both(both(weight, gradient), a.weight + a.operand), std::expm1(2 * g.softcap * a.tanh));
  const double score = score_error(a, g);
  e.scores = 2 * score + 2 * lse_unit + forward.scores + (g.softcap > 0 ? 0.77 / g.softcap * score : 0);
  return e;
}

/// sum + steps' + expm1(scores' x) of the guarantee is no less than (1 + sums) (1 + steps) exp(scores x) - 1.
void set_errors(PrecisionGuarantee& p, const Errors& e) {
  const double constant = both(e.sums, e.steps);
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
  for (DType t : written) {
    PrecisionGuarantee of_type;
    set_output_type(of_type, t);
    p.rounding = std::max(p.rounding, of_type.rounding);
    p.smallest = std::max(p.smallest, of_type.smallest);
    p.largest = std::min(p.largest, of_type.largest);
  }
  // Products below the accumulator's normal range may be flushed, one by one.
  p.smallest += static_cast<double>(summed) * std::ldexp(1.0, p.accumulator == DType::f64 ? -1022 : -126);
  return p;
}

}  // namespace

std::vector<Choice> rank(const FmhaDescriptor& g, const DeviceProperties& device, const PlanPreference& preference,
                         std::string* reasons) {
  return rank_kernels(g, device, preference, reasons);
}

std::vector<Choice> rank(const FmhaBackwardDescriptor& g, const DeviceProperties& device, const PlanPreference& preference,
                         std::string* reasons) {
  return rank_kernels(g, device, preference, reasons);
}

bool deterministic(const Kernel& k, int splits) { return k.pass == Pass::forward || splits > 0; }

KernelSku sku(const Kernel& k, int splits, const FmhaDescriptor& g) { return sku_of(k, splits, g, g.o); }
KernelSku sku(const Kernel& k, int splits, const FmhaBackwardDescriptor& g) { return sku_of(k, splits, g, g.grad); }

PrecisionGuarantee precision(const Kernel& k, int splits, const FmhaDescriptor& g) {
  return guarantee(k, splits, forward_errors(Arithmetic(k), k, splits, g), {g.o}, g.seq_k);
}

PrecisionGuarantee precision(const Kernel& k, int splits, const FmhaBackwardDescriptor& b) {
  const FmhaDescriptor& g = b.forward;
  return guarantee(k, splits, backward_errors(Arithmetic(k), k, b), {b.grad, b.dbias ? g.bias : b.grad},
                   std::max(g.seq_k, g.seq_q * (g.heads_k > 0 ? g.heads / g.heads_k : 1)));
}

}  // namespace cutplan::fmha

namespace cutplan {
namespace {

template <typename Descriptor>
std::vector<KernelSku> kernels_for(const Descriptor& descriptor, const DeviceProperties& properties,
                                   const PlanPreference& preference) {
  fmha::check(descriptor);
  const Descriptor g = fmha::resolve(descriptor);
  std::vector<KernelSku> skus;
  for (const fmha::Choice& choice : fmha::rank(g, properties, preference, nullptr))
    skus.push_back(fmha::sku(*choice.kernel, choice.splits, g));
  return skus;
}

}  // namespace

std::vector<KernelSku> fmha_kernels(const FmhaDescriptor& descriptor, const DeviceProperties& properties,
                                    const PlanPreference& preference) {
  return kernels_for(descriptor, properties, preference);
}

std::vector<KernelSku> fmha_kernels(const FmhaBackwardDescriptor& descriptor, const DeviceProperties& properties,
                                    const PlanPreference& preference) {
  return kernels_for(descriptor, properties, preference);
}

std::vector<FmhaSupport> fmha_support() {
  std::vector<FmhaSupport> rows;
  for (const fmha::Support& s : fmha::support_table) {
    bool built = false;
    fmha::for_each_kernel([&](const fmha::Kernel& k) { built = built || (k.arch == s.arch && k.operand == s.operand); });
    if (!built) continue;
    FmhaSupport row{s.arch, s.operand, {}, s.largest_dim, s.minimum_compute_capability, s.note};
    for (DType t : s.o) {
      if (t != DType::none) row.o.push_back(t);
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<KernelSku> fmha_registry() {
  std::vector<KernelSku> skus;
  fmha::for_each_kernel([&](const fmha::Kernel& k) {
    FmhaDescriptor g;
    g.dtype = k.operand;
    skus.push_back(fmha::sku_of(k, fmha::unsplit(k), g, DType::none));
  });
  return skus;
}

}  // namespace cutplan
