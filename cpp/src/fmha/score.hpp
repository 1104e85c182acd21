// What every attention kernel, on the host and on devices, must agree on to the bit or to the key: sequence bounds, which
// keys a query sees, and which weights dropout keeps.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "fmha/kernel.hpp"

namespace cutplan::fmha {

CUTPLAN_HOST_DEVICE std::int64_t clamp(std::int64_t x, std::int64_t low, std::int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/// One sequence: where its rows start in Q and in K (added to the batch stride's offset), how many there are, and the
/// diagonal: query i stands at key i + offset. K holds `held_k` rows of it, of which the first len_k take part.
struct Sequence {
  std::int64_t first_q, first_k, len_q, len_k, offset, held_k;
};

/// Lengths outside what the operands hold are clamped, so that nothing else is ever read or written.
CUTPLAN_HOST_DEVICE Sequence sequence(const Problem& p, std::int64_t batch) {
  Sequence s{0, 0, p.seq_q, p.seq_k, 0, p.seq_k};
  if (p.cu_seqlens_q != nullptr) {
    s.first_q = clamp(p.cu_seqlens_q[batch], 0, p.seq_q);
    s.len_q = clamp(p.cu_seqlens_q[batch + 1], s.first_q, p.seq_q) - s.first_q;
    s.first_k = clamp(p.cu_seqlens_k[batch], 0, p.seq_k);
    s.len_k = clamp(p.cu_seqlens_k[batch + 1], s.first_k, p.seq_k) - s.first_k;
  }
  s.held_k = s.len_k;
  if (p.seqused_k != nullptr) s.len_k = clamp(p.seqused_k[batch], 0, s.len_k);
  s.offset = p.top_left ? 0 : s.len_k - s.len_q;
  return s;
}

/// Keys [first, end) that query `i` sees by causal, window and length; empty where first >= end.
CUTPLAN_HOST_DEVICE std::int64_t first_key(const Problem& p, const Sequence& s, std::int64_t i) {
  return clamp(i + s.offset - p.left, 0, s.len_k);
}
CUTPLAN_HOST_DEVICE std::int64_t end_key(const Problem& p, const Sequence& s, std::int64_t i) {
  return clamp(i + s.offset + p.right + 1, 0, s.len_k);
}

/// Queries [first, end) that see key `j`.
CUTPLAN_HOST_DEVICE std::int64_t first_query(const Problem& p, const Sequence& s, std::int64_t j) {
  return clamp(j - s.offset - p.right, 0, s.len_q);
}
CUTPLAN_HOST_DEVICE std::int64_t end_query(const Problem& p, const Sequence& s, std::int64_t j) {
  return clamp(j - s.offset + p.left + 1, 0, s.len_q);
}

/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
struct Philox {
  std::uint32_t word[4];
};

CUTPLAN_HOST_DEVICE Philox philox(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3, std::uint32_t k0,
                                  std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t low = static_cast<std::uint64_t>(c0) * 0xD2511F53u,
                        high = static_cast<std::uint64_t>(c2) * 0xCD9E8D57u;
    const std::uint32_t next0 = static_cast<std::uint32_t>(high >> 32) ^ c1 ^ k0,
                        next2 = static_cast<std::uint32_t>(low >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(high);
    c3 = static_cast<std::uint32_t>(low);
    c0 = next0;
    c2 = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Dropout of one (batch, head): 16 random bits for query i and key j are the j % 8'th half-word (low half first) of
/// philox(counter = (j / 8, i, batch * H + head, offset), key = seed, its high word mixed with the offset's). A weight is
/// kept where these bits are below keep_threshold, and then scaled by 65536 / keep_threshold: the probability is that
/// multiple of 2^-16 which is nearest to 1 - p.
struct Dropout {
  std::uint32_t key0, key1, head, offset;

  CUTPLAN_HOST_DEVICE static Dropout of(const std::int64_t* rng_state, std::int64_t batch_head) {
    const auto seed = static_cast<std::uint64_t>(rng_state[0]), offset = static_cast<std::uint64_t>(rng_state[1]);
    return {static_cast<std::uint32_t>(seed),
            static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(offset >> 32),
            static_cast<std::uint32_t>(batch_head), static_cast<std::uint32_t>(offset)};
  }

  /// Bits of the eight keys 8 * group .. 8 * group + 7.
  CUTPLAN_HOST_DEVICE Philox group(std::int64_t i, std::int64_t group) const {
    return philox(static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(i), head, offset, key0, key1);
  }

  CUTPLAN_HOST_DEVICE static std::uint32_t bits(const Philox& random, int key) {
    return random.word[key / 2] >> (key % 2 * 16) & 0xffffu;
  }
};

/// keep_threshold for a probability of dropping in [0, 1).
inline std::uint32_t keep_threshold(double dropout_p) {
  const auto threshold = static_cast<std::uint32_t>((1 - dropout_p) * 65536 + 0.5);
  return threshold == 0 ? 1 : threshold;
}

}  // namespace cutplan::fmha
