// Host backend of packed weights: threads take runs of words, each of which is what words.hpp makes of it.
#include "weights/host.hpp"

#include <algorithm>
#include <functional>
#include <iterator>

#include "core/parallel.hpp"
#include "weights/words.hpp"

namespace cutplan::weights {
namespace {

using std::int64_t;

constexpr int64_t words_of_task = 1 << 12;

template <typename Work>
void for_words(int64_t words, int threads, const Work& work) {
  parallel_tasks(ceil_div(words, words_of_task), threads, [&](const std::function<int64_t()>& next) {
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t end = std::min(words, (task + 1) * words_of_task);
      for (int64_t word = task * words_of_task; word < end; ++word) work(word);
    }
  });
}

void pack(const Problem& p, const Launch& launch) {
  for_words(p.layout.total / 4, launch.sm_count, [&](int64_t word) { store(p.packed + word * 4, packed_word(p, word)); });
}

void unpack(const Problem& p, const Launch& launch) {
  for_words(words_to_unpack(p), launch.sm_count, [&](int64_t word) { unpack_word(p, word); });
}

constexpr Kernel kernels[] = {
    kernel(Op::pack, Arch::host, DType::u8, pack),
    kernel(Op::unpack, Arch::host, DType::f16, unpack),
    kernel(Op::unpack, Arch::host, DType::bf16, unpack),
    kernel(Op::unpack, Arch::host, DType::f32, unpack),
};

}  // namespace

const KernelTable weights_host_kernels = {kernels, std::size(kernels)};

}  // namespace cutplan::weights
