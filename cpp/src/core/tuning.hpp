// The table behind cutplan/tuning.hpp, as the op families use it: problems are text that a family writes, kernels are SKU
// names.
#pragma once

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

}  // namespace cutplan::tuning
