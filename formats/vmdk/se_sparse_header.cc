#include "formats/vmdk/se_sparse_header.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "formats/vmdk/layout.h"

namespace cairn::vmdk {

namespace {

constexpr uint64_t kConstantMagic = 0xcafebabe;
constexpr uint64_t kVolatileMagic = 0xcafecafe;
constexpr uint64_t kSeVersion = uint64_t{2} << 32 | 1;  // 2.1

// Offsets of the fields.
constexpr std::size_t kSeVersionAt = 8;
constexpr std::size_t kSeCapacity = 16;
constexpr std::size_t kSeGrainSize = 24;
constexpr std::size_t kSeTableSize = 32;
constexpr std::size_t kSeFlags = 40;
constexpr std::size_t kSeReserved = 48;  // four numbers
constexpr std::size_t kSeVolatileHeader = 80;
constexpr std::size_t kSeDirectory = 128;
constexpr std::size_t kSeTables = 144;
constexpr std::size_t kSeGrains = 192;
constexpr std::size_t kSePadding = 208;

constexpr std::size_t kVolatileReplay = 24;
constexpr std::size_t kVolatilePadding = 32;

uint64_t number_at(std::span<const std::byte, kSector> sector, std::size_t offset) {
  return load_le<uint64_t>(sector.data() + offset);
}

SeSparseHeader::Area area_at(std::span<const std::byte, kSector> sector, std::size_t offset) {
  return {.offset = number_at(sector, offset),
          .length = number_at(sector, offset + sizeof(uint64_t))};
}

bool zero_from(std::span<const std::byte, kSector> sector, std::size_t offset) {
  return std::ranges::all_of(sector.subspan(offset),
                             [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

Result<SeSparseHeader> parse_se_sparse_header(std::span<const std::byte, kSector> sector) {
  if (const uint64_t magic = number_at(sector, 0); magic != kConstantMagic) {
    return fail(EINVAL, "Bad const header magic: {:#018x}", magic);
  }
  if (const uint64_t version = number_at(sector, kSeVersionAt); version != kSeVersion) {
    return fail(ENOTSUP, "Unsupported version: {:#018x}", version);
  }
  if (const uint64_t grain = number_at(sector, kSeGrainSize); grain != kSeGrain / kSector) {
    return fail(ENOTSUP, "Unsupported grain size: {}", grain);
  }
  if (const uint64_t table = number_at(sector, kSeTableSize);
      table != kSeTableEntries * kSeEntryBytes / kSector) {
    return fail(ENOTSUP, "Unsupported grain table size: {}", table);
  }
  if (const uint64_t flags = number_at(sector, kSeFlags); flags != 0) {
    return fail(ENOTSUP, "Unsupported flags: {:#018x}", flags);
  }
  if (!std::ranges::all_of(sector.subspan(kSeReserved, kSeVolatileHeader - kSeReserved),
                           [](std::byte byte) { return byte == std::byte{0}; })) {
    return fail(ENOTSUP, "Unsupported reserved bits: {:#018x} {:#018x} {:#018x} {:#018x}",
                number_at(sector, kSeReserved), number_at(sector, kSeReserved + 8),
                number_at(sector, kSeReserved + 16), number_at(sector, kSeReserved + 24));
  }
  if (!zero_from(sector, kSePadding)) {
    return fail(ENOTSUP, "Unsupported non-zero const header padding");
  }
  return SeSparseHeader{.capacity = number_at(sector, kSeCapacity),
                        .volatile_header = area_at(sector, kSeVolatileHeader),
                        .directory = area_at(sector, kSeDirectory),
                        .tables = area_at(sector, kSeTables),
                        .grains = area_at(sector, kSeGrains)};
}

Result<void> check_volatile_header(std::span<const std::byte, kSector> sector) {
  if (const uint64_t magic = number_at(sector, 0); magic != kVolatileMagic) {
    return fail(EINVAL, "Bad volatile header magic: {:#018x}", magic);
  }
  if (number_at(sector, kVolatileReplay) != 0) {
    return fail(ENOTSUP, "Image is dirty, Replaying journal not supported");
  }
  if (!zero_from(sector, kVolatilePadding)) {
    return fail(ENOTSUP, "Unsupported non-zero volatile header padding");
  }
  return {};
}

Result<uint64_t> se_directory_entries(const SeSparseHeader& header) {
  constexpr uint64_t kInSector = kSector / kSeEntryBytes;
  if (header.directory.length > kMostDirectoryEntries / kInSector) {
    return fail(EFBIG, "L1 size too big");
  }
  const uint64_t needed = div_round_up(header.capacity, kSeTableEntries * kSeGrain / kSector);
  return std::min(needed, header.directory.length * kInSector);
}

}  // namespace cairn::vmdk
