#include "gemm/tune.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/half.hpp"
#include "core/kernels.hpp"
#include "core/text.hpp"
#include "core/tuning.hpp"
#include "gemm/check.hpp"
#include "gemm/measured.hpp"
#include "gemm/operands.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan::gemm {
namespace {

using gemm::request;
using std::int64_t;

[[maybe_unused]] const bool shipped = (tuning::ship(measured_table), true);

// ---- problems and kernels as the table names them ------------------------------------------------------------------------

class Key {
 public:
  Key(const Request& r, const DeviceProperties& device, const PlanPreference& preference) {
    const GemmDescriptor g = canonical(r.g);
    text_.reserve(320);
    text_ += r.over ? "grouped_gemm" : "gemm";
    field("m", g.m);
    field("n", g.n);
    field("k", g.k);
    field(r.over ? "groups" : "batch", g.batch);
    if (r.over) field("over", name(*r.over));
    field("a", name(g.a));
    field("b", name(g.b));
    field("d", name(g.d));
    field("layout", name(g.layout));
    if (g.epilogue.gate != Gate::none) field("gate", name(g.epilogue.gate));
    field("alignment", g.alignment);
    field("sm_count", occupied_sms(preference, device));
    if (g.a == DType::f32) field("math", name(preference.math));
    if (preference.arch) field("arch", name(*preference.arch));
    if (preference.deterministic) text_ += " deterministic";
    if (preference.batch_invariant) text_ += " batch_invariant";
    if (preference.max_workspace_bytes != PlanPreference().max_workspace_bytes) {
      // Limits between two powers of two share an entry; a kernel that needs more than the limit at hand is no candidate.
      std::size_t limit = preference.max_workspace_bytes;
      while ((limit & (limit - 1)) != 0) limit &= limit - 1;
      field("workspace", static_cast<int64_t>(limit));
    }
    plain_ = text_.size();
    const Epilogue& e = g.epilogue;
    if (e.row_scale) text_ += " row_scale";
    if (e.column_scale) text_ += " column_scale";
    if (e.c) field("c", name(g.c));
    if (e.bias != BiasOver::none) field(e.bias == BiasOver::n ? "bias" : "bias_m", name(g.bias));
    if (e.activation != Activation::none) field("activation", name(e.activation));
    if (e.aux != Auxiliary::none) field(e.aux == Auxiliary::store ? "aux_store" : "aux_gradient", name(g.aux));
    if (e.residual) field("residual", name(g.residual));
  }

  const std::string& full() const { return text_; }
  bool has_epilogue() const { return plain_ < text_.size(); }
  std::string without_epilogue() const { return text_.substr(0, plain_); }

 private:
  void field(const char* name, const char* value) { text_.append(" ").append(name).append("=").append(value); }

  void field(const char* name, int64_t value) {
    char digits[24];
    *std::to_chars(digits, digits + sizeof digits - 1, value).ptr = '\0';
    field(name, digits);
  }

  std::string text_;
  std::size_t plain_ = 0;  // length without the epilogue
};

/// What is measured, and known, in place of `r`: a batch-invariant choice must not depend on how many rows come.
Request stand_in(Request r, const PlanPreference& preference) {
  constexpr int64_t some_length = 4096;
  if (preference.batch_invariant) {
    r.g.m = some_length;
    r.g.batch = 1;
    if (r.over == GroupedOver::k) r.g.k = some_length;
  }
  return r;
}

struct Known {
  std::string problem;
  tuning::Entry entry;
};

/// What an epilogue does between registers and memory hardly changes which main loop is best: what is known of the product
/// alone serves until the problem itself is measured.
std::optional<Known> find(const Key& key, const DeviceProperties& device) {
  if (std::optional<tuning::Entry> entry = tuning::find(device, key.full())) return Known{key.full(), *std::move(entry)};
  if (!key.has_epilogue()) return std::nullopt;
  std::string plain = key.without_epilogue();
  if (std::optional<tuning::Entry> entry = tuning::find(device, plain)) return Known{std::move(plain), *std::move(entry)};
  return std::nullopt;
}

/// A kernel's name without its split. Kept, because writing it takes longer than all the rest of a look-up.
const std::string& name_of(const Kernel& kernel, bool grouped) {
  struct Names {
    std::shared_mutex mutex;
    std::unordered_map<const Kernel*, std::string> names[2];
  };
  static Names& all = *new Names;  // never destroyed: a thread may still select while the process ends
  auto& known = all.names[grouped ? 1 : 0];
  {
    const std::shared_lock<std::shared_mutex> lock(all.mutex);
    if (const auto found = known.find(&kernel); found != known.end()) return found->second;
  }
  GemmDescriptor g;
  g.a = g.b = g.d = kernel.operand;
  std::string name = sku(kernel, 1, {g, grouped ? std::optional(GroupedOver::m) : std::nullopt}).name;
  const std::unique_lock<std::shared_mutex> lock(all.mutex);
  return known.emplace(&kernel, std::move(name)).first->second;
}

bool bring_to_front(std::vector<Choice>& choices, std::string_view kernel, bool grouped) {
  const auto is_it = [&](const Choice& choice) {
    const std::string& base = name_of(*choice.kernel, grouped);
    if (kernel.compare(0, base.size(), base) != 0) return false;
    return kernel.substr(base.size()) == split_name(choice.split_k);
  };
  const auto found = std::find_if(choices.begin(), choices.end(), is_it);
  if (found == choices.end()) return false;
  std::rotate(choices.begin(), found, found + 1);
  return true;
}

// ---- measuring -----------------------------------------------------------------------------------------------------------

constexpr int candidates_to_tune = 24;  // of some fifty: the model orders them roughly, and each costs time to measure

/// One block of host or device memory.
class Block {
 public:
  Block(Device device, std::size_t bytes) : device_(device) {
    if (device.type == DeviceType::cpu) data_ = ::operator new(bytes, std::align_val_t(workspace_alignment));
#if CUTPLAN_WITH_CUDA
    if (device.type == DeviceType::cuda) check_cuda(cudaMalloc(&data_, bytes), "cudaMalloc");
#endif
  }
  ~Block() {
    if (device_.type == DeviceType::cpu) ::operator delete(data_, std::align_val_t(workspace_alignment));
#if CUTPLAN_WITH_CUDA
    if (device_.type == DeviceType::cuda) cudaFree(data_);
#endif
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  unsigned char* data() const { return static_cast<unsigned char*>(data_); }

 private:
  Device device_;
  void* data_ = nullptr;
};

/// Random numbers from -1 to 1: a multiplier that is fed zeros draws less power, and so runs faster than it will.
std::vector<unsigned char> random_elements(DType type, std::size_t count) {
  const auto width = static_cast<std::size_t>(bits(type) / 8);
  std::vector<unsigned char> bytes(count * width);
  std::minstd_rand generator(1);
  for (std::size_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(generator()) * (2.0 / std::minstd_rand::max()) - 1.0;
    const auto narrow = static_cast<float>(value);
    unsigned char* to = bytes.data() + i * width;
    const auto write = [&](const auto& element) { std::memcpy(to, &element, sizeof element); };
    switch (type) {
      case DType::f64: write(value); break;
      case DType::f32: write(narrow); break;
      case DType::f16: write(Half(narrow)); break;
      case DType::bf16: write(BFloat16(narrow)); break;
      default: refuse_unexpected_type(type);
    }
  }
  return bytes;
}

/// Operands of a problem in memory of their own, contiguous but for what alignment asks. Groups are of one size.
class Operands {
 public:
  Operands(const Request& r, Device device, std::size_t workspace_bytes, std::size_t flush_bytes)
      : device_(device), workspace_bytes_(workspace_bytes) {
    const GemmDescriptor& g = r.g;
    const Epilogue& e = g.epilogue;
    const bool b_rows = b_is_row_major(g.layout), d_rows = d_is_row_major(g.layout), over_m = r.over == GroupedOver::m;
    const int64_t halves = e.gate == Gate::interleaved ? 2 : 1;
    // Over m the groups' As and Ds are rows of one, over k their As and Bs.
    const int64_t a_batch = r.over ? 0 : g.batch, b_batch = r.over && !over_m ? 0 : g.batch, d_batch = over_m ? 0 : g.batch;
    matrix(all_.a, g.a, a_batch, g.m, g.k, a_is_row_major(g.layout), g.alignment);
    matrix(all_.b, g.b, b_batch, g.k, halves * g.n, b_rows, g.alignment);
    if (e.gate == Gate::separate) matrix(all_.b2, g.b, b_batch, g.k, g.n, b_rows, g.alignment);
    matrix(all_.d, g.d, d_batch, g.m, g.n, d_rows);
    if (e.c) matrix(all_.c, g.c, g.batch, g.m, g.n, d_rows);
    if (e.residual) matrix(all_.residual, g.residual, g.batch, g.m, g.n, d_rows);
    if (e.aux != Auxiliary::none) matrix(all_.aux, g.aux, g.batch, g.m, g.n, d_rows);
    const bool two_biases = e.bias == BiasOver::n && e.gate == Gate::separate;
    if (e.bias == BiasOver::m) matrix(all_.bias, g.bias, 0, g.m, 1, true);
    if (over_m) {
      if (e.bias == BiasOver::n) matrix(all_.bias, g.bias, 0, g.batch, halves * g.n, true);
      if (two_biases) matrix(all_.bias2, g.bias, 0, g.batch, g.n, true);
      if (e.column_scale) matrix(all_.column_scale, DType::f32, 0, g.batch, g.n, true);
    } else {
      if (e.bias == BiasOver::n) vector(all_.bias, g.bias, halves * g.n);
      if (two_biases) vector(all_.bias2, g.bias, g.n);
      if (e.column_scale) vector(all_.column_scale, DType::f32, g.n);
    }
    if (e.row_scale) vector(all_.row_scale, DType::f32, g.m);
    if (e.c) all_.beta = 1;
    if (r.over) {
      vector(offsets_, DType::i32, g.batch + 1);
      placed_.back().values = even_offsets(g.batch, over_m ? g.m : g.k);
    }
    const std::size_t workspace = reserve(workspace_bytes), flush = reserve(flush_bytes);
    refuse_too_large();
    block_.emplace(device, bytes_);
    for (const Placed& placed : placed_) {
      placed.view->data = block_->data() + placed.offset;
      fill(placed);
    }
    workspace_ = block_->data() + workspace;
    flush_ = block_->data() + flush;
  }

  const GemmArguments& arguments() const { return all_; }
  GroupedGemmArguments grouped_arguments() const {
    GroupedGemmArguments grouped;
    grouped.a = all_.a;
    grouped.b = all_.b;
    grouped.d = all_.d;
    grouped.offsets = offsets_;
    grouped.bias = all_.bias;
    grouped.b2 = all_.b2;
    grouped.bias2 = all_.bias2;
    grouped.row_scale = all_.row_scale;
    grouped.column_scale = all_.column_scale;
    return grouped;
  }
  Workspace workspace() const { return {workspace_, workspace_bytes_}; }
  void* flush() const { return flush_; }

 private:
  struct Placed {
    TensorView* view;
    std::size_t offset;
    int64_t elements;
    std::vector<std::int32_t> values;  // empty: random
  };

  static std::vector<std::int32_t> even_offsets(int64_t groups, int64_t extent) {
    std::vector<std::int32_t> offsets;
    for (int64_t i = 0; i <= groups; ++i) offsets.push_back(static_cast<std::int32_t>(extent * i / groups));
    return offsets;
  }

  std::size_t reserve(std::size_t bytes) {
    const std::size_t offset = bytes_;
    bytes_ += (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
    return offset;
  }

  void place(TensorView& view, DType type, int64_t elements) {
    view.dtype = type;
    view.device = device_;
    placed_.push_back(
        {&view, reserve(static_cast<std::size_t>(elements) * static_cast<std::size_t>(bits(type)) / 8), elements, {}});
  }

  /// A batch of 0: a matrix without that dimension.
  void matrix(TensorView& view, DType type, int64_t batch, int64_t rows, int64_t columns, bool row_major,
              int alignment = 1) {
    const int64_t run = row_major ? columns : rows, runs = row_major ? rows : columns;
    const int64_t step = std::max<int64_t>(1, alignment * 8 / bits(type)), ld = (run + step - 1) / step * step;
    view.rank = batch == 0 ? 2 : 3;
    int i = 0;
    if (batch > 0) {
      view.shape[i] = batch;
      view.strides[i++] = ld * runs;
    }
    view.shape[i] = rows;
    view.strides[i] = row_major ? ld : 1;
    view.shape[i + 1] = columns;
    view.strides[i + 1] = row_major ? 1 : ld;
    place(view, type, std::max<int64_t>(batch, 1) * ld * runs);
  }

  void vector(TensorView& view, DType type, int64_t elements) {
    view.rank = 1;
    view.shape[0] = elements;
    view.strides[0] = 1;
    place(view, type, elements);
  }

  void refuse_too_large() const {
#if CUTPLAN_WITH_CUDA
    if (device_.type == DeviceType::cuda) {
      std::size_t available = 0, total = 0;
      check_cuda(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
      if (bytes_ > available) {
        throw Unsupported(text("tune: measuring needs ", bytes_, " bytes of memory on ", cutplan::describe(device_),
                               " for operands and workspace, and ", available,
                               " are free; free some, or select with tune 'cached' or 'off'"));
      }
    }
#endif
  }

  void fill(const Placed& placed) {
    const auto copy = [&](void* to, const void* from, std::size_t count) {
#if CUTPLAN_WITH_CUDA
      if (device_.type == DeviceType::cuda) {
        check_cuda(cudaMemcpy(to, from, count, cudaMemcpyDefault), "cudaMemcpy");
        return;
      }
#endif
      std::memcpy(to, from, count);
    };
    auto* data = static_cast<unsigned char*>(placed.view->data);
    if (!placed.values.empty()) return copy(data, placed.values.data(), placed.values.size() * sizeof(std::int32_t));
    // A block of a length that no row has, over and over.
    constexpr int64_t most = 1048573;
    const std::vector<unsigned char> pattern =
        random_elements(placed.view->dtype, static_cast<std::size_t>(std::min(placed.elements, most)));
    const auto bytes = static_cast<std::size_t>(placed.elements) * static_cast<std::size_t>(bits(placed.view->dtype)) / 8;
    copy(data, pattern.data(), pattern.size());
    for (std::size_t done = pattern.size(); done < bytes;) {
      const std::size_t next = std::min(done, bytes - done);
      copy(data + done, data, next);
      done += next;
    }
  }

  Device device_;
  std::size_t workspace_bytes_, bytes_ = 0;
  GemmArguments all_;
  TensorView offsets_;
  std::vector<Placed> placed_;
  std::optional<Block> block_;
  void *workspace_ = nullptr, *flush_ = nullptr;
};

#if CUTPLAN_WITH_CUDA
/// A stream of its own with two events on it.
class Clock {
 public:
  Clock() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t& event : events_) check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  }
  ~Clock() {
    for (cudaEvent_t event : events_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;

  cudaStream_t stream() const { return stream_; }

  /// Writes over the L2 cache first: a kernel shall read its operands from memory, as it will where others run before it. It
  /// also keeps the device busy until what is to be timed has been enqueued.
  template <typename Enqueue>
  double seconds(void* flush, std::size_t flush_bytes, const Enqueue& enqueue) {
    check_cuda(cudaMemsetAsync(flush, 0, flush_bytes, stream_), "cudaMemsetAsync");
    check_cuda(cudaEventRecord(events_[0], stream_), "cudaEventRecord");
    enqueue();
    check_cuda(cudaEventRecord(events_[1], stream_), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(events_[1]), "cudaEventSynchronize");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t events_[2] = {};
};
#endif

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

using Run = std::function<void(Stream, Workspace)>;

/// The public plan of each choice, ready to run on the operands: what is measured is what users get.
template <typename Plan, typename Descriptor, typename Arguments>
void add_runs(std::vector<Run>& runs, const std::vector<std::string>& kernels, const Descriptor& descriptor, Device device,
              PlanPreference preference, const Arguments& arguments) {
  preference.tune = Tune::off;
  for (const std::string& kernel : kernels) {
    preference.kernel = kernel;
    runs.push_back([plan = Plan::select(descriptor, device, preference), arguments](Stream stream, Workspace workspace) {
      plan.run(arguments, stream, workspace);
    });
  }
}

GroupedGemmDescriptor grouped(const Request& r) {
  GroupedGemmDescriptor g;
  g.groups = r.g.batch;
  g.m = r.g.m;
  g.n = r.g.n;
  g.k = r.g.k;
  g.over = *r.over;
  g.a = r.g.a;
  g.b = r.g.b;
  g.d = r.g.d;
  g.bias = r.g.bias;
  g.layout = r.g.layout;
  g.epilogue = r.g.epilogue;
  g.alignment = r.g.alignment;
  return g;
}

/// Median seconds of each choice. Choices take turns, so that clocks and temperature are the same for all.
std::vector<double> measure(const std::vector<Choice>& choices, const Request& r, Device device,
                            const PlanPreference& preference, const TuningProgress& progress) {
  // Two measurements at a time would measure each other: they take turns.
  static std::mutex& one_at_a_time = *new std::mutex;
  std::unique_lock<std::mutex> turn(one_at_a_time);

  std::size_t workspace_bytes = 0;
  const int sms = occupied_sms(preference, device_properties(device));
  std::vector<std::string> kernels;
  for (const Choice& choice : choices) {
    workspace_bytes = std::max(workspace_bytes, workspace_size(*choice.kernel, choice.split_k, r.g, sms));
    kernels.push_back(sku(*choice.kernel, choice.split_k, r).name);
  }
#if CUTPLAN_WITH_CUDA
  std::optional<DeviceGuard> guard;
  std::optional<Clock> clock;
  if (device.type == DeviceType::cuda) {
    guard.emplace(device.id);
    clock.emplace();
  }
#endif
  const std::size_t flush_bytes = 2 * device_properties(device).l2_bytes;
  const Operands operands(r, device, workspace_bytes, flush_bytes);
  std::vector<Run> runs;
  if (r.over) {
    add_runs<GroupedGemmPlan>(runs, kernels, grouped(r), device, preference, operands.grouped_arguments());
  } else {
    add_runs<GemmPlan>(runs, kernels, r.g, device, preference, operands.arguments());
  }
  const auto seconds_of = [&](const Run& run) {
#if CUTPLAN_WITH_CUDA
    if (clock) {
      return clock->seconds(operands.flush(), flush_bytes, [&] { run(clock->stream(), operands.workspace()); });
    }
#endif
    const auto start = std::chrono::steady_clock::now();
    run(nullptr, operands.workspace());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };

  // Nothing is timed meanwhile, so others may have the turn: the callback may tune, or wait for a thread that does.
  const auto report = [&](int done, int total) {
    if (!progress) return;
    turn.unlock();
    progress(done, total);
    turn.lock();
  };
  constexpr int most_rounds = 15, least_rounds = 3;
  constexpr double enough_seconds = 0.5;  // of rounds, for one problem
  report(0, most_rounds);
  for (const Run& run : runs) seconds_of(run);  // a kernel's first launch also loads it
  double once = 0;
  for (const Run& run : runs) once += seconds_of(run);
  const int rounds = static_cast<int>(std::clamp<double>(enough_seconds / once, least_rounds, most_rounds));
  std::vector<std::vector<double>> samples(runs.size());
  for (int round = 0; round < rounds; ++round) {
    report(round, rounds);
    for (std::size_t i = 0; i < runs.size(); ++i) samples[i].push_back(seconds_of(runs[i]));
  }
  report(rounds, rounds);
  std::vector<double> medians;
  for (const std::vector<double>& s : samples) medians.push_back(median(s));
  return medians;
}

bool is_empty(const GemmDescriptor& g) { return g.m == 0 || g.n == 0 || g.k == 0 || g.batch == 0; }

/// Measures the choices, rank()'s first, and keeps the fastest.
std::vector<double> measure_and_keep(const std::vector<Choice>& choices, const Request& r, Device device,
                                     const PlanPreference& preference, const TuningProgress& progress) {
  std::vector<double> seconds = measure(choices, r, device, preference, progress);
  const auto best = static_cast<std::size_t>(std::min_element(seconds.begin(), seconds.end()) - seconds.begin());
  const DeviceProperties& properties = device_properties(device);
  tuning::keep(
      properties, Key(r, properties, preference).full(),
      {sku(*choices[best].kernel, choices[best].split_k, r).name, seconds[best], seconds.front(), TuningSource::measured});
  return seconds;
}

/// The first `count` of them; 0: all.
std::vector<Choice> most_promising(const std::vector<Choice>& choices, int count) {
  const auto size = count > 0 ? std::min(choices.size(), static_cast<std::size_t>(count)) : choices.size();
  return {choices.begin(), choices.begin() + static_cast<std::ptrdiff_t>(size)};
}

/// Of a resolved descriptor, beside that of registry.hpp for grouped ones.
Request request(const GemmDescriptor& descriptor) { return descriptor; }

/// The request of a plan: with every refusal of select(), and with work to measure.
template <typename Plan, typename Descriptor>
Request selectable(const Descriptor& descriptor, Device device, PlanPreference preference) {
  preference.tune = Tune::off;
  const Request r = request(Plan::select(descriptor, device, preference).descriptor());
  const GemmDescriptor& g = r.g;
  if (is_empty(g)) {
    throw InvalidProblem(text("measuring: extents of at least 1 required, got m=", g.m, " n=", g.n, " k=", g.k,
                              r.over ? " groups=" : " batch=", g.batch));
  }
  return r;
}

std::vector<GemmMeasurement> table_of(const std::vector<Choice>& choices, const std::vector<double>& seconds,
                                      const Request& r) {
  std::vector<GemmMeasurement> measured;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    measured.push_back(
        {sku(*choice.kernel, choice.split_k, r), seconds[i], choice.kernel->arch == Arch::host ? 0.0 : choice.seconds});
  }
  std::stable_sort(measured.begin(), measured.end(),
                   [](const GemmMeasurement& x, const GemmMeasurement& y) { return x.seconds < y.seconds; });
  return measured;
}

std::vector<GemmMeasurement> measured(const Request& r, Device device, const PlanPreference& preference, int candidates,
                                      const TuningProgress& progress) {
  const auto choices = most_promising(rank(r, device_properties(device), preference, nullptr), candidates);
  return table_of(choices, measure(choices, r, device, preference, progress), r);
}

std::vector<GemmMeasurement> tuned(const Request& r, Device device, const PlanPreference& preference,
                                   const TuningProgress& progress) {
  if (!preference.kernel.empty())
    throw InvalidProblem(text("kernel: none required where the fastest is looked for, got \"", preference.kernel, "\""));
  const auto choices = most_promising(rank(r, device_properties(device), preference, nullptr), candidates_to_tune);
  return table_of(choices, measure_and_keep(choices, stand_in(r, preference), device, preference, progress), r);
}

std::optional<TuningEntry> entry_of(const Request& r, const DeviceProperties& device, const PlanPreference& preference) {
  const std::optional<Known> known = find(Key(stand_in(r, preference), device, preference), device);
  if (!known) return std::nullopt;
  const tuning::Entry& e = known->entry;
  return TuningEntry{device.name, device.compute_capability, known->problem, e.kernel, e.seconds, e.model_seconds, e.source};
}

}  // namespace

void apply_tuning(std::vector<Choice>& choices, const Request& request, const DeviceProperties& properties,
                  const PlanPreference& preference, const Device* device) {
  if (preference.tune == Tune::off || choices.size() < 2) return;
  const Request r = stand_in(request, preference);
  const Key key(r, properties, preference);
  const bool grouped = r.over.has_value();
  if (preference.tune == Tune::cached || device == nullptr || is_empty(r.g)) {
    if (const std::optional<Known> known = find(key, properties)) bring_to_front(choices, known->entry.kernel, grouped);
    return;
  }
  // Who asks for a measurement wants one of the problem itself, on this device or from a table imported for it.
  const auto known = tuning::find(properties, key.full());
  if (known && known->source != TuningSource::shipped && bring_to_front(choices, known->kernel, grouped)) return;
  measure_and_keep(most_promising(choices, candidates_to_tune), r, *device, preference, {});
  if (const auto measured = tuning::find(properties, key.full())) bring_to_front(choices, measured->kernel, grouped);
}

}  // namespace cutplan::gemm

namespace cutplan {

std::vector<GemmMeasurement> measure_gemm(const GemmDescriptor& descriptor, Device device, const PlanPreference& preference,
                                          int candidates, const TuningProgress& progress) {
  return gemm::measured(gemm::selectable<GemmPlan>(descriptor, device, preference), device, preference, candidates,
                        progress);
}

std::vector<GemmMeasurement> measure_gemm(const GroupedGemmDescriptor& descriptor, Device device,
                                          const PlanPreference& preference, int candidates, const TuningProgress& progress) {
  return gemm::measured(gemm::selectable<GroupedGemmPlan>(descriptor, device, preference), device, preference, candidates,
                        progress);
}

std::vector<GemmMeasurement> tune_gemm(const GemmDescriptor& descriptor, Device device, const PlanPreference& preference,
                                       const TuningProgress& progress) {
  return gemm::tuned(gemm::selectable<GemmPlan>(descriptor, device, preference), device, preference, progress);
}

std::vector<GemmMeasurement> tune_gemm(const GroupedGemmDescriptor& descriptor, Device device,
                                       const PlanPreference& preference, const TuningProgress& progress) {
  return gemm::tuned(gemm::selectable<GroupedGemmPlan>(descriptor, device, preference), device, preference, progress);
}

std::optional<TuningEntry> tuned_gemm(const GemmDescriptor& descriptor, const DeviceProperties& properties,
                                      const PlanPreference& preference) {
  gemm::check(descriptor);
  return gemm::entry_of(gemm::resolve(descriptor), properties, preference);
}

std::optional<TuningEntry> tuned_gemm(const GroupedGemmDescriptor& descriptor, const DeviceProperties& properties,
                                      const PlanPreference& preference) {
  gemm::check(descriptor);
  return gemm::entry_of(gemm::request(gemm::resolve(descriptor)), properties, preference);
}

}  // namespace cutplan
