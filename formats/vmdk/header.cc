#include "formats/vmdk/header.h"

#include <bit>
#include <cerrno>

#include "base/bytes.h"

namespace cairn::vmdk {

namespace {

// Offsets of the fields.
constexpr std::size_t kVersion = 4;
constexpr std::size_t kFlags = 8;
constexpr std::size_t kCapacity = 12;
constexpr std::size_t kGrainSize = 20;
constexpr std::size_t kDescriptorAt = 28;
constexpr std::size_t kDescriptorSize = 36;
constexpr std::size_t kTableEntries = 44;
constexpr std::size_t kRedundantDirectory = 48;
constexpr std::size_t kDirectory = 56;
constexpr std::size_t kOverhead = 64;
constexpr std::size_t kNewLines = 73;
constexpr std::size_t kCompression = 77;

constexpr std::size_t kCowFlags = 8;
constexpr std::size_t kCowCapacity = 12;
constexpr std::size_t kCowGrainSize = 16;
constexpr std::size_t kCowDirectory = 20;

constexpr std::size_t kMarkerSize = 8;
constexpr std::size_t kMarkerType = 12;

constexpr uint32_t kLatestVersion = 3;

// What a transfer as text would damage.
constexpr std::array<char, 4> kNewLineTest = {'\n', ' ', '\r', '\n'};

}  // namespace

SparseHeader parse_sparse_header(std::span<const std::byte, kSector> sector) {
  const std::byte* p = sector.data();
  SparseHeader header;
  header.version = load_le<uint32_t>(p + kVersion);
  header.flags = load_le<uint32_t>(p + kFlags);
  header.capacity = load_le<uint64_t>(p + kCapacity);
  header.grain_size = load_le<uint64_t>(p + kGrainSize);
  header.descriptor_offset = load_le<uint64_t>(p + kDescriptorAt);
  header.descriptor_size = load_le<uint64_t>(p + kDescriptorSize);
  header.table_entries = load_le<uint32_t>(p + kTableEntries);
  header.redundant_directory_offset = load_le<uint64_t>(p + kRedundantDirectory);
  header.directory_offset = load_le<uint64_t>(p + kDirectory);
  header.overhead = load_le<uint64_t>(p + kOverhead);
  header.compression = load_le<uint16_t>(p + kCompression);
  return header;
}

HeaderSector serialize_sparse_header(const SparseHeader& header) {
  HeaderSector sector{};
  std::byte* p = sector.data();
  store_le<uint32_t>(p, kSparseMagic);
  store_le<uint32_t>(p + kVersion, header.version);
  store_le<uint32_t>(p + kFlags, header.flags);
  store_le<uint64_t>(p + kCapacity, header.capacity);
  store_le<uint64_t>(p + kGrainSize, header.grain_size);
  store_le<uint64_t>(p + kDescriptorAt, header.descriptor_offset);
  store_le<uint64_t>(p + kDescriptorSize, header.descriptor_size);
  store_le<uint32_t>(p + kTableEntries, header.table_entries);
  store_le<uint64_t>(p + kRedundantDirectory, header.redundant_directory_offset);
  store_le<uint64_t>(p + kDirectory, header.directory_offset);
  store_le<uint64_t>(p + kOverhead, header.overhead);
  std::memcpy(p + kNewLines, kNewLineTest.data(), kNewLineTest.size());
  store_le<uint16_t>(p + kCompression, header.compression);
  return sector;
}

SparseHeader parse_cow_header(std::span<const std::byte, kSector> sector) {
  const std::byte* p = sector.data();
  SparseHeader header;
  header.version = load_le<uint32_t>(p + kVersion);
  header.flags = load_le<uint32_t>(p + kCowFlags) & kFlagNewLineTest;
  header.capacity = load_le<uint32_t>(p + kCowCapacity);
  header.grain_size = load_le<uint32_t>(p + kCowGrainSize);
  header.directory_offset = load_le<uint32_t>(p + kCowDirectory);
  header.table_entries = kCowTableEntries;
  header.most_table_entries = kCowTableEntries;
  return header;
}

Result<SparseHeader> parse_footer(std::span<const std::byte, 3 * kSector> sectors) {
  const std::byte* const first = sectors.data();
  const std::byte* const header = first + kSector;
  const std::byte* const last = header + kSector;
  const bool valid = load_le<uint32_t>(first + kMarkerSize) == 0 &&
                     load_le<uint32_t>(first + kMarkerType) == kMarkerFooter &&
                     load_le<uint32_t>(header) == kSparseMagic && load_le<uint64_t>(last) == 0 &&
                     load_le<uint32_t>(last + kMarkerSize) == 0 &&
                     load_le<uint32_t>(last + kMarkerType) == 0;
  if (!valid) {
    return fail(EINVAL, "Invalid footer");
  }
  return parse_sparse_header(sectors.subspan<kSector, kSector>());
}

Result<void> check_sparse_header(const SparseHeader& header, bool writable, uint64_t file_length) {
  if (header.version > kLatestVersion) {
    return fail(ENOTSUP, "Unsupported VMDK version {}", header.version);
  }
  if (header.version == kLatestVersion && writable && !header.compressed()) {
    return fail(EINVAL, "VMDK version 3 must be read only");
  }
  if (header.table_entries > header.most_table_entries) {
    return fail(EINVAL, "L2 table size too big");
  }
  // The field counts these in 32 bits.
  if (static_cast<uint32_t>(header.table_entries * header.grain_size) == 0) {
    return fail(EINVAL, "L1 entry size is invalid");
  }
  const auto overhead = checked_mul(header.overhead, kSector);
  if (!overhead || *overhead > file_length) {
    return fail(EINVAL, "File truncated, expecting at least {} bytes",
                header.overhead * kSector & INT64_MAX);
  }
  if (!std::has_single_bit(header.grain_size) || header.grain_size > kLargestGrain) {
    return fail(EFBIG, "Invalid granularity, image may be corrupt");
  }
  if (directory_entries(header) > kMostDirectoryEntries) {
    return fail(EFBIG, "L1 size too big");
  }
  return {};
}

uint64_t directory_entries(const SparseHeader& header) {
  return div_round_up(header.capacity, header.table_entries * header.grain_size);
}

}  // namespace cairn::vmdk
