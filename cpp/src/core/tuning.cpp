#include "core/tuning.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>

#include "core/measured.hpp"
#include "core/remembered.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "cutplan/version.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan::tuning {
namespace {

namespace fs = std::filesystem;

// ---- the text of a table -------------------------------------------------------------------------------------------------
//
//   cutplan-tuning 1
//   device         <name>    <compute capability>  <driver>       <cutplan>
//   <problem>      <kernel>  <nanoseconds>         <nanoseconds>         of the kernel, of the model's choice
//   end            <number of entries>
//
// with tabs between the fields; problems belong to the device before them. Times are integers, which no locale spells
// differently. The last line tells a whole table from one that was cut off between two lines.

constexpr std::string_view first_line = "cutplan-tuning\t1";

/// The devices that a section of a table holds for.
struct Section {
  std::string device;
  int compute_capability = 0, driver = 0;
  std::string version;
  std::map<std::string, Entry> entries;  // by problem

  bool same_devices(const Section& s) const {
    return device == s.device && compute_capability == s.compute_capability && driver == s.driver && version == s.version;
  }
};

struct Table {
  std::vector<Section> sections;
  std::string complaint;  // empty: the text was whole

  std::size_t size() const {
    std::size_t entries = 0;
    for (const Section& s : sections) entries += s.entries.size();
    return entries;
  }

  Section& section(const Section& like) {
    for (Section& s : sections) {
      if (s.same_devices(like)) return s;
    }
    sections.push_back({like.device, like.compute_capability, like.driver, like.version, {}});
    return sections.back();
  }
};

std::vector<std::string_view> fields(std::string_view line) {
  std::vector<std::string_view> parts;
  for (std::size_t tab; (tab = line.find('\t')) != std::string_view::npos; line.remove_prefix(tab + 1))
    parts.push_back(line.substr(0, tab));
  parts.push_back(line);
  return parts;
}

template <typename Integer>
bool read(std::string_view text, Integer& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0;
}

bool read_seconds(std::string_view text, double& seconds) {
  std::int64_t nanoseconds;
  if (!read(text, nanoseconds) || nanoseconds == 0) return false;
  seconds = static_cast<double>(nanoseconds) / 1e9;
  return true;
}

/// ASCII, which every other language's strings can hold.
bool is_plain(std::string_view line) {
  return std::all_of(line.begin(), line.end(), [](char c) { return c == '\t' || (c >= ' ' && c <= '~'); });
}

/// Takes every line that can be read. The complaint tells of the others.
Table parse(std::string_view content, TuningSource source) {
  Table table;
  Section* section = nullptr;
  std::int64_t line_number = 0, ignored = 0, first_ignored = 0, entries = 0, promised = -1;
  while (!content.empty()) {
    ++line_number;
    const std::size_t newline = content.find('\n');
    const std::vector<std::string_view> f = fields(content.substr(0, newline));
    bool good = newline != std::string_view::npos && promised < 0 && is_plain(content.substr(0, newline));
    if (!good) {
      // cut off, beyond the end, or no text at all
    } else if (line_number == 1) {
      good = content.substr(0, newline) == first_line;
    } else if (f[0] == "device") {
      Section next;
      good = f.size() == 5 && !f[1].empty() && read(f[2], next.compute_capability) && read(f[3], next.driver);
      // The lines under a heading that cannot be read belong to no device.
      section = nullptr;
      if (good) {
        next.device = f[1];
        next.version = f[4];
        section = &table.section(next);
      }
    } else if (f[0] == "end") {
      good = f.size() == 2 && read(f[1], promised);
    } else {
      Entry entry{"", 0, 0, source};
      good = section != nullptr && f.size() == 4 && !f[0].empty() && !f[1].empty() && read_seconds(f[2], entry.seconds) &&
             read_seconds(f[3], entry.model_seconds);
      if (good) {
        entry.kernel = f[1];
        section->entries[std::string(f[0])] = entry;
        ++entries;
      }
    }
    if (!good && ignored++ == 0) first_ignored = line_number;
    content.remove_prefix(newline == std::string_view::npos ? content.size() : newline + 1);
  }
  if (line_number == 0) {
    table.complaint = "it is empty";
  } else if (ignored > 0) {
    table.complaint = text(ignored, ignored == 1 ? " line" : " lines", " ignored, the first is line ", first_ignored,
                           first_ignored == 1 ? ": not a tuning table" : ": damaged or cut off");
  } else if (promised != entries) {
    table.complaint = "it is cut off: lines are missing at its end";
  }
  return table;
}

/// For a table that somebody hands over.
Table parse_whole(const std::string& content) {
  Table table = parse(content, TuningSource::imported);
  if (!table.complaint.empty()) throw InvalidProblem(text("table: what export_tuning() gives required: ", table.complaint));
  return table;
}

std::string render(const Table& table) {
  std::string out(first_line);
  const auto nanoseconds = [](double seconds) { return std::to_string(std::max(1LL, std::llround(seconds * 1e9))); };
  for (const Section& s : table.sections) {
    if (s.entries.empty()) continue;
    out += "\ndevice\t" + s.device + "\t" + std::to_string(s.compute_capability) + "\t" + std::to_string(s.driver) + "\t" +
           s.version;
    for (const auto& [problem, entry] : s.entries) {
      out +=
          "\n" + problem + "\t" + entry.kernel + "\t" + nanoseconds(entry.seconds) + "\t" + nanoseconds(entry.model_seconds);
    }
  }
  return out + "\nend\t" + std::to_string(table.size()) + "\n";
}

// ---- files ---------------------------------------------------------------------------------------------------------------

/// Version of CUDA that the driver implements, as the runtime counts (13000); 0 without a driver, and for the host.
int driver_version(int compute_capability) {
#if CUTPLAN_WITH_CUDA
  if (compute_capability == 0) return 0;
  static Remembered<int>& version = *new Remembered<int>;
  const int* known = version.get([]() -> std::optional<int> {
    int v = 0;
    if (ask_runtime([&] { return cudaDriverGetVersion(&v); }) == cudaSuccess && v > 0) return v;
    return std::nullopt;
  });
  return known == nullptr ? 0 : *known;
#else
  (void)compute_capability;
  return 0;
#endif
}

/// The devices that a measurement made by this process holds for.
Section measured_here(const std::string& device, int compute_capability) {
  Section s{device, compute_capability, driver_version(compute_capability), version(), {}};
  for (char& c : s.device) {
    if (!is_plain({&c, 1}) || c == '\t') c = ' ';
  }
  return s;
}

std::string file_name(const Section& s) {
  std::string device = s.device;
  for (char& c : device) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!plain) c = '_';
  }
  return text("tuning-", device, "-cc", s.compute_capability, "-driver", s.driver, "-", s.version, ".txt");
}

constexpr const char *imported_file = "tuning-imported.txt", *fresh_suffix = ".new";

/// Whether a file has a name that cutplan gives, of any driver and version, whole or not yet: people keep others beside them.
bool is_our_name(std::string name) {
  const auto drop_end = [&](std::string_view end) {
    const bool has = name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
    if (has) name.resize(name.size() - end.size());
    return has;
  };
  drop_end(fresh_suffix);
  if (name == imported_file) return true;
  int version = 0;  // where it begins; 0: what comes before is another
  std::sscanf(name.c_str(), "tuning-%*[0-9A-Za-z_]-cc%*[0-9]-driver%*[0-9]-%n", &version);
  return version > 0 && drop_end(".txt");
}

fs::path folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value == nullptr ? "" : value);
  };
  if (const fs::path own = variable("CUTPLAN_CACHE_DIR"); !own.empty()) return own;
  if (const fs::path cache = variable("XDG_CACHE_HOME"); cache.is_absolute()) return cache / "cutplan";
  if (const fs::path home = variable("HOME"); home.is_absolute()) return home / ".cache" / "cutplan";
  return {};
}

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

class File {
 public:
  File(const fs::path& path, int flags) : descriptor_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail(path.string());
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

/// Held by whoever writes or deletes files of a folder. The kernel lets go of it when a process dies.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) : file_(folder / "tuning.lock", O_RDWR | O_CREAT) {
    while (flock(file_.descriptor(), LOCK_EX) != 0) {
      if (errno != EINTR) fail("lock of " + folder.string());
    }
  }

 private:
  File file_;
};

/// Nothing where there is no such file.
std::optional<std::string> read_file(const fs::path& path) try {
  const File file(path, O_RDONLY);
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.descriptor(), buffer, sizeof buffer);
    if (got == 0) return content;
    if (got > 0) {
      content.append(buffer, static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      fail(path.string());
    }
  }
} catch (const std::system_error& error) {
  if (error.code() == std::errc::no_such_file_or_directory) return std::nullopt;
  throw;
}

/// Whoever reads sees the old file or the new one, whenever this process or the machine stops. Needs the folder's lock.
void replace_file(const fs::path& path, const std::string& content) {
  const fs::path fresh = path.string() + fresh_suffix;
  {
    const File file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    for (std::size_t written = 0; written < content.size();) {
      const ssize_t put = write(file.descriptor(), content.data() + written, content.size() - written);
      if (put > 0) written += static_cast<std::size_t>(put);
      if (put < 0 && errno != EINTR) fail(fresh.string());
    }
    if (fsync(file.descriptor()) != 0) fail(fresh.string());
  }
  fs::rename(fresh, path);
}

/// Adds entries to a file, under the lock and to what it holds by then; lines of it that cannot be read are dropped.
Table add_to_file(const fs::path& path, const std::vector<Section>& sections, TuningSource source) {
  fs::create_directories(path.parent_path());
  const FolderLock lock(path.parent_path());
  Table table = parse(read_file(path).value_or(""), source);
  for (const Section& added : sections) {
    Section& section = table.section(added);
    for (const auto& [problem, entry] : added.entries) section.entries[problem] = entry;
  }
  replace_file(path, render(table));
  return table;
}

// ---- what this process knows ---------------------------------------------------------------------------------------------

class Memory {
 public:
  std::optional<Entry> find(const DeviceProperties& device, const std::string& problem) {
    load_once();
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    for (const Known& known : known_) {
      if (known.compute_capability != device.compute_capability || known.device != device.name) continue;
      const auto found = known.entries.find(problem);
      return found == known.entries.end() ? std::nullopt : std::optional(found->second);
    }
    return std::nullopt;
  }

  void keep(const DeviceProperties& device, const std::string& problem, const Entry& entry) {
    load_once();
    Section section = measured_here(device.name, device.compute_capability);
    section.entries[problem] = entry;
    std::vector<Section> news{section};
    std::string trouble;
    const fs::path folder = this->folder();
    if (folder.empty()) {
      trouble = no_folder();
    } else {
      const fs::path path = folder / file_name(section);
      try {
        // What other processes have measured meanwhile comes along.
        news = add_to_file(path, {section}, TuningSource::measured).sections;
      } catch (const std::system_error& error) {
        trouble = text("measurements of this process are not kept: ", error.what());
      }
    }
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    for (const Section& s : news) {
      if (s.same_devices(section)) add(s);
    }
    changed();
    if (!trouble.empty()) {
      unsaved_.push_back(section);
      complain(trouble);
    }
  }

  void ship(const std::string& table) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    shipped_.push_back(table);
    if (loaded_) load();
    changed();
  }

  std::size_t import(const std::string& content) {
    const Table table = parse_whole(content);
    const fs::path folder = writable_folder();
    add_to_file(folder / imported_file, table.sections, TuningSource::imported);
    reload();
    return table.size();
  }

  std::string exported() {
    Table table;
    const TuningCache all = snapshot();
    for (const TuningEntry& e : all.entries) {
      if (e.source == TuningSource::shipped) continue;
      table.section(measured_here(e.device, e.compute_capability)).entries[e.problem] = {e.kernel, e.seconds,
                                                                                         e.model_seconds, e.source};
    }
    return render(table);
  }

  void clear() {
    const fs::path folder = writable_folder();
    if (fs::exists(folder)) {
      const FolderLock lock(folder);
      std::vector<fs::path> ours;
      for (const fs::directory_entry& file : fs::directory_iterator(folder)) {
        if (is_our_name(file.path().filename().string()) && !file.is_directory()) ours.push_back(file.path());
      }
      for (const fs::path& path : ours) fs::remove(path);
    }
    {
      const std::unique_lock<std::shared_mutex> lock(mutex_);
      unsaved_.clear();
    }
    reload();
  }

  void reload() {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    load();
    changed();
  }

  std::uint64_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

  TuningCache snapshot() {
    load_once();
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    TuningCache cache;
    cache.folder = folder_.string();
    cache.problems = problems_;
    for (const Known& known : known_) {
      for (const auto& [problem, entry] : known.entries) {
        cache.entries.push_back({known.device, known.compute_capability, problem, entry.kernel, entry.seconds,
                                 entry.model_seconds, entry.source});
      }
    }
    std::sort(cache.entries.begin(), cache.entries.end(), [](const TuningEntry& x, const TuningEntry& y) {
      return std::tie(x.device, x.compute_capability, x.problem) < std::tie(y.device, y.compute_capability, y.problem);
    });
    return cache;
  }

  std::vector<std::string> take_problems() {
    if (!untold_.load(std::memory_order_relaxed)) return {};
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    untold_.store(false, std::memory_order_relaxed);
    std::vector<std::string> fresh;
    for (const std::string& problem : problems_) {
      if (told_.insert(problem).second) fresh.push_back(problem);
    }
    return fresh;
  }

 private:
  /// What is known of one kind of device.
  struct Known {
    std::string device;
    int compute_capability;
    std::unordered_map<std::string, Entry> entries;
  };

  static std::string no_folder() {
    return "no folder for measurements: one of CUTPLAN_CACHE_DIR, XDG_CACHE_HOME and HOME required in the environment";
  }

  fs::path folder() {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    return folder_;
  }

  fs::path writable_folder() {
    load_once();
    fs::path path = folder();
    if (path.empty()) throw std::system_error(std::make_error_code(std::errc::no_such_file_or_directory), no_folder());
    return path;
  }

  void load_once() {
    if (loaded_.load(std::memory_order_acquire)) return;
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    if (!loaded_) load();
  }

  void load() {
    known_.clear();
    problems_.clear();
    for (const std::string& content : shipped_) {
      const Table table = parse(content, TuningSource::shipped);
      if (!table.complaint.empty()) complain(text("table that cutplan ships: ", table.complaint));
      for (const Section& s : table.sections) add(s);
    }
    folder_ = tuning::folder();
    if (!folder_.empty()) {
      try {
        load_files();
      } catch (const std::system_error& error) {
        complain(text("measurements cannot be read: ", error.what()));
      }
    }
    for (const Section& s : unsaved_) add(s);
    loaded_.store(true, std::memory_order_release);
  }

  void load_files() {
    if (!fs::exists(folder_)) return;
    if (const std::optional<Table> table = load_file(folder_ / imported_file, TuningSource::imported)) {
      for (const Section& s : table->sections) add(s);
    }
    const auto is_of_this_process = [](const std::string& name) {
      for (const int compute_capability : {0, 1}) {
        const std::string end = text("-driver", driver_version(compute_capability), "-", version(), ".txt");
        if (name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0) return true;
      }
      return false;
    };
    for (const fs::directory_entry& file : fs::directory_iterator(folder_)) {
      const std::string name = file.path().filename().string();
      if (name.rfind("tuning-", 0) != 0 || !is_of_this_process(name)) continue;
      if (const std::optional<Table> table = load_file(file.path(), TuningSource::measured)) {
        for (const Section& s : table->sections) {
          if (s.same_devices(measured_here(s.device, s.compute_capability))) add(s);
        }
      }
    }
  }

  std::optional<Table> load_file(const fs::path& path, TuningSource source) {
    try {
      const std::optional<std::string> content = read_file(path);
      if (!content) return std::nullopt;
      Table table = parse(*content, source);
      if (!table.complaint.empty())
        complain(text("tuning cache ", path.string(), ": ", table.complaint, "; the next measurement mends the file"));
      return table;
    } catch (const std::system_error& error) {
      complain(text("measurements cannot be read: ", error.what()));
      return std::nullopt;
    }
  }

  /// Over what is there, unless that is of higher precedence.
  void add(const Section& section) {
    const auto same = [&](const Known& k) {
      return k.device == section.device && k.compute_capability == section.compute_capability;
    };
    auto known = std::find_if(known_.begin(), known_.end(), same);
    if (known == known_.end()) known = known_.insert(known_.end(), {section.device, section.compute_capability, {}});
    for (const auto& [problem, entry] : section.entries) {
      const auto [place, fresh] = known->entries.emplace(problem, entry);
      if (!fresh && entry.source >= place->second.source) place->second = entry;
    }
  }

  void complain(const std::string& problem) {
    if (std::find(problems_.begin(), problems_.end(), problem) == problems_.end()) problems_.push_back(problem);
    untold_.store(true, std::memory_order_relaxed);
  }

  /// After a change, so that who reads the new generation finds what changed. The first load() is none: whoever asks
  /// before it causes it.
  void changed() noexcept { generation_.fetch_add(1, std::memory_order_release); }

  std::shared_mutex mutex_;  // guards all but the atomics
  std::atomic<bool> loaded_{false}, untold_{false};
  std::atomic<std::uint64_t> generation_{0};
  fs::path folder_;
  std::deque<Known> known_;
  std::vector<std::string> shipped_{measured_table};
  std::vector<Section> unsaved_;  // measured here, refused by the disk
  std::vector<std::string> problems_;
  std::set<std::string> told_;
};

Memory& memory() {
  static Memory* const one = new Memory;  // for plans selected while the process ends
  return *one;
}

}  // namespace

std::optional<Entry> find(const DeviceProperties& device, const std::string& problem) {
  return memory().find(device, problem);
}

void keep(const DeviceProperties& device, const std::string& problem, const Entry& entry) {
  memory().keep(device, problem, entry);
}

void ship(const std::string& table) { memory().ship(table); }

Key::Key(const char* op) {
  text_.reserve(320);
  text_ += op;
}

Key& Key::field(const char* name, const char* value) {
  text_.append(" ").append(name).append("=").append(value);
  return *this;
}

Key& Key::field(const char* name, std::int64_t value) {
  char digits[24];
  *std::to_chars(digits, digits + sizeof digits - 1, value).ptr = '\0';
  return field(name, digits);
}

Key& Key::word(const char* name, bool there) {
  if (there) text_.append(" ").append(name);
  return *this;
}

constexpr char batch_invariant[] = " batch_invariant";

void Key::write(const PlanPreference& preference, int sms, bool has_math) {
  problem_ = text_.size();
  field("sm_count", sms);
  if (has_math) field("math", name(preference.math));
  if (preference.arch) field("arch", name(*preference.arch));
  word("deterministic", preference.deterministic);
  if (preference.batch_invariant) text_ += batch_invariant;
  if (preference.max_workspace_bytes) {
    // Limits between two powers of two share an entry; a kernel that needs more than the limit at hand is no candidate.
    std::size_t limit = *preference.max_workspace_bytes;
    while ((limit & (limit - 1)) != 0) limit &= limit - 1;
    field("workspace", static_cast<std::int64_t>(limit));
  }
  plain_ = text_.size();
}

std::optional<Key::Known> Key::find(const DeviceProperties& device, bool of_any_company) const {
  for (std::string problem : {text_, text_.substr(0, plain_)}) {
    for (const bool as_asked : {true, false}) {
      if (!as_asked) {
        const std::size_t at = problem.find(batch_invariant);
        if (at == problem.npos || !of_any_company) break;
        problem.erase(at, sizeof batch_invariant - 1);
      }
      if (std::optional<Entry> entry = tuning::find(device, problem)) return Known{std::move(problem), *std::move(entry)};
    }
  }
  return std::nullopt;
}

}  // namespace cutplan::tuning

namespace cutplan {

TuningCache tuning_cache() {
  tuning::memory().reload();
  return tuning::memory().snapshot();
}

std::uint64_t tuning_generation() noexcept { return tuning::memory().generation(); }

std::vector<std::string> take_tuning_problems() { return tuning::memory().take_problems(); }

std::string export_tuning() { return tuning::memory().exported(); }

std::size_t import_tuning(const std::string& table) { return tuning::memory().import(table); }

std::size_t add_tuning(const std::string& table) {
  const std::size_t entries = tuning::parse_whole(table).size();
  tuning::ship(table);
  return entries;
}

void clear_tuning() { tuning::memory().clear(); }

}  // namespace cutplan
