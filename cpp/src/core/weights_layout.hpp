// Packed weights: where everything of them lies. What writes, reads or multiplies with them takes it from here, on the host and
// on devices.
//
// One uint8 tensor, its parts at multiples of 256 bytes: a header, codes, scales, zeros (or none), a permutation of k (or none).
// n and k are rounded up to 64. What is beyond them has code 0; scales and zeros beyond n are 0. Codes beyond k decode to what 0
// does, under the scale of the group that they are in: the other factor has to be 0 there.
//
//   codes        bricks [n / 64][k / 64] of 64 x 64 codes, 2 or 4 KiB: four pieces of 16 n by 64 k, one after the other. A piece is
//                16 x 16 tiles as mma.m16n8k16 takes its A, with n for rows. Of a tile, element (n, k) is of
//                    lane = n % 8 * 4 + k % 8 / 2, register r = n % 16 / 8 + k % 16 / 8 * 2, half h = k % 2
//                4 bits: [lane: 32][k16: 4] words; (r, h) is in nibble r + 4 h, so that word >> 4 r has both halves of register r
//                        in the low nibbles of its own halves
//                8 bits: [k32: 2][lane: 32][k16 in it: 2][2] words; word r / 2 has (r, h) in byte (r % 2 == 0) + 2 h
//   scales       [ceil(k / group_size)][n rounded up], float16, bfloat16 or float32
//   zeros        the same
//   permutation  int32 [k rounded up]: row j of the codes is row permutation[j] of B; 0 beyond k
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.hpp"
#include "cutplan/weights.hpp"

namespace cutplan::weights {

inline constexpr int brick_extent = 64, piece_extent = 16, part_alignment = 256;
inline constexpr std::uint32_t layout_version = 1;

/// The first bytes; numbers are little-endian.
struct Header {
  char magic[8];             // "CUTPLANW"
  std::uint32_t version;     // layout_version
  std::uint32_t format;      // of WeightFormat
  std::int64_t n, k;         // not rounded
  std::int64_t group_size;   // 32, 64, 128, or k rounded up to 64 (64 where that is 0)
  std::uint32_t scale_type;  // 0 float16, 1 bfloat16, 2 float32
  std::uint32_t has_zero, has_permutation;
  std::uint32_t unused;                            // 0, and so is what follows
  std::int64_t codes, scales, zeros, permutation;  // bytes from the first; 0 of what there is not
  std::int64_t total;                              // bytes in all
  unsigned char rest[packed_weights_header - 96];
};
static_assert(sizeof(Header) == packed_weights_header && offsetof(Header, codes) == 56 && offsetof(Header, rest) == 96,
              "what is stored has no gaps");

CUTPLAN_HOST_DEVICE constexpr std::int64_t rounded_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

/// Of the first byte, on devices: kernels move 16 bytes.
inline constexpr std::uintptr_t device_alignment = 16;

/// Extents and places, all in bytes from the first.
struct Layout {
  std::int64_t n, k;                // rounded up to bricks
  std::int64_t group_size, groups;  // along k
  int group_shift;                  // k >> group_shift is the group
  int code_bits, scale_bytes;
  std::int64_t codes, scales, zeros, permutation, total;
};

constexpr Layout layout_of(std::int64_t n, std::int64_t k, int code_bits, std::int64_t group_size, int scale_bytes,
                           bool zero, bool permutation) {
  Layout l{};
  l.n = rounded_up(n, brick_extent);
  l.k = rounded_up(k, brick_extent);
  l.group_size = group_size;
  l.groups = (k + group_size - 1) / group_size;
  l.group_shift = group_size == 32 ? 5 : group_size == 64 ? 6 : group_size == 128 ? 7 : 62;
  l.code_bits = code_bits;
  l.scale_bytes = scale_bytes;
  l.codes = packed_weights_header;
  l.scales = l.codes + l.n * l.k / 8 * code_bits;
  std::int64_t end = rounded_up(l.scales + l.groups * l.n * scale_bytes, part_alignment);
  if (zero) {
    l.zeros = end;
    end = rounded_up(end + l.groups * l.n * scale_bytes, part_alignment);
  }
  if (permutation) {
    l.permutation = end;
    end = rounded_up(end + l.k * 4, part_alignment);
  }
  l.total = end;
  return l;
}

/// Along k rows, with what stands for a whole column made its length.
constexpr std::int64_t resolved_group_size(std::int64_t k, std::int64_t group_size) {
  const bool usual = group_size == 32 || group_size == 64 || group_size == 128;
  if (usual || (group_size != 0 && group_size < k)) return group_size;
  return k > brick_extent ? rounded_up(k, brick_extent) : brick_extent;
}

/// Of k rows.
constexpr Layout layout_of(const WeightPacking& p, std::int64_t k) {
  return layout_of(p.n, k, bits(*p.format), resolved_group_size(k, p.group_size), bits(p.scale) / 8, p.zero, p.permutation);
}

/// Where a code is: which of the 32-bit words from the first of the codes on, and how far up in it.
struct CodePlace {
  std::int64_t word;
  int shift;
};

CUTPLAN_HOST_DEVICE CodePlace place_of(const Layout& l, std::int64_t n, std::int64_t k) {
  const std::int64_t brick = n / brick_extent * (l.k / brick_extent) + k / brick_extent;
  const int row = static_cast<int>(n % brick_extent), column = static_cast<int>(k % brick_extent);
  const int piece = row / piece_extent, lane = row % 8 * 4 + column % 8 / 2, r = row % 16 / 8 + column % 16 / 8 * 2,
            h = column % 2;
  if (l.code_bits == 4) return {((brick * 4 + piece) * 32 + lane) * 4 + column / 16, 4 * (r + 4 * h)};
  return {((((brick * 4 + piece) * 2 + column / 32) * 32 + lane) * 2 + column % 32 / 16) * 2 + r / 2,
          8 * ((r % 2 == 0 ? 1 : 0) + 2 * h)};
}

/// An element, of the extents that are rounded up.
struct Element {
  std::int64_t n, k;
};

/// The other way: of the code that is `shift` bits up in a word.
CUTPLAN_HOST_DEVICE Element element_at(const Layout& l, std::int64_t word, int shift) {
  const int in_brick = static_cast<int>(word % (brick_extent * brick_extent * l.code_bits / 32));
  const std::int64_t brick = word / (brick_extent * brick_extent * l.code_bits / 32), bricks = l.k / brick_extent;
  int piece, lane, k16, r, h;
  if (l.code_bits == 4) {
    piece = in_brick / 128;
    lane = in_brick / 4 % 32;
    k16 = in_brick % 4;
    r = shift / 4 % 4;
    h = shift / 16;
  } else {
    piece = in_brick / 256;
    lane = in_brick / 4 % 32;
    k16 = in_brick / 128 % 2 * 2 + in_brick / 2 % 2;
    r = in_brick % 2 * 2 + (shift / 8 % 2 == 0 ? 1 : 0);
    h = shift / 16;
  }
  return {brick / bricks * brick_extent + piece * piece_extent + r % 2 * 8 + lane / 4,
          brick % bricks * brick_extent + k16 * 16 + r / 2 * 8 + lane % 4 * 2 + h};
}

/// Whole elements in a word of codes.
CUTPLAN_HOST_DEVICE constexpr int codes_of_word(const Layout& l) { return 32 / l.code_bits; }

}  // namespace cutplan::weights
