// The little that these tests share. Every program takes a seed and prints it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <string>
#include <system_error>

#include "cutplan/cutplan.hpp"

namespace testing {

/// The first argument, or a fresh one.
inline std::uint64_t seed_of(int argc, char** argv) {
  const std::uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("seed %llu (the first argument repeats it)\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

/// Ends the program; also from a thread, where an exception would end it without a word.
[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: FAILED: %s\n", file, line, what.c_str());
  std::_Exit(1);
}

#define CHECK(condition) \
  if (!(condition)) testing::fail(__FILE__, __LINE__, #condition)

/// Runs `provoke`, which must throw exactly E, with `word` in its text.
template <typename E, typename F>
void throws(const char* word, const F& provoke) {
  try {
    provoke();
  } catch (const E& error) {
    if (std::string(error.what()).find(word) == std::string::npos)
      fail(__FILE__, __LINE__, std::string("no \"") + word + "\" in: " + error.what());
    return;
  } catch (const std::exception& error) {
    fail(__FILE__, __LINE__, std::string("another type came, with \"") + word + "\" expected, saying: " + error.what());
  }
  fail(__FILE__, __LINE__, std::string("nothing was thrown, \"") + word + "\" expected");
}

/// Measurements of this process go to a folder of their own, away from the user's.
class CacheFolder {
 public:
  CacheFolder() {
    if (mkdtemp(name_.data()) == nullptr) fail(__FILE__, __LINE__, "no temporary folder");
    setenv("CUTPLAN_CACHE_DIR", name_.c_str(), 1);
  }
  ~CacheFolder() {
    std::error_code ignored;  // what is left over lies among temporary files
    std::filesystem::remove_all(name_, ignored);
  }

 private:
  // Of one's own: mkdtemp puts letters of its choice where the six are.
  std::string name_ = (std::filesystem::temp_directory_path() / "cutplan-test-").string() + std::string(6, 'X');
};

}  // namespace testing
