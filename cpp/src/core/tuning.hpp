// The table behind cutplan/tuning.hpp, as core/family.hpp uses it: problems are text, kernels are SKU names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cutplan/device.hpp"
#include "cutplan/tuning.hpp"

namespace cutplan::tuning {

struct Entry {
  std::string kernel;
  double seconds, model_seconds;
  TuningSource source;
};

/// What is known of `problem` on such a device. The first call reads the files.
std::optional<Entry> find(const DeviceProperties& device, const std::string& problem);

/// Keeps a measurement, in memory and on disk. A disk that refuses is one more of tuning_cache().problems.
void keep(const DeviceProperties& device, const std::string& problem, const Entry& entry);

/// Adds a table, in the form of export_tuning(), below everything else. What is wrong with it is told as with a file.
void ship(const std::string& table);

/// A problem and what the caller insists on, as the table names them: everything that the choice depends on. First come the
/// fields of the problem, then those of the preference, then options.
class Key {
 public:
  explicit Key(const char* op);

  Key& field(const char* name, const char* value);
  Key& field(const char* name, std::int64_t value);
  Key& word(const char* name, bool there = true);  // nothing where it is not

  /// What follows are options: they hardly change which main loop is the best, and what is known of the problem without them
  /// serves until it is itself measured.
  void write(const PlanPreference& preference, int sms, bool has_math);

  std::string problem() const { return text_.substr(0, problem_); }
  const std::string& full() const { return text_; }

  struct Known {
    std::string problem;
    Entry entry;
  };
  /// `of_any_company`: also what was measured without batch invariance, which may be a kernel that it leaves.
  std::optional<Known> find(const DeviceProperties& device, bool of_any_company) const;

 private:
  std::string text_;
  std::size_t problem_ = 0, plain_ = 0;  // lengths of the problem's fields, and of all that is no option
};

}  // namespace cutplan::tuning
