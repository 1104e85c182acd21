// The machinery that every op family shares: its kernels by name, which of them can serve a problem and why the others cannot,
// which should by the cost model or by measurements, and what a plan keeps of the choice.
//
// A family brings F, types and functions without state:
//   Descriptor, Arguments, Kernel (a KernelTraits), Problem; Request: a resolved descriptor, and what is asked of it often
//   operands                       the table of core/operands.hpp
//   op, kind, listing              how its kernels' names begin, what a kernel is chosen by, who lists them: in words
//   tables                         of all units; is_of_op(kernel): whether it is for this descriptor at all
//   check(descriptor)              refuses what no kernel could ever serve; check(descriptor, preference) also what the caller
//                                  insists on in vain; resolve(descriptor) fills in defaults
//   request(resolved)              check_types(request, setting) refuses by the support table
//   stem(kernel)                   its name without the op and the split
//   plain_split(kernel), split_name(kernel, split), split_of(kernel, suffix)        ways to share out a sum, and their names
//   fits(kernel, request, setting)              whether it is of the kind asked for; wanted(request): the kind in words
//   splits(kernel, request, setting)            those that are worth a look, the plain one first
//   obstacle(kernel, request, setting, split)   why it cannot; empty: it can
//   predict(kernel, request, setting, split)    seconds
//   workspace(kernel, request, split, sms)      bytes
//   stand_in(request), same_order(x, y, device) for batch invariance: many rows; whether both sum in one order
//   write(key, request), write_options(key, request)           the problem as text
//   describe(sku, kernel, split, request), precision(kernel, split, request)
//   is_empty(request), alignment(request), multiplies(request)          for measuring
//   problem(descriptor, selection, operands, arguments, places), run(selection, problem, arguments, site)     for a call
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/call_site.hpp"
#include "core/cost.hpp"
#include "core/kernel.hpp"
#include "core/measure.hpp"
#include "core/operands.hpp"
#include "core/text.hpp"
#include "core/tuning.hpp"
#include "cutplan/tuning.hpp"
#include "cutplan/version.hpp"

namespace cutplan {

/// The F of a descriptor; each family specialises it.
template <typename Descriptor>
struct FamilyOf;

/// Where a choice is made, and what the caller insists on.
struct Setting {
  Setting(const DeviceProperties& device, const PlanPreference& preference)
      : device(device), preference(preference), costs(costs_of(device)), sms(occupied_sms(preference, device)) {}

  const DeviceProperties& device;
  const PlanPreference& preference;
  DeviceCosts costs;
  int sms;

  bool on_host() const { return device.compute_capability == 0; }
};

template <typename Kernel>
struct Choice {
  const Kernel* kernel;
  int split;
  std::size_t workspace;
  double seconds;  // predicted
};

/// What a plan keeps of its choice.
template <typename Kernel>
struct Selection {
  Device device;
  const Kernel* kernel;
  int split;
  int sm_count;
  bool sm_limited;  // the caller asked for fewer SMs than there are
  std::size_t workspace_bytes;
  std::size_t l2_share;  // of DeviceCosts
  KernelSku sku;
  PrecisionGuarantee precision;
  PlanPreference preference;
};

/// Why a device cannot run a kernel; null: it can.
inline const char* device_obstacle(const KernelTraits& k, const DeviceProperties& device) {
  const int cc = device.compute_capability;
  if (k.arch == Arch::host) return cc == 0 ? nullptr : "host kernels compute on the host alone";
  if (cc == 0) return "CUDA kernels need a CUDA device";
  if (cc < k.minimum_compute_capability || cc > k.maximum_compute_capability)
    return "the device is of another compute capability";
  if (k.shared_memory > device.shared_memory) return "the device has too little shared memory";
  return nullptr;
}

/// "4" of ".k4"; none where the suffix is another, or no number that a name would have.
inline std::optional<int> split_of_suffix(std::string_view suffix) {
  if (suffix.substr(0, 2) != ".k") return std::nullopt;
  const std::string digits(suffix.substr(2));
  const bool is_number = !digits.empty() && digits.size() <= 4 && digits.find_first_not_of("0123456789") == digits.npos;
  if (!is_number || digits[0] == '0' || digits == "1") return std::nullopt;
  return std::stoi(digits);
}

/// Causes of refusals, one line each, no line twice.
class Reasons {
 public:
  void add(const std::string& line) {
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(line);
  }
  std::string joined() const {
    std::string all;
    for (const std::string& line : lines_) all += (all.empty() ? "" : "; ") + line;
    return all;
  }

 private:
  std::vector<std::string> lines_;
};

/// What an F has whose kernels compute an op in one way each, without a sum to share out or an order of it to choose. It is left to
/// bring op, listing, operands, tables, is_of_op, check, resolve, check_types, type (of what its kernels are told apart by),
/// fits, is_empty, predict, write, describe, precision, problem and run.
template <typename F, typename D>
struct OneWay {
  using Descriptor = D;
  using Request = D;
  static constexpr char kind[] = "element type";

  static void check(const D& g, const PlanPreference&) { F::check(g); }
  static D request(const D& resolved) { return resolved; }
  template <typename Kernel>
  static std::string stem(const Kernel& k) {
    return text(".", name(k.arch), ".", short_name(k.operand));
  }
  static int plain_split(const KernelTraits&) { return 1; }
  static std::string split_name(const KernelTraits&, int) { return {}; }
  static std::optional<int> split_of(const KernelTraits&, std::string_view) { return std::nullopt; }
  static std::string wanted(const D& g) { return text(name(F::type(g)), " ", F::op); }
  static std::vector<int> splits(const KernelTraits&, const D&, const Setting&) { return {1}; }
  static std::string obstacle(const KernelTraits&, const D&, const Setting&, int) { return {}; }
  static std::size_t workspace(const KernelTraits&, const D&, int, int) { return 0; }
  static D stand_in(const D& g) { return g; }
  static bool same_order(const KernelTraits& x, const KernelTraits& y, const DeviceProperties&) { return &x == &y; }
  static void write_options(tuning::Key&, const D&) {}
  static int alignment(const D&) { return 1; }
  static DType multiplies(const D& g) { return F::type(g); }
};

template <typename F>
class Family {
 public:
  using Descriptor = typename F::Descriptor;
  using Arguments = typename F::Arguments;
  using Kernel = typename F::Kernel;
  using Request = typename F::Request;
  using Choices = std::vector<Choice<Kernel>>;

  /// Of a resolved descriptor. Throws Unsupported with the reason where no kernel can serve it.
  static Selection<Kernel> select(const Descriptor& descriptor, Device device, const PlanPreference& preference) {
    const DeviceProperties& properties = device_properties(device);
    if (preference.sm_count < 0)
      throw InvalidProblem(text("sm_count: 0 (all) or a positive count required, got ", preference.sm_count));
    const Request r = F::request(descriptor);
    const Setting setting(properties, preference);
    F::check_types(r, setting);
    Choices choices = rank(r, setting);
    if (choices.empty()) refuse(r, device, setting);
    apply_tuning(choices, descriptor, r, setting, &device);
    const Choice<Kernel>& best = choices.front();

    Selection<Kernel> selected;
    selected.device = device;
    selected.kernel = best.kernel;
    selected.split = best.split;
    selected.sm_count = setting.sms;
    selected.sm_limited = setting.sms < properties.sm_count;
    selected.workspace_bytes = best.workspace;
    selected.l2_share = setting.costs.l2_share;
    selected.sku = sku(*best.kernel, best.split, r);
    selected.precision = F::precision(*best.kernel, best.split, r);
    selected.precision.batch_invariant = setting.on_host() || preference.batch_invariant;
    selected.preference = preference;
    if (best.kernel->prepare != nullptr) on_device(device, [&] { best.kernel->prepare(*best.kernel); });
    return selected;
  }

  static std::vector<KernelSku> kernels(const Descriptor& descriptor, const DeviceProperties& properties,
                                        const PlanPreference& preference) {
    F::check(descriptor);
    const Descriptor resolved = F::resolve(descriptor);
    const Request r = F::request(resolved);
    const Setting setting(properties, preference);
    Choices choices = rank(r, setting);
    apply_tuning(choices, resolved, r, setting, nullptr);
    std::vector<KernelSku> skus;
    for (const Choice<Kernel>& choice : choices) skus.push_back(sku(*choice.kernel, choice.split, r));
    return skus;
  }

  /// Every kernel of this build; `request_of(kernel)` is a problem that it serves.
  template <typename RequestOf>
  static std::vector<KernelSku> registry(const RequestOf& request_of) {
    std::vector<KernelSku> skus;
    for (const Named& n : named_kernels()) {
      if (F::is_of_op(*n.kernel)) skus.push_back(sku(*n.kernel, F::plain_split(*n.kernel), request_of(*n.kernel)));
    }
    return skus;
  }

  static std::vector<KernelMeasurement> measure(const Descriptor& descriptor, Device device,
                                                const PlanPreference& preference, int candidates,
                                                const TuningProgress& progress) {
    const Descriptor resolved = measurable(descriptor, device, preference);
    const Request r = F::request(resolved);
    Choices choices = rank(r, {device_properties(device), preference});
    keep_first(choices, candidates);
    return table_of(choices, time(choices, resolved, r, device, preference, progress), r);
  }

  static std::vector<KernelMeasurement> tune(const Descriptor& descriptor, Device device, const PlanPreference& preference,
                                             const TuningProgress& progress) {
    if (preference.kernel)
      throw InvalidProblem(text("kernel: none required where the fastest is looked for, got \"", *preference.kernel, "\""));
    const Descriptor resolved = measurable(descriptor, device, preference);
    const Request r = F::request(resolved);
    const Setting setting(device_properties(device), preference);
    Choices choices = rank(r, setting);
    keep_first(choices, candidates_to_tune);
    return table_of(choices, measure_and_keep(choices, resolved, r, device, setting, progress), r);
  }

  static std::optional<TuningEntry> tuned(const Descriptor& descriptor, const DeviceProperties& properties,
                                          const PlanPreference& preference) {
    F::check(descriptor);
    const auto known = key(F::request(F::resolve(descriptor)), {properties, preference}).find(properties, false);
    if (!known) return std::nullopt;
    const tuning::Entry& e = known->entry;
    return TuningEntry{properties.name, properties.compute_capability, known->problem, e.kernel, e.seconds, e.model_seconds,
                       e.source};
  }

 private:
  static constexpr int candidates_to_tune =
      24;  // of some fifty: the model orders them roughly, and each costs time to measure

  struct Named {
    const Kernel* kernel;
    std::string stem;
  };

  /// Writing a name takes longer than all the rest of a look-up.
  static const std::vector<Named>& named_kernels() {
    static const std::vector<Named>& all = *[] {  // never destroyed: a thread may still select while the process ends
      auto* named = new std::vector<Named>;
      for (const auto* table : F::tables) {
        for (const Kernel& k : *table) named->push_back({&k, F::stem(k)});
      }
      return named;
    }();
    return all;
  }

  static std::string name_of(const Kernel& k, int split) { return F::op + F::stem(k) + F::split_name(k, split); }

  /// The split that a name asks of a kernel; none: the name is another kernel's.
  static std::optional<int> split_of_name(const Named& n, std::string_view name) {
    const std::string_view op = F::op;
    if (name.substr(0, op.size()) != op || name.substr(op.size(), n.stem.size()) != n.stem) return std::nullopt;
    const std::string_view suffix = name.substr(op.size() + n.stem.size());
    return suffix.empty() ? F::plain_split(*n.kernel) : F::split_of(*n.kernel, suffix);
  }

  /// Kernels that can serve a request, fastest first by the model.
  static Choices rank(const Request& r, const Setting& s, Reasons* reasons = nullptr) {
    Choices choices = candidates(r, s, reasons);
    if (s.preference.batch_invariant && !s.preference.kernel && !choices.empty()) {
      // A row must not see in whose company it is computed. Among the kernels that sum in the order of the one that would be
      // taken for many rows the choice is free.
      const Choices many = candidates(F::stand_in(r), s, nullptr);
      const Kernel& model = *(many.empty() ? choices : many).front().kernel;
      choices.erase(std::remove_if(choices.begin(), choices.end(),
                                   [&](const auto& c) { return !F::same_order(*c.kernel, model, s.device); }),
                    choices.end());
    }
    return choices;
  }

  static Choices candidates(const Request& r, const Setting& s, Reasons* reasons) {
    Choices choices;
    const std::string wanted = s.preference.kernel.value_or("");
    bool known = false;  // there is a kernel of the kind, or of the name, asked for
    for (const Named& n : named_kernels()) {
      const Kernel& k = *n.kernel;
      const bool of_kind = F::is_of_op(k) && F::fits(k, r, s) && (!s.preference.arch || k.arch == *s.preference.arch);
      std::vector<int> splits;
      if (!wanted.empty()) {
        const std::optional<int> split = F::is_of_op(k) ? split_of_name(n, wanted) : std::nullopt;
        if (!split) continue;
        known = true;
        if (!of_kind) {
          if (reasons != nullptr) reasons->add(text(wanted, ": of another ", F::kind, " or preferred architecture"));
          continue;
        }
        splits.push_back(*split);
      } else {
        if (!of_kind) continue;
        const bool runs_here = device_obstacle(k, s.device) == nullptr;
        known = known || runs_here;
        splits = runs_here ? F::splits(k, r, s) : std::vector<int>{F::plain_split(k)};
      }
      for (const int split : splits) {
        const std::size_t workspace = F::workspace(k, r, split, s.sms);
        const std::string cause = obstacle(k, r, s, split, workspace);
        if (cause.empty()) {
          choices.push_back({&k, split, workspace, F::predict(k, r, s, split)});
        } else if (split == splits.front()) {  // that a further split cannot be is no news
          if (reasons != nullptr) reasons->add(text(wanted.empty() ? name(k.arch) : wanted, ": ", cause));
        }
      }
    }
    std::stable_sort(choices.begin(), choices.end(), [](const auto& x, const auto& y) { return x.seconds < y.seconds; });
    if (!known && reasons != nullptr) {
      const std::string kernel = wanted.empty()
                                     ? text(s.preference.arch ? name(*s.preference.arch) : "", s.preference.arch ? " " : "",
                                            "kernel for ", F::wanted(r), " that runs here")
                                     : text("kernel \"", wanted, "\"");
      reasons->add(
          text("this build (", built_architectures(), ") holds no ", kernel, "; ", F::listing, " lists what it holds"));
    }
    return choices;
  }

  static std::string obstacle(const Kernel& k, const Request& r, const Setting& s, int split, std::size_t workspace) {
    if (const char* why = device_obstacle(k, s.device)) return why;
    if ((k.operand == DType::f32 || is_float8(k.operand)) && k.math < s.preference.math)
      return text("math: ", name(s.preference.math), " required by the preference, the kernel multiplies as ", name(k.math));
    std::string why = F::obstacle(k, r, s, split);
    if (const auto most = s.preference.max_workspace_bytes; why.empty() && most && workspace > *most)
      why = text(workspace, " bytes of workspace needed, max_workspace_bytes allows ", *most);
    return why;
  }

  [[noreturn, gnu::cold]] static void refuse(const Request& r, Device device, const Setting& s) {
    Reasons reasons;
    rank(r, s, &reasons);
    const int cc = s.device.compute_capability;
    throw Unsupported(text("no kernel serves ", key(r, s).problem(), " on ", cutplan::describe(device), " (", s.device.name,
                           ", compute capability ", cc / 10, ".", cc % 10, "): ", reasons.joined()));
  }

  static KernelSku sku(const Kernel& k, int split, const Request& r) {
    KernelSku s;
    s.name = name_of(k, split);
    s.op = F::op;
    s.a = s.b = k.operand;
    s.accumulator = k.operand == DType::f64 ? DType::f64 : DType::f32;
    s.arch = k.arch;
    s.backend = k.arch == Arch::host ? Backend::host : Backend::cute;
    s.tile_m = k.tile_m;
    s.tile_n = k.tile_n;
    s.stages = k.stages;
    s.alignment = k.alignment;
    s.threads = k.threads;
    s.shared_memory = k.shared_memory;
    F::describe(s, k, split, r);
    return s;
  }

  // ---- measurements ----

  static tuning::Key key(const Request& r, const Setting& s) {
    tuning::Key key(F::op);
    F::write(key, r);
    key.write(s.preference, s.sms, F::multiplies(r) == DType::f32 || is_float8(F::multiplies(r)));
    F::write_options(key, r);
    return key;
  }

  /// Puts the choice that was measured to be the fastest in front, as preference.tune says. With Tune::measure and nothing known,
  /// measures on `device`; null: nothing is measured.
  static void apply_tuning(Choices& choices, const Descriptor& descriptor, const Request& r, const Setting& s,
                           const Device* device) {
    if (s.preference.tune == Tune::off || choices.size() < 2) return;
    const tuning::Key problem = key(r, s);
    if (s.preference.tune == Tune::cached || device == nullptr || F::is_empty(r)) {
      if (const auto known = problem.find(s.device, true)) bring_to_front(choices, known->entry.kernel);
      return;
    }
    // Who asks for a measurement wants one of the problem itself, on this device or from a table imported for it.
    const auto known = tuning::find(s.device, problem.full());
    if (known && known->source != TuningSource::shipped && bring_to_front(choices, known->kernel)) return;
    Choices promising = choices;
    keep_first(promising, candidates_to_tune);
    measure_and_keep(promising, descriptor, r, *device, s, {});
    if (const auto measured = tuning::find(s.device, problem.full())) bring_to_front(choices, measured->kernel);
  }

  static bool bring_to_front(Choices& choices, const std::string& kernel) {
    for (const Named& n : named_kernels()) {
      const std::optional<int> split = F::is_of_op(*n.kernel) ? split_of_name(n, kernel) : std::nullopt;
      if (!split) continue;
      const auto found = std::find_if(choices.begin(), choices.end(),
                                      [&](const auto& c) { return c.kernel == n.kernel && c.split == *split; });
      if (found == choices.end()) continue;
      std::rotate(choices.begin(), found, found + 1);
      return true;
    }
    return false;
  }

  static void keep_first(Choices& choices, int count) {
    if (count > 0 && choices.size() > static_cast<std::size_t>(count)) choices.resize(static_cast<std::size_t>(count));
  }

  /// Resolved; with every refusal of select(), and with work to measure.
  static Descriptor measurable(const Descriptor& descriptor, Device device, PlanPreference preference) {
    preference.tune = Tune::off;
    const Descriptor resolved = Plan<Descriptor, Arguments>::select(descriptor, device, preference).descriptor();
    const Request r = F::request(resolved);
    if (F::is_empty(r)) {
      throw InvalidProblem(text("measuring: extents of at least 1 required, got ",
                                key(r, {device_properties(device), preference}).problem()));
    }
    return resolved;
  }

  /// Median seconds of each choice, by the public plan of it: what is measured is what users get.
  static std::vector<double> time(const Choices& choices, const Descriptor& descriptor, const Request& r, Device device,
                                  PlanPreference preference, const TuningProgress& progress) {
    std::size_t workspace = 0;
    for (const Choice<Kernel>& choice : choices) workspace = std::max(workspace, choice.workspace);
    Stopwatch stopwatch(operands_of(F::operands, descriptor, device, F::alignment(r)), workspace);
    Arguments arguments;
    std::size_t i = 0;
    for (const auto& operand : F::operands) arguments.*operand.member = stopwatch.view(i++);
    preference.tune = Tune::off;
    std::vector<Stopwatch::Run> runs;
    for (const Choice<Kernel>& choice : choices) {
      preference.kernel = name_of(*choice.kernel, choice.split);
      runs.push_back([plan = Plan<Descriptor, Arguments>::select(descriptor, device, preference), arguments](
                         Stream stream, Workspace scratch) { plan.run(arguments, stream, scratch); });
    }
    return stopwatch.medians(runs, progress);
  }

  /// The choices are rank()'s first.
  static std::vector<double> measure_and_keep(const Choices& choices, const Descriptor& descriptor, const Request& r,
                                              Device device, const Setting& s, const TuningProgress& progress) {
    std::vector<double> seconds = time(choices, descriptor, r, device, s.preference, progress);
    const auto best = static_cast<std::size_t>(std::min_element(seconds.begin(), seconds.end()) - seconds.begin());
    tuning::keep(
        s.device, key(r, s).full(),
        {name_of(*choices[best].kernel, choices[best].split), seconds[best], seconds.front(), TuningSource::measured});
    return seconds;
  }

  static std::vector<KernelMeasurement> table_of(const Choices& choices, const std::vector<double>& seconds,
                                                 const Request& r) {
    std::vector<KernelMeasurement> measured;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const Choice<Kernel>& c = choices[i];
      measured.push_back(
          {sku(*c.kernel, c.split, r), seconds[i], c.kernel->arch == Arch::host ? std::nullopt : std::optional(c.seconds)});
    }
    std::stable_sort(measured.begin(), measured.end(), [](const auto& x, const auto& y) { return x.seconds < y.seconds; });
    return measured;
  }
};

}  // namespace cutplan
