// Weights of few bits to the packed layout, and back to floats.
//
// Data movement. A thread makes one 32-bit word of the packed tensor, whatever part it is of, from up to eight codes that it reads
// one by one; neighbours store neighbouring words. Unpacking, a thread reads a word and stores its elements one by one. Weights are
// packed once, when they are loaded: what is to be fast is the product that reads them, so that this is written to be right with
// any strides, and is the host's code to the letter (words.hpp).
#include "core/launch.hpp"
#include "weights/words.hpp"

namespace cutplan::weights {
namespace {

constexpr int threads = 256;

__device__ __forceinline__ std::int64_t this_word() { return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; }

__global__ __launch_bounds__(threads) void sm80_pack_weights(const __grid_constant__ Problem p) {
  const std::int64_t word = this_word();
  if (word < p.layout.total / 4) store(p.packed + word * 4, packed_word(p, word));
}

__global__ __launch_bounds__(threads) void sm80_unpack_weights(const __grid_constant__ Problem p) {
  const std::int64_t word = this_word();
  if (word < words_to_unpack(p)) unpack_word(p, word);
}

void pack(const Problem& p, const Launch& launch) {
  launch_kernel("launch of the kernel that packs weights", launch.stream,
                {ceil_div(p.layout.total / 4, std::int64_t{threads}), threads}, sm80_pack_weights, p);
}

void unpack(const Problem& p, const Launch& launch) {
  launch_kernel("launch of the kernel that unpacks weights", launch.stream,
                {ceil_div(words_to_unpack(p), std::int64_t{threads}), threads}, sm80_unpack_weights, p);
}

constexpr Kernel table[] = {
    kernel(Op::pack, Arch::sm80, DType::u8, pack),
    kernel(Op::unpack, Arch::sm80, DType::f16, unpack),
    kernel(Op::unpack, Arch::sm80, DType::bf16, unpack),
    kernel(Op::unpack, Arch::sm80, DType::f32, unpack),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::weights
