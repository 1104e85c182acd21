// Which kernel should serve a problem: what it cannot, how its sums may be shared out, and the seconds that it would take.
#include <algorithm>
#include <cmath>

#include "core/text.hpp"
#include "gemm/family.hpp"
#include "gemm/stream_k.hpp"

namespace cutplan::gemm {

using std::int64_t;

GemmDescriptor canonical(GemmDescriptor g) {
  if (d_is_row_major(g.layout)) return g;
  g.layout = layout_of(!b_is_row_major(g.layout), !a_is_row_major(g.layout), true);
  std::swap(g.m, g.n);
  std::swap(g.a, g.b);
  std::swap(g.a_scale, g.b_scale);
  std::swap(g.a_zero, g.b_zero);
  Epilogue& e = g.epilogue;
  std::swap(e.row_scale, e.column_scale);
  if (e.bias != BiasOver::none) e.bias = e.bias == BiasOver::n ? BiasOver::m : BiasOver::n;
  return g;
}

Request::Request(const GemmDescriptor& resolved, std::optional<GroupedOver> over)
    : asked(resolved), over(over), g(canonical(resolved)), average(g) {
  if (!over) return;
  int64_t& shared = *over == GroupedOver::m ? average.m : average.k;
  shared = ceil_div(shared, std::max<int64_t>(average.batch, 1));
}

Request GroupedGemm::request(const GroupedGemmDescriptor& g) {
  GemmDescriptor all;
  all.m = g.m;
  all.n = g.n;
  all.k = g.k;
  all.batch = g.groups;
  all.a = g.a;
  all.b = g.b;
  all.d = all.c = all.residual = all.aux = g.d;
  all.bias = g.bias;
  all.layout = g.layout;
  all.epilogue = g.epilogue;
  all.a_scale = g.a_scale;
  all.b_scale = g.b_scale;
  all.weights = g.weights;
  all.alignment = g.alignment;
  return {all, g.over};
}

Request Common::stand_in(const Request& r) {
  constexpr int64_t many = 4096;
  GemmDescriptor g = r.asked;
  g.m = many;
  g.batch = 1;
  if (r.over == GroupedOver::k) g.k = many;
  return {g, r.over};
}

// ---- names ----

namespace {

/// Of packed weights that a kernel reads: those of one kind on devices, any on the host.
std::string_view packed_name(std::uint32_t formats) {
  const auto of = [](auto... each) { return ((1u << static_cast<int>(each)) | ...); };
  if (formats == of(WeightFormat::int4, WeightFormat::uint4)) return "int4";
  if (formats == of(WeightFormat::nf4, WeightFormat::e2m1)) return "table4";
  if (formats == of(WeightFormat::int8)) return "int8";
  return formats == of(WeightFormat::e4m3) ? "e4m3" : "any";
}

}  // namespace

std::string Common::stem(const Kernel& k) {
  std::string s = text(".", name(k.arch), ".", short_name(k.operand));
  if (k.operand_b != k.operand)
    s += k.operand_b == DType::u8 ? text("_packed_", packed_name(k.formats)) : text("_", short_name(k.operand_b));
  if ((k.operand == DType::f32 || is_float8(k.operand)) && k.arch != Arch::host) s += text(".", name(k.math));
  s += text(".", name(k.layout), ".", k.tile_m, "x", k.tile_n, "x", k.tile_k);
  if (k.stages > 0) s += text(".s", k.stages);
  if (k.cluster_m * k.cluster_n > 1) s += text(".c", k.cluster_m, "x", k.cluster_n);
  s += text(".", k.schedule, ".a", k.alignment);
  if (k.gate != Gate::none) s += text(".gate_", name(k.gate));
  return s;
}

std::string Common::split_name(const Kernel&, int split) {
  return split == 1 ? "" : split == stream_k ? ".stream_k" : text(".k", split);
}

std::optional<int> Common::split_of(const Kernel&, std::string_view suffix) {
  return suffix == ".stream_k" ? std::optional(stream_k) : split_of_suffix(suffix);
}

std::string Common::wanted(const Request& r) {
  const GemmDescriptor& g = r.g;
  std::string s = text(name(g.a), g.a == g.b ? "" : text(" and ", name(g.b)), " ", name(g.layout));
  if (g.epilogue.gate != Gate::none) s += text(" with gate='", name(g.epilogue.gate), "'");
  if (r.over) s += text(" with groups over ", name(*r.over));
  // An interleaved column-major B is two separate views.
  if (g.epilogue.gate == Gate::interleaved && b_is_row_major(g.layout))
    s += " (a column-major b is read as two, as gate='separate' has them)";
  return s;
}

void Common::write(tuning::Key& key, const Request& r) {
  const GemmDescriptor& g = r.g;  // of which several outputs take as long as one
  key.field("m", g.m).field("n", g.n).field("k", g.k).field(r.over ? "groups" : "batch", g.batch);
  if (r.over) key.field("over", name(*r.over));
  key.field("a", name(g.a));
  if (const WeightPacking& w = g.weights; w.format) {
    key.field("weights", name(*w.format)).field("group_size", w.group_size).field("scale", name(w.scale));
    key.word("zero", w.zero).word("permutation", w.permutation);
  }
  key.field("b", name(g.b)).field("d", name(g.d)).field("layout", name(g.layout));
  if (g.epilogue.gate != Gate::none) key.field("gate", name(g.epilogue.gate));
  key.field("alignment", g.alignment);
}

void Common::write_options(tuning::Key& key, const Request& r) {
  const GemmDescriptor& g = r.g;
  const Epilogue& e = g.epilogue;
  key.word("row_scale", e.row_scale).word("column_scale", e.column_scale);
  if (e.c) key.field("c", name(g.c));
  if (e.bias != BiasOver::none) key.field(e.bias == BiasOver::n ? "bias" : "bias_m", name(g.bias));
  if (e.activation != Activation::none) key.field("activation", name(e.activation));
  if (e.aux != Auxiliary::none) key.field(e.aux == Auxiliary::store ? "aux_store" : "aux_gradient", name(g.aux));
  if (e.residual) key.field("residual", name(g.residual));
  for (const auto& [field, of] : {std::pair("a_scale", g.a_scale), std::pair("b_scale", g.b_scale),
                                  std::pair("a_zero", g.a_zero), std::pair("b_zero", g.b_zero)}) {
    if (of) key.field(field, name(*of));
  }
  key.word("out_scale", e.out_scale).word("amax", e.amax);
}

void Common::describe(KernelSku& s, const Kernel& k, int split, const Request& r) {
  const Epilogue& e = r.asked.epilogue;
  s.b = k.operand_b;
  if (k.operand == DType::i8) s.accumulator = DType::i32;
  s.d = r.asked.d;
  s.layout = name(r.asked.layout);
  s.tile_k = k.tile_k;
  s.cluster_m = k.cluster_m;
  s.cluster_n = k.cluster_n;
  s.schedule = k.schedule;
  s.split_k = split;
  // In the order of the formula: "row_scale+c+bias+gelu_erf+residual".
  const GemmDescriptor& g = r.asked;
  for (const auto& [option, of] : {std::pair("a_zero", g.a_zero), std::pair("b_zero", g.b_zero),
                                   std::pair("a_scale", g.a_scale), std::pair("b_scale", g.b_scale)}) {
    if (of) s.epilogue += text(option, "_", name(*of), "+");
  }
  if (e.row_scale) s.epilogue += "row_scale+";
  if (e.column_scale) s.epilogue += "column_scale+";
  if (e.c) s.epilogue += "c+";
  if (e.bias != BiasOver::none) s.epilogue += e.bias == BiasOver::n ? "bias+" : "bias_m+";
  s.epilogue += name(e.activation);
  if (e.aux != Auxiliary::none) s.epilogue.append("+aux_").append(name(e.aux));
  if (e.gate != Gate::none) s.epilogue.append("+gate_").append(name(e.gate));
  if (e.residual) s.epilogue += "+residual";
  if (e.amax) s.epilogue += "+amax";
  if (e.out_scale) s.epilogue += "+out_scale";
  if (has_several_outputs(g)) s.epilogue += "+out_columns";
}

// ---- obstacles ----

bool Common::fits(const Kernel& k, const Request& r, const Setting&) {
  const Gate gate = r.g.epilogue.gate;
  // The host's kernels compute any gate; an interleaved column-major B is two separate views (operands.cpp).
  const bool serves_gate =
      k.gate == gate || k.arch == Arch::host ||
      (k.gate == Gate::separate && gate == Gate::interleaved && !b_is_row_major(r.g.layout) && !r.g.weights.format);
  return k.operand == r.g.a && k.operand_b == r.g.b && k.layout == r.g.layout && serves_gate && (k.groups || !r.over);
}

namespace {

constexpr double largest_split = 16;
constexpr int largest_cluster = 8;

int64_t tiles_of(const Kernel& k, const GemmDescriptor& g) {
  return ceil_div(g.m, k.tile_m) * ceil_div(g.n, k.tile_n) * g.batch;
}

/// How stream-K would cut a problem; tiles = 0: not at all. A cluster is one worker.
StreamPartition partition_of(const Kernel& k, const GemmDescriptor& g, int sms) {
  const int64_t tiles = ceil_div(g.m, k.tile_m * k.cluster_m) * ceil_div(g.n, k.tile_n) * g.batch;
  return stream_partition(static_cast<std::uint32_t>(tiles), static_cast<std::uint32_t>(sms / k.cluster_m));
}

/// Cut tiles leave blocks at different steps of K, whose reads then meet in L2 no more, but for those within a cluster. Without
/// one, tiles cut end to end took up to 1.6 times as long, and 27 waves after 20 tiles cut alike 1.2 times (H200).
bool stream_k_may_pay(const Kernel& k, const GemmDescriptor& average, int64_t length, int sms) {
  if (!k.streams_k || length < int64_t{8} * k.tile_k || sms < k.cluster_m) return false;
  const StreamPartition cut = partition_of(k, average, sms);
  const bool shares_reads = k.cluster_m > 1 || (cut.slices > 1 && tiles_of(k, average) <= int64_t{8} * sms);
  return cut.tiles > 0 && shares_reads;
}

std::string stream_k_obstacle(const Kernel& k, const Request& r, const Setting& s) {
  if (r.over || !k.streams_k || r.g.k == 0)
    return "stream-K: a single product of K >= 1 and a TMA kernel of 64 rows or more required";
  // Workers, tiles and steps are multiplied in 32 bits.
  const int64_t most = (int64_t{1} << 32) / (int64_t{s.sms} * s.sms) * k.tile_k;
  if (r.g.k >= most) return text("stream-K: K below ", most, " required on ", s.sms, " SMs, got ", r.g.k);
  return {};
}

std::string split_k_obstacle(const Kernel& k, const Request& r, const Setting& s, int split) {
  const int64_t length = r.g.k;
  if (k.slices_meet && split > largest_cluster)
    return text("split_k: slices meet in a cluster of at most ", largest_cluster, " blocks, got ", split);
  const bool slices_hold_work =
      length > 0 && split <= largest_split && ceil_div(length, split_extent(length, split, k.tile_k)) == split;
  if (r.over || !k.splits_k || !slices_hold_work) return text("K = ", length, " cannot be cut into ", split, " slices");
  if (const int64_t wanted = tiles_of(k, r.average) * split; k.slices_meet && s.sms < s.device.sm_count && wanted > s.sms)
    return text("sm_count: ", wanted, " SMs required, a cluster for each tile, got ", s.sms);
  return {};
}

}  // namespace

std::vector<int> Common::splits(const Kernel& k, const Request& r, const Setting& s) {
  std::vector<int> splits{1};
  if (s.preference.batch_invariant || r.over) return splits;
  if (stream_k_may_pay(k, r.average, r.g.k, s.sms)) splits.push_back(stream_k);
  if (!k.splits_k || tiles_of(k, r.average) > int64_t{2} * s.sms * resident_blocks(k, s.device)) return splits;
  for (const int split : {2, 3, 4, 6, 8, 12, 16}) {
    if (r.g.k >= int64_t{4} * split * k.tile_k) splits.push_back(split);
  }
  return splits;
}

std::string Common::obstacle(const Kernel& k, const Request& r, const Setting& s, int split) {
  if (k.arch == Arch::host) return split == 1 ? "" : "the host does not split K";
  const GemmDescriptor& g = r.g;
  const auto along_k = [](std::optional<Granularity> of) { return of && !is_factor_of_d(of); };
  if (!k.scales_along_k && (along_k(g.a_scale) || along_k(g.b_scale))) return "scales that change along K are not served";
  if (g.weights.format && (k.formats >> static_cast<int>(*g.weights.format) & 1) == 0)
    return text("weights of format ", name(*g.weights.format), " are not served");
  if (g.weights.permutation && (!k.permutes || k.gate != Gate::none))  // b and b2 each have theirs, and the copy of A one
    return "packed rows in an order of their own are not served";
  if (!k.zeros && (g.a_zero || g.b_zero)) return "zeros of a and b are not served";
  if (k.cluster_m * k.cluster_n > s.sms) return "sm_count is less than a cluster takes";
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
  if (split == 1) return {};
  if (s.preference.batch_invariant) return "split K is not batch-invariant";
  return split == stream_k ? stream_k_obstacle(k, r, s) : split_k_obstacle(k, r, s, split);
}

bool Common::same_order(const Kernel& x, const Kernel& y, const DeviceProperties& device) {
  if (x.summation == y.summation || x.operand == DType::i8) return true;  // integers: sums are exact
  // mma.sync and wgmma of one depth round alike on a Hopper: a test holds all pairs to it. Of other cards nothing is assumed.
  Summation other = y.summation;
  const auto tensor = [](Multiplier m) { return m == Multiplier::mma_sync || m == Multiplier::wgmma; };
  if (device.compute_capability == 90 && bits(x.operand) == 16 && tensor(x.summation.multiplier) && tensor(other.multiplier))
    other.multiplier = x.summation.multiplier;
  return x.summation == other;
}

std::size_t Common::workspace(const Kernel& k, const Request& r, int split, int sms) {
  const GemmDescriptor& g = r.g;
  const std::size_t first = k.gathers ? gathered_bytes(weights::layout_of(g.weights, g.k), g.m * (r.over ? 1 : g.batch))
                            : k.zeros && k.arch != Arch::host && (g.a_zero || g.b_zero) ? zero_sums_bytes(g.m, g.n, g.batch)
                                                                                        : 0;
  if (split == stream_k) {
    const int factors = k.gate == Gate::none ? 1 : 2;
    return first + stream_flags_bytes(sms) +
           static_cast<std::size_t>(sms) * static_cast<std::size_t>(k.tile_m) *
               static_cast<std::size_t>(k.tile_n * factors) * sizeof(float);
  }
  if (first != 0) return first;  // of kernels that split K in no other way
  return split > 1 && !k.slices_meet
             ? static_cast<std::size_t>(g.m) * static_cast<std::size_t>(g.n) * static_cast<std::size_t>(g.batch) *
                   static_cast<std::size_t>(split) * (g.a == DType::f64 ? sizeof(double) : sizeof(float))
             : 0;
}

// ---- cost ----

namespace {

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

/// What a launch has to do, in tiles.
struct Work {
  double tiles, resident, waves;  // resident: blocks on an SM
  double k;                       // products of an element that one block adds up
  double flop;                    // of a tile
  double a_rows, b_rows;          // of A and B that exist, of a tile
  int factors;                    // columns of B to one of D
};

Work work_of(const Kernel& k, const GemmDescriptor& g, const Setting& s, int split) {
  const auto up = [](int64_t a, int64_t b) { return static_cast<double>(ceil_div(a, b)); };
  Work w;
  w.factors = g.epilogue.gate == Gate::none ? 1 : 2;
  w.k = static_cast<double>(split > 1 ? split_extent(g.k, split, k.tile_k) : g.k);
  // A cluster is scheduled whole, with tiles outside D if need be.
  w.tiles = up(g.m, k.tile_m * k.cluster_m) * k.cluster_m * up(g.n, k.tile_n * k.cluster_n) * k.cluster_n *
            static_cast<double>(g.batch) * std::max(split, 1);
  const auto most = static_cast<double>(resident_blocks(k, s.device));
  w.resident = std::clamp(std::ceil(w.tiles / s.sms), 1.0, most);
  // Blocks of a cluster share a GPC, in which some room is left over: 252 blocks in clusters of 3 take two waves on 132 SMs with
  // room for two each (H200).
  const double filled = k.slices_meet && split > 1 && w.resident == most ? 0.94 : 1;
  w.waves = std::ceil(w.tiles / (w.resident * s.sms * filled));
  w.flop = 2.0 * k.tile_m * k.tile_n * w.factors * std::ceil(w.k / k.tile_k) * k.tile_k;
  w.a_rows = static_cast<double>(std::min<int64_t>(g.m, k.tile_m));
  w.b_rows = static_cast<double>(w.factors * std::min<int64_t>(g.n, k.tile_n));
  return w;
}

/// Bytes of an element of B; of packed weights with its share of scales.
double bytes_of_b(const GemmDescriptor& g) {
  if (!g.weights.format) return bits(g.b) / 8.0;
  const double of_group = (g.weights.zero ? 2.0 : 1.0) * bits(g.weights.scale);
  return (bits(*g.weights.format) +
          of_group / static_cast<double>(weights::resolved_group_size(g.k, g.weights.group_size))) /
         8;
}

/// Bytes of A and B.
double operand_bytes(const GemmDescriptor& g, int factors) {
  return static_cast<double>(g.batch) * static_cast<double>(g.k) *
         (static_cast<double>(g.m) * bits(g.a) / 8 + factors * static_cast<double>(g.n) * bytes_of_b(g));
}

/// Seconds that the blocks of one SM need to bring their tiles' operands. A block has at most its ring of slots in flight, and
/// shares what arrives at its SM. What no other tile has read yet passes L2 twice.
double seconds_to_load(const Kernel& k, const GemmDescriptor& g, const Setting& s, const Work& w) {
  constexpr double split_lines = 1.4;
  const double of_a = bits(g.a) / 8.0, of_b = bytes_of_b(g), of_k = w.a_rows * of_a + w.b_rows * of_b;
  const double in_flight = of_k * k.tile_k * std::max(1, k.stages - 1);
  // Rows that do not begin with a line of 128 bytes cost two lines for one: 3072 x 3072 takes up to 2.1 times as long with K =
  // 3000 as with 3072 (H200). A contiguous operand's extent is its pitch.
  const auto lines = [&](int64_t pitch) { return pitch * bits(g.a) % (8 * 128) == 0 ? 1.0 : split_lines; };
  const double lines_b = g.weights.format ? 1 : lines(b_is_row_major(g.layout) ? g.n : g.k);
  const double reads = (w.a_rows * of_a * lines(a_is_row_major(g.layout) ? g.k : g.m) + w.b_rows * of_b * lines_b) * w.k;
  return std::max(
      of_k * w.k * s.costs.load_latency / in_flight,
      (reads + std::min(reads, operand_bytes(g, w.factors) / w.tiles)) * w.resident / s.costs.l2_bandwidth_per_sm);
}

double seconds_to_multiply(const Kernel& k, const Setting& s, const Work& w) {
  // IEEE float32 is up to the CUDA cores, of which other cards have no fewer than a Hopper.
  const bool simt = k.operand == DType::f32 && k.math == Math::strict && s.device.compute_capability != 80;
  const double flop = simt ? 4096 : s.costs.tensor_flop;
  return w.flop * w.resident / (flop * s.costs.clock * k.peak_fraction);
}

/// Seconds that memory needs for A, B and D. Rows of a tile that do not exist take up slots all the same: less is in flight.
double seconds_of_memory(const Kernel& k, const GemmDescriptor& g, const Setting& s, const Work& w) {
  const double d = static_cast<double>(g.batch) * static_cast<double>(g.m) * static_cast<double>(g.n) * bits(g.d) / 8;
  const double absent = static_cast<double>(std::max<int64_t>(k.tile_m - g.m, 0)) / (k.tile_m + w.factors * k.tile_n);
  return (operand_bytes(g, w.factors) + d) / s.costs.memory_bandwidth * (1 + 0.4 * absent);
}

}  // namespace

/// By count of waves, tensor core work and bytes. The 16-bit sm90 kernels' numbers are fitted to 274 problems of 1 to 16384 rows
/// (python -m benchmarks.selection --judge benchmarks/results/selection-h200.json).
double Common::predict(const Kernel& k, const Request& r, const Setting& s, int split) {
  if (k.arch == Arch::host) return 0;
  constexpr double start = 3.5e-6, reduction = 9e-6, meeting = 1e-6, flags = 6e-6, gathering = 4e-6;
  const GemmDescriptor& g = r.average;
  const Work w = work_of(k, g, s, split);
  const double of_wave = std::max(seconds_to_multiply(k, s, w), seconds_to_load(k, g, s, w)),
               exposed = k.exposed_seconds * epilogue_work(g.epilogue.activation) / w.resident,
               memory = seconds_of_memory(k, g, s, w) + exposed,
               copied = k.gathers ? gathering + 2 * static_cast<double>(r.g.m) * static_cast<double>(r.g.k) * bits(g.a) / 8 /
                                                    s.costs.memory_bandwidth
                                  : 0,
               launch = s.costs.launch + start + copied;
  if (split == stream_k) {
    const StreamPartition cut = partition_of(k, g, s.sms);
    const double last_wave = cut.slices > 1 ? 1.0 / cut.slices : static_cast<double>(cut.tiles) * k.cluster_m / s.sms;
    const double sums = static_cast<double>(k.tile_m) * k.tile_n * w.factors * sizeof(float);
    return std::max((w.waves - 1 + last_wave) * of_wave + w.waves * exposed, memory) + launch + flags +
           std::max<double>(cut.slices, 2) * sums / s.costs.l2_bandwidth_per_sm;  // left once, added by one of them
  }
  const double seconds = std::max(w.waves * (of_wave + exposed), memory) + launch;
  if (split == 1) return seconds;
  if (k.slices_meet) return seconds + meeting * split;
  const double sums =
      static_cast<double>(g.batch) * static_cast<double>(g.m) * static_cast<double>(g.n) * std::max(bits(g.a) / 8.0, 4.0);
  return seconds + reduction + sums * 2 * split / s.costs.memory_bandwidth;
}

}  // namespace cutplan::gemm
