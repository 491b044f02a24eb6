// Headers of space-efficient sparse extents (seSparse), which hosts make snapshots of disks in.
// There is no specification; what is known of the format is in README.md. All numbers are
// little-endian and of 64 bits, places are counted in sectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/sector.h"

namespace cairn::vmdk {

// Sizes that are the same in every extent.
inline constexpr uint64_t kSeGrain = 4096;         // bytes
inline constexpr uint64_t kSeTableEntries = 4096;  // of 8 bytes: 64 sectors
inline constexpr uint64_t kSeEntryBytes = 8;

// The constant header, as far as readers need it.
struct SeSparseHeader {
  // A part of the file, in sectors.
  struct Area {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  uint64_t capacity = 0;  // sectors
  Area volatile_header;
  Area directory;
  Area tables;
  Area grains;
};

// From the first sector of the file. EINVAL for another kind of file, ENOTSUP for other sizes,
// versions or flags than the known ones.
[[nodiscard]] Result<SeSparseHeader> parse_se_sparse_header(
    std::span<const std::byte, kSector> sector);

// Whether the volatile header allows reading: EINVAL when it is none, ENOTSUP when a journal has to
// be replayed first.
[[nodiscard]] Result<void> check_volatile_header(std::span<const std::byte, kSector> sector);

// Entries of the grain directory that a disk of this capacity needs, as far as the header has room
// for them. EFBIG.
[[nodiscard]] Result<uint64_t> se_directory_entries(const SeSparseHeader& header);

}  // namespace cairn::vmdk
