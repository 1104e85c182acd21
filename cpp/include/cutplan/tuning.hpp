// Measured choices of kernels. What was measured once, on this device or on another of its name, decides between the kernels
// that can serve a problem; where nothing was measured, the cost model does. PlanPreference::tune says whether to look and
// whether to measure; a plan's tune() does.
//
// Measurements are kept as text in $CUTPLAN_CACHE_DIR, else $XDG_CACHE_HOME/cutplan, else ~/.cache/cutplan: one file for a
// device name, compute capability, CUDA driver version and cutplan version. Files are replaced whole, under a lock, so any
// number of processes may write. Below what this machine measured lies what was imported, and below that what cutplan or a
// program ships; these two hold for every device of the name and compute capability.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cutplan/export.hpp"
#include "cutplan/plan.hpp"

namespace cutplan {

struct TuningCache {
  std::string folder;                 // empty: the environment names none
  std::vector<TuningEntry> entries;   // that count for this driver and this version of cutplan
  std::vector<std::string> problems;  // what was unreadable or could not be written, one sentence each
};

/// Reads the files again and tells what there is.
CUTPLAN_API TuningCache tuning_cache();

/// Grows whenever what is known of measured kernels may have changed in this process: select() may now choose another
/// kernel. For caches of plans.
CUTPLAN_API std::uint64_t tuning_generation() noexcept;

/// The problems that no call has returned before.
CUTPLAN_API std::vector<std::string> take_tuning_problems();

/// What was measured and imported, as text for import_tuning().
CUTPLAN_API std::string export_tuning();

/// Keeps the entries of an exported table; returns their number. Throws InvalidProblem for text that is no whole table, and
/// std::system_error where it cannot be written.
CUTPLAN_API std::size_t import_tuning(const std::string& table);

/// Adds an exported table to this process alone, beside what cutplan ships: for programs that bring their own. Returns the
/// number of entries. Throws InvalidProblem for text that is no whole table.
CUTPLAN_API std::size_t add_tuning(const std::string& table);

/// Forgets what was measured and imported, for every driver and version, and deletes the files. Throws std::system_error
/// where they cannot be deleted.
CUTPLAN_API void clear_tuning();

}  // namespace cutplan
