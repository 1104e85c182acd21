// Which kernel should serve a problem: what it cannot, how its sums may be shared out, and the seconds that it would take.
#include <algorithm>
#include <cmath>

#include "core/text.hpp"
#include "fmha/family.hpp"
#include "fmha/score.hpp"

namespace cutplan::fmha {
namespace {

using std::int64_t;

constexpr Pass pass_of(const FmhaDescriptor*) { return Pass::forward; }
constexpr Pass pass_of(const FmhaBackwardDescriptor*) { return Pass::backward; }

std::size_t workspace_of(const Kernel& k, const FmhaDescriptor& g, int split) { return k.workspace_forward(k, g, split); }
std::size_t workspace_of(const Kernel& k, const FmhaBackwardDescriptor& g, int split) {
  return k.workspace_backward(k, g, split > 0);
}

constexpr bool is_of_backward(const FmhaDescriptor&) { return false; }
constexpr bool is_of_backward(const FmhaBackwardDescriptor&) { return true; }

DType written_by(const FmhaDescriptor& g) { return g.o; }
DType written_by(const FmhaBackwardDescriptor& g) { return g.grad; }

void write_gradients(tuning::Key&, const FmhaDescriptor&) {}
void write_gradients(tuning::Key& key, const FmhaBackwardDescriptor& g) {
  key.word("dbias", g.dbias).word("dalibi_slopes", g.dalibi_slopes).word("dsink", g.dsink);
}

std::string options(const FmhaDescriptor& g) {
  std::string s;
  const auto add = [&](bool used, const char* option) {
    if (used) s += (s.empty() ? "" : "+") + std::string(option);
  };
  add(g.causal != Causal::none, "causal");
  add(g.window.limits(), "window");
  add(g.softcap > 0, "softcap");
  add(g.alibi, "alibi");
  add(g.bias != DType::none, "bias");
  add(g.mask, "mask");
  add(g.sink, "sink");
  add(g.dropout, "dropout");
  return s.empty() ? "none" : s;
}

}  // namespace

bool deterministic(const Kernel& k, int split) { return k.pass == Pass::forward || split > 0; }

template <typename D>
bool Common<D>::is_of_op(const Kernel& k) {
  return k.pass == pass_of(static_cast<const D*>(nullptr));
}

// ---- names ----

template <typename D>
std::string Common<D>::stem(const Kernel& k) {
  std::string s = text(".", name(k.arch), ".", short_name(k.operand));
  if (k.dim > 0) s += text(".d", k.dim);
  s += text(".", k.tile_m, "x", k.tile_n);
  if (k.stages > 0) s += text(".s", k.stages);
  if (k.operand == DType::f32 && k.arch != Arch::host) s += text(".", name(k.math));
  return s;
}

/// A backward kernel that can leave the order of dQ's sum open does: 0; or keeps it: 1.
template <typename D>
int Common<D>::plain_split(const Kernel& k) {
  return k.pass == Pass::backward && k.divides ? 0 : 1;
}

template <typename D>
std::string Common<D>::split_name(const Kernel& k, int split) {
  return split == plain_split(k) ? "" : k.pass == Pass::backward ? ".ordered" : text(".k", split);
}

template <typename D>
std::optional<int> Common<D>::split_of(const Kernel& k, std::string_view suffix) {
  if (!k.divides) return std::nullopt;
  if (k.pass == Pass::backward) return suffix == ".ordered" ? std::optional(1) : std::nullopt;
  return split_of_suffix(suffix);
}

template <typename D>
std::string Common<D>::wanted(const D& g) {
  const FmhaDescriptor& f = forward_of(g);
  return text(name(f.dtype), " attention", is_of_backward(g) ? " gradients" : "", " of head dimension ",
              std::max(f.dim, f.dim_v));
}

template <typename D>
void Common<D>::write(tuning::Key& key, const D& g) {
  const FmhaDescriptor& f = forward_of(g);
  key.field("batch", f.batch).field("heads", f.heads).field("heads_k", f.heads_k);
  key.field("seq_q", f.seq_q).field("seq_k", f.seq_k).field("dim", f.dim).field("dim_v", f.dim_v);
  key.field("dtype", name(f.dtype)).field(is_of_backward(g) ? "grad" : "o", name(written_by(g))).word("varlen", f.varlen);
  if (f.causal != Causal::none) key.field("causal", name(f.causal));
  if (f.window.limits()) key.field("left", f.window.left).field("right", f.window.right).field("align", name(f.align));
}

template <typename D>
void Common<D>::write_options(tuning::Key& key, const D& g) {
  const FmhaDescriptor& f = forward_of(g);
  key.word("softcap", f.softcap > 0).word("alibi", f.alibi);
  if (f.bias != DType::none) key.field("bias", name(f.bias));
  key.word("mask", f.mask).word("sink", f.sink).word("seqused_k", f.seqused_k).word("dropout", f.dropout);
  write_gradients(key, g);
}

template <typename D>
void Common<D>::describe(KernelSku& s, const Kernel& k, int split, const D& g) {
  const FmhaDescriptor& f = forward_of(g);
  s.category = "attention";
  s.d = written_by(g);
  s.layout = name(f.layout);
  s.epilogue = options(f);
  s.tile_k = k.dim;
  if (k.operand == DType::f32) s.schedule = name(k.math);
  if (k.pass == Pass::backward && k.divides) s.schedule = split > 0 ? "ordered" : "unordered";
  s.split_k = k.pass == Pass::forward ? split : 1;
}

template <typename D>
bool Common<D>::is_empty(const D& g) {
  const FmhaDescriptor& f = forward_of(g);
  return f.batch == 0 || f.heads == 0 || f.seq_q == 0 || f.seq_k == 0;
}

template <typename D>
DType Common<D>::multiplies(const D& g) {
  return forward_of(g).dtype;
}

// ---- obstacles ----

template <typename D>
bool Common<D>::fits(const Kernel& k, const D& g, const Setting&) {
  const FmhaDescriptor& f = forward_of(g);
  return k.operand == f.dtype && (k.dim == 0 || std::max(f.dim, f.dim_v) <= k.dim);
}

template <typename D>
std::string Common<D>::obstacle(const Kernel& k, const D& descriptor, const Setting& s, int split) {
  const FmhaDescriptor& g = forward_of(descriptor);
  const PlanPreference& preference = s.preference;
  if (k.pass == Pass::backward && (preference.deterministic || preference.batch_invariant) && !deterministic(k, split)) {
    return text(preference.deterministic ? "deterministic" : "batch_invariant",
                ": the kernel adds to dq as its blocks come; with .ordered after its name they take turns");
  }
  if (k.pass == Pass::forward && split > 1 && preference.batch_invariant) return "batch_invariant: keys must not be split";
  if (k.arch == Arch::host) return {};
  // Rows of a sequence and blocks are counted in 32 bits.
  if (std::max(g.seq_q, g.seq_k) >= (int64_t{1} << 31) - 1024) return "a sequence of 2^31 rows or more";
  const double tiles = static_cast<double>(g.heads) * static_cast<double>(std::max<int64_t>(g.batch, 1)) *
                       static_cast<double>(std::max(ceil_div(g.seq_q, k.tile_m), ceil_div(g.seq_k, k.tile_n)) + 1);
  if (tiles * std::max(split, 1) >= std::ldexp(1.0, 31)) return "more tiles than 32 bits count";
  return {};
}

template <typename D>
std::size_t Common<D>::workspace(const Kernel& k, const D& g, int split, int) {
  return workspace_of(k, g, split);
}

template struct Common<FmhaDescriptor>;
template struct Common<FmhaBackwardDescriptor>;

// The choice must not depend on how many rows come: as for one sequence, a long one where its length is theirs.
constexpr int64_t many = 4096;

FmhaDescriptor Forward::stand_in(FmhaDescriptor g) {
  g.batch = 1;
  g.seq_q = many;
  if (g.varlen) g.seq_k = many;
  return g;
}

FmhaBackwardDescriptor Backward::stand_in(FmhaBackwardDescriptor g) {
  g.forward.batch = 1;
  if (g.forward.varlen) g.forward.seq_q = g.forward.seq_k = many;
  return g;
}

// ---- cost ----

namespace {

constexpr double block_seconds = 3e-6;  // of a block, beside its tiles

/// What masks leave to do. Tiles without a visible key are skipped.
struct Work {
  int64_t query_tiles, key_tiles;  // of one head
  double tiles;                    // pairs of these that are computed
  double most_keys, most_queries;  // tiles of the longest row and column of such pairs
};

Work work(const FmhaDescriptor& g, int tile_m, int tile_n) {
  // Packed sequences are taken to be equally long: their lengths are in device memory.
  const int64_t sequences = g.varlen ? std::max<int64_t>(g.batch, 1) : 1;
  Problem p{};
  p.seq_q = ceil_div(g.seq_q, sequences);
  p.seq_k = ceil_div(g.seq_k, sequences);
  p.left = g.window.left < 0 ? unlimited : g.window.left;
  p.right = g.causal != Causal::none ? 0 : g.window.right < 0 ? unlimited : g.window.right;
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

/// Multiplications and additions that one SM's units do in a clock.
double flop_per_clock(const Kernel& k, const DeviceCosts& costs) {
  const double tensor = costs.tensor_flop * costs.mma_sync_share;
  if (k.operand == DType::f64) return costs.f64_flop;
  if (k.operand != DType::f32) return tensor;
  return k.math == Math::tf32 ? tensor / 2 : k.math == Math::tf32x3 ? tensor / 6 : costs.simt_flop;
}

/// Seconds that one SM takes for one pair of tiles of each of its `resident` blocks.
double pair_seconds(const Kernel& k, const Setting& s, double flop, double bytes, double resident) {
  double busy;
  const double per_clock = flop_per_clock(k, s.costs);
  if (k.teraflops > 0) {
    // Measured with all blocks that fit an SM; fewer leave gaps, though not as many as they are fewer.
    static const DeviceCosts h200 = costs_of({"", 90, 132, 0, 0});
    const double most = resident_blocks(k, s.device), newer = per_clock / flop_per_clock(k, h200);
    busy = resident * flop / (k.teraflops * 1e12 / 132 * newer * std::min(1.0, 1.4 * resident / most));
  } else {
    const double weights = static_cast<double>(k.tile_m) * k.tile_n / 14;  // 16 exponentials in a clock, and some more
    busy = resident * (flop / per_clock + weights) / s.costs.clock;
  }
  return std::max(busy, resident * bytes / s.costs.l2_bandwidth_per_sm);
}

/// Seconds of `blocks` blocks, of which the longest takes `longest` and the mean `mean`, on `slots` places. Long blocks
/// start first, so that uneven ones fill the end.
double schedule(double blocks, double slots, double longest, double mean) {
  if (longest <= 1.01 * mean) return std::ceil(blocks / slots) * longest;
  return std::max(longest, blocks / slots * mean);
}

int64_t queries_of_one(const FmhaDescriptor& g) {
  return g.varlen ? ceil_div(g.seq_q, std::max<int64_t>(g.batch, 1)) : g.seq_q;
}

/// Row tiles of a forward launch. With few queries the heads of a group share one.
double forward_blocks(const Kernel& k, const FmhaDescriptor& g) {
  const int64_t group = g.heads / std::max<int64_t>(g.heads_k, 1), queries = queries_of_one(g);
  const int64_t shared = !g.varlen && 2 * queries <= k.tile_m ? std::max<int64_t>(group, 1) : 1;
  return static_cast<double>(std::max<int64_t>(g.batch, 1)) * static_cast<double>(g.heads / shared) *
         static_cast<double>(ceil_div(queries * shared, k.tile_m));
}

/// Seconds of a launch of `blocks` blocks, `resident` of which share an SM.
double launch_seconds(const Setting& s, double blocks, double resident, double longest, double mean) {
  return s.costs.launch + schedule(blocks, resident * s.sms, longest + block_seconds, mean + block_seconds);
}

double resident_of(const Kernel& k, const Setting& s, double blocks) {
  return std::clamp(std::ceil(blocks / s.sms), 1.0, static_cast<double>(resident_blocks(k, s.device)));
}

}  // namespace

/// Ways to cut the keys: where row tiles leave SMs idle.
std::vector<int> Forward::splits(const Kernel& k, const FmhaDescriptor& g, const Setting& s) {
  std::vector<int> splits{1};
  if (s.preference.batch_invariant || !k.divides) return splits;
  if (forward_blocks(k, g) >= static_cast<double>(s.sms) * resident_blocks(k, s.device)) return splits;
  const Work w = work(g, k.tile_m, k.tile_n);
  for (int split : {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128}) {
    if (split <= w.most_keys) splits.push_back(split);
  }
  return splits;
}

/// Whether dQ's sum must have one order.
std::vector<int> Backward::splits(const Kernel& k, const FmhaBackwardDescriptor&, const Setting& s) {
  return {s.preference.deterministic || s.preference.batch_invariant ? 1 : plain_split(k)};
}

double Forward::predict(const Kernel& k, const FmhaDescriptor& g, const Setting& s, int split) {
  if (k.arch == Arch::host) return 0;
  const Work w = work(g, k.tile_m, k.tile_n);
  if (w.query_tiles == 0) return s.costs.launch;
  const double element = bits(g.dtype) / 8.0,
               heads = static_cast<double>(std::max<int64_t>(g.batch, 1)) * static_cast<double>(g.heads);
  const double blocks = forward_blocks(k, g) * split, resident = resident_of(k, s, blocks);
  const double flop = 4.0 * k.tile_m * k.tile_n * (k.dim > 0 ? k.dim : static_cast<double>(std::max(g.dim, g.dim_v)));
  const double bytes = k.tile_n * static_cast<double>(g.dim + g.dim_v) * element;
  double pair = pair_seconds(k, s, flop, bytes, resident);
  if (w.query_tiles == 1) {
    // No other tile has read these keys: they come from memory, as fast as the copies in flight bring them.
    const double in_flight = std::max(1, k.stages - 1) * bytes / 2 * resident;
    const double bandwidth =
        std::min({in_flight / s.costs.load_latency, s.costs.memory_bandwidth / std::min<double>(s.sms, blocks),
                  s.costs.l2_bandwidth_per_sm});
    pair = std::max(pair, bytes * resident / bandwidth);
  }
  const double mean = std::ceil(w.tiles / static_cast<double>(w.query_tiles) / split),
               longest = std::ceil(w.most_keys / split);
  const double seconds = launch_seconds(s, blocks, resident, longest * pair, mean * pair);
  if (split == 1) return seconds;
  const double partial =
      heads * static_cast<double>(queries_of_one(g)) * static_cast<double>(g.dim_v + 2) * sizeof(float) * split;
  return seconds + s.costs.launch + 2 * partial / s.costs.memory_bandwidth + split * 20e-9;
}

double Backward::predict(const Kernel& k, const FmhaBackwardDescriptor& b, const Setting& s, int) {
  if (k.arch == Arch::host) return 0;
  const FmhaDescriptor& g = b.forward;
  const Work w = work(g, k.tile_m, k.tile_n);
  if (w.query_tiles == 0 || w.key_tiles == 0) return s.costs.launch;
  const double sequences = static_cast<double>(std::max<int64_t>(g.batch, 1)),
               heads_k = static_cast<double>(std::max<int64_t>(g.heads_k, 1)),
               group = static_cast<double>(g.heads) / heads_k, key_tiles = static_cast<double>(w.key_tiles);
  const double blocks = sequences * heads_k * key_tiles, resident = resident_of(k, s, blocks);
  const double dim = k.dim > 0 ? k.dim : static_cast<double>(std::max(g.dim, g.dim_v));
  const double flop = 10.0 * k.tile_m * k.tile_n * dim;
  // Rows of Q and grad come in, those of dQ are added to.
  const double bytes =
      k.tile_m * (static_cast<double>(g.dim + g.dim_v) * bits(g.dtype) / 8.0 + static_cast<double>(g.dim) * sizeof(float));
  const double pair = pair_seconds(k, s, flop, bytes, resident);
  const double mean = group * w.tiles / key_tiles, longest = std::max(mean, group * w.most_queries);
  const double dq =
      static_cast<double>(g.seq_q) * static_cast<double>(g.heads * g.dim) * (g.varlen ? 1 : sequences) * sizeof(float);
  return s.costs.launch + launch_seconds(s, blocks, resident, longest * pair, mean * pair) +
         2 * dq / s.costs.memory_bandwidth;
}

}  // namespace cutplan::fmha
