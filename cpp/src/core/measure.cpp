#include "core/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <new>
#include <optional>
#include <random>

#include "core/fp8.hpp"
#include "core/half.hpp"
#include "core/kernel.hpp"
#include "core/text.hpp"
#include "cutplan/device.hpp"
#include "cutplan/error.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {
namespace {

using std::int64_t;

/// Elements, or bytes beside operands, that no machine holds: sizes are counted up to here, so that sums and products of those
/// of all operands still fit 64 bits.
constexpr int64_t endless = int64_t{1} << 50;

/// x y of counts up to 2^50 and 2^40.
int64_t times(int64_t x, int64_t y) {
  int64_t product;
  return __builtin_mul_overflow(x, y, &product) ? endless : std::min(product, endless);
}

/// Bytes that can be had without swapping.
std::size_t available_on_host() {
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);) {
    unsigned long long kibibytes;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu", &kibibytes) == 1) return kibibytes * 1024;
  }
  return endless;  // the allocation tells
}

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

  void copy(void* to, const void* from, std::size_t bytes) const {
#if CUTPLAN_WITH_CUDA
    if (device_.type == DeviceType::cuda) return check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
#endif
    std::memcpy(to, from, bytes);
  }

 private:
  Device device_;
  void* data_ = nullptr;
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

  /// Writes over the L2 cache first, which also keeps the device busy until what is to be timed has been enqueued.
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

/// Element `i` of `count`. Random numbers, because a multiplier that is fed zeros draws less power, and so runs faster than it
/// will.
class Samples {
 public:
  Samples(const Rule& rule, int64_t count) : rule_(rule), count_(count) {}

  void write(unsigned char* to) {
    const double value = next();
    const auto put = [&](const auto& element) { std::memcpy(to, &element, sizeof element); };
    switch (rule_.type) {
      case DType::f64: return put(value);
      case DType::f32: return put(static_cast<float>(value));
      case DType::f16: return put(Half(static_cast<float>(value)));
      case DType::bf16: return put(BFloat16(static_cast<float>(value)));
      case DType::i64: return put(static_cast<std::int64_t>(value));
      case DType::i32: return put(static_cast<std::int32_t>(value));
      case DType::i8: return put(static_cast<std::int8_t>(value * 127));
      case DType::u8: return put(static_cast<std::uint8_t>(128 + value * 127));
      case DType::fp8_e4m3: return put(E4M3(static_cast<float>(value)));
      case DType::fp8_e5m2: return put(E5M2(static_cast<float>(value)));
      case DType::boolean: return put(std::uint8_t{1});
      default: refuse_unexpected_type(rule_.type);
    }
  }

 private:
  double next() {
    const auto most = static_cast<double>(rule_.most);
    switch (rule_.sample) {
      case Sample::random: return static_cast<double>(generator_()) * (2.0 / std::minstd_rand::max()) - 1.0;
      case Sample::even_offsets: return std::floor(most * static_cast<double>(done_++) / static_cast<double>(count_ - 1));
      case Sample::most: return most;
      case Sample::logarithm: return std::log(std::max(most, 1.0));
    }
    return 0;
  }

  const Rule& rule_;
  int64_t count_, done_ = 0;
  std::minstd_rand generator_{1};
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::mutex& one_at_a_time() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

}  // namespace

struct Stopwatch::Impl {
  // Two measurements at a time would measure each other.
  std::unique_lock<std::mutex> turn{one_at_a_time()};
  Device device;
  std::vector<TensorView> views;
  std::size_t workspace_bytes, flush_bytes, bytes = 0;
#if CUTPLAN_WITH_CUDA
  std::optional<DeviceGuard> guard;
  std::optional<Clock> clock;
#endif
  std::optional<Block> block;
  void *workspace = nullptr, *flush = nullptr;

  std::size_t reserve(std::size_t size) {
    const std::size_t offset = bytes;
    size = std::min<std::size_t>(size, 8 * endless);
    bytes += (size + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
    return offset;
  }

  /// Lays the dimensions out from the run, or the last, outwards; returns the number of elements, or `endless`.
  static int64_t lay_out(const Rule& rule, int alignment, TensorView& view) {
    view.dtype = rule.type;
    view.rank = rule.rank;
    const int run = rule.run < 0 ? rule.rank - 1 : rule.run;
    int64_t step = 1;
    const auto place = [&](int i) {
      view.shape[i] = rule.extents[i];
      view.strides[i] = step;
      step = times(step, std::max<int64_t>(rule.extents[i], 1));
    };
    place(run);
    if (rule.aligned)
      step = ceil_div(step, std::max(1, alignment * 8 / bits(rule.type))) * std::max(1, alignment * 8 / bits(rule.type));
    for (int i = rule.rank - 1; i >= 0; --i) {
      if (i != run) place(i);
    }
    return step;
  }

  std::size_t available() const {
#if CUTPLAN_WITH_CUDA
    if (device.type == DeviceType::cuda) {
      std::size_t available = 0, total = 0;
      check_cuda(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
      return available;
    }
#endif
    return available_on_host();
  }

  void allocate() {
    const std::size_t free = available();
    if (bytes <= free) {
      try {
        return void(block.emplace(device, bytes));
      } catch (const std::bad_alloc&) {  // of what is free this process may not have all
      }
    }
    throw Unsupported(text("tune: measuring needs ", bytes < endless ? text(bytes, " bytes") : "2^50 bytes or more",
                           " of memory on ", cutplan::describe(device), " for operands and workspace, and ", free,
                           " are free; free some, or select with tune 'cached' or 'off'"));
  }

  void fill(const Rule& rule, void* data, int64_t elements) const {
    // Random elements: a block of a length that no row has, over and over.
    constexpr int64_t most = 1048573;
    const int64_t written = rule.sample == Sample::even_offsets ? elements : std::min(elements, most);
    const auto width = static_cast<std::size_t>(bits(rule.type) / 8), all = static_cast<std::size_t>(elements) * width;
    std::vector<unsigned char> pattern(static_cast<std::size_t>(written) * width);
    Samples samples(rule, elements);
    for (std::size_t at = 0; at < pattern.size(); at += width) samples.write(pattern.data() + at);
    auto* to = static_cast<unsigned char*>(data);
    block->copy(to, pattern.data(), pattern.size());
    for (std::size_t done = pattern.size(); done < all;) {
      const std::size_t next = std::min(done, all - done);
      block->copy(to + done, to, next);
      done += next;
    }
  }

  double seconds(const Run& run) {
    const Workspace scratch{workspace, workspace_bytes};
#if CUTPLAN_WITH_CUDA
    if (clock) return clock->seconds(flush, flush_bytes, [&] { run(clock->stream(), scratch); });
#endif
    const auto start = std::chrono::steady_clock::now();
    run(nullptr, scratch);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
};

Stopwatch::Stopwatch(const Operands& operands, std::size_t workspace_bytes) : impl_(std::make_unique<Impl>()) {
  Impl& all = *impl_;
  all.device = operands.device;
  all.workspace_bytes = workspace_bytes;
  all.flush_bytes = 2 * device_properties(all.device).l2_bytes;
#if CUTPLAN_WITH_CUDA
  if (all.device.type == DeviceType::cuda) {
    all.guard.emplace(all.device.id);
    all.clock.emplace();
  }
#endif
  struct Place {
    std::size_t offset;
    int64_t elements;
  };
  std::vector<Place> places;
  for (const Operands::Row& row : operands.rows) {
    TensorView view;
    view.device = all.device;
    Place place{0, 0};
    if (row.rule.wanted()) {
      place.elements = Impl::lay_out(row.rule, operands.alignment, view);
      place.offset =
          all.reserve(static_cast<std::size_t>(place.elements) * static_cast<std::size_t>(bits(row.rule.type)) / 8);
    }
    all.views.push_back(view);
    places.push_back(place);
  }
  const std::size_t workspace = all.reserve(workspace_bytes), flush = all.reserve(all.flush_bytes);
  all.allocate();
  all.workspace = all.block->data() + workspace;
  all.flush = all.block->data() + flush;
  std::size_t i = 0;
  for (const Operands::Row& row : operands.rows) {
    TensorView& view = all.views[i];
    if (row.rule.wanted()) {
      view.data = all.block->data() + places[i].offset;
      all.fill(row.rule, view.data, places[i].elements);
    }
    ++i;
  }
}

Stopwatch::~Stopwatch() = default;

const TensorView& Stopwatch::view(std::size_t operand) const { return impl_->views[operand]; }

std::vector<double> Stopwatch::medians(const std::vector<Run>& runs, const TuningProgress& progress) {
  Impl& all = *impl_;
  // Nothing is timed meanwhile, so others may have the turn: the callback may tune, or wait for a thread that does.
  const auto report = [&](int done, int total) {
    if (!progress) return;
    all.turn.unlock();
    progress(done, total);
    all.turn.lock();
  };
  constexpr int most_rounds = 15, least_rounds = 3;
  constexpr double enough_seconds = 0.5;  // of rounds, for one problem
  report(0, most_rounds);
  for (const Run& run : runs) all.seconds(run);  // a kernel's first launch also loads it
  double once = 0;
  for (const Run& run : runs) once += all.seconds(run);
  const int rounds = static_cast<int>(std::clamp<double>(enough_seconds / once, least_rounds, most_rounds));
  std::vector<std::vector<double>> samples(runs.size());
  for (int round = 0; round < rounds; ++round) {
    report(round, rounds);
    for (std::size_t i = 0; i < runs.size(); ++i) samples[i].push_back(all.seconds(runs[i]));
  }
  report(rounds, rounds);
  std::vector<double> medians;
  for (const std::vector<double>& s : samples) medians.push_back(median(s));
  return medians;
}

}  // namespace cutplan
