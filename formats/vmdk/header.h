// Headers of sparse extents, as fields. Parsing never fails for want of sense: the checks are
// apart, since what is wrong depends on how the image is to be used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/sector.h"
#include "formats/vmdk/layout.h"

namespace cairn::vmdk {

// Section "Hosted Sparse Extent Header". Sizes and offsets in sectors.
struct SparseHeader {
  uint32_t version = 1;
  uint32_t flags = kFlagNewLineTest | kFlagRedundantTable;
  uint64_t capacity = 0;
  uint64_t grain_size = 128;
  uint64_t descriptor_offset = 0;
  uint64_t descriptor_size = 0;
  uint32_t table_entries = kMostTableEntries;
  uint32_t most_table_entries = kMostTableEntries;  // of this kind of extent
  uint64_t redundant_directory_offset = 0;
  uint64_t directory_offset = 0;
  uint64_t overhead = 0;  // where grains begin
  uint16_t compression = kCompressionNone;

  [[nodiscard]] bool has(uint32_t flag) const { return (flags & flag) != 0; }
  [[nodiscard]] bool compressed() const { return compression == kCompressionDeflate; }
};

using HeaderSector = std::array<std::byte, kSector>;

[[nodiscard]] SparseHeader parse_sparse_header(std::span<const std::byte, kSector> sector);
[[nodiscard]] HeaderSector serialize_sparse_header(const SparseHeader& header);

// Section "ESX Server Sparse Extent Header"; in terms of the other one.
[[nodiscard]] SparseHeader parse_cow_header(std::span<const std::byte, kSector> sector);

// The header at the end of a stream, from the last three sectors of the file: a marker, the header,
// and the marker of the end. EINVAL.
[[nodiscard]] Result<SparseHeader> parse_footer(std::span<const std::byte, 3 * kSector> sectors);

// Whether an extent of this kind, in a file of `file_length` bytes, can be used: EINVAL, ENOTSUP,
// EFBIG.
[[nodiscard]] Result<void> check_sparse_header(const SparseHeader& header, bool writable,
                                               uint64_t file_length);

// Entries of the grain directory; the header was checked.
[[nodiscard]] uint64_t directory_entries(const SparseHeader& header);

}  // namespace cairn::vmdk
