#include "formats/vmdk/extent.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace cairn::vmdk {

namespace {

// The header that a stream has at its end.
io::Task<Result<SparseHeader>> read_footer(block::Edge& file) {
  constexpr uint64_t kBytes = 3 * kSector;
  std::array<std::byte, kBytes> sectors{};
  const uint64_t length = file.length();
  if (length < kBytes) {
    co_return fail(EINVAL, "Invalid footer");
  }
  Result<void> read = co_await file.read(length - kBytes, sectors.data(), kBytes);
  if (!read) {
    co_return pass(read);
  }
  co_return parse_footer(sectors);
}

// Where an extent that begins at `begin` of the disk ends. EFBIG.
Result<uint64_t> extent_end(uint64_t begin, uint64_t sectors) {
  const auto bytes = checked_mul(sectors, kSector);
  const auto end = bytes ? checked_add(begin, *bytes) : std::nullopt;
  if (!end || *end > static_cast<uint64_t>(INT64_MAX)) {
    return fail_errno(EFBIG, "Could not refresh total sector count");
  }
  return *end;
}

// A sector; what lies beyond the end of the file is zero.
io::Task<Result<HeaderSector>> read_sector(block::Edge& file, uint64_t offset) {
  HeaderSector sector{};
  const uint64_t length = file.length();
  const uint64_t present = offset < length ? std::min(kSector, length - offset) : uint64_t{0};
  if (present > 0) {
    Result<void> read = co_await file.read(offset, sector.data(), present);
    if (!read) {
      co_return pass(read);
    }
  }
  co_return sector;
}

io::Task<Result<SeSparseHeader>> read_se_sparse_headers(block::Edge& file) {
  const Result<HeaderSector> constant = co_await read_sector(file, 0);
  if (!constant) {
    co_return fail_errno(constant.error().code(), "Could not read const header from file '{}'",
                         file.node().filename());
  }
  Result<SeSparseHeader> header = parse_se_sparse_header(*constant);
  if (!header) {
    co_return header;
  }
  const auto offset = checked_mul(header->volatile_header.offset, kSector);
  Result<HeaderSector> changing = fail_errno(EIO, "There is no such place in a file");
  if (offset && *offset <= static_cast<uint64_t>(INT64_MAX) - kSector) {
    changing = co_await read_sector(file, *offset);
  }
  if (!changing) {
    co_return fail_errno(changing.error().code(), "Could not read volatile header from file '{}'",
                         file.node().filename());
  }
  if (auto usable = check_volatile_header(*changing); !usable) {
    co_return pass(usable);
  }
  co_return header;
}

}  // namespace

block::Extent VmdkExtent::map_flat(uint64_t offset, uint64_t length) const {
  return {.length = std::min(length, end - offset),
          .kind = block::Extent::Kind::kData,
          .in_place = true,
          .host_valid = true,
          .child_status = block::Extent::ChildStatus::kZeroes,
          .host_offset = flat_offset + (offset - begin),
          .child = file};
}

block::Extent VmdkExtent::map_grains(const GrainTable& table, uint64_t offset,
                                     uint64_t length) const {
  const uint64_t in_grain = (offset - begin) % grain;
  uint64_t entry = entry_index(offset);
  length = std::min(length, end - offset);
  block::Extent extent{.length = length};
  if (table.entries.empty()) {  // there is no table
    const uint64_t table_end = begin + (table_index(offset) + 1) * table_span();
    extent.length = std::min(length, table_end - offset);
    return extent;
  }
  const uint32_t first = table.entries[entry];
  uint64_t covered = grain - in_grain;
  if (has_data(first)) {
    extent.kind = block::Extent::Kind::kData;
    extent.child = file;
    extent.host_offset = uint64_t{first} * kSector;
    if (codec != nullptr) {
      extent.codec = codec.get();
      extent.unit_offset = offset - in_grain;
      extent.unit_length = grain;
      extent.stored_length = codec->longest_stored(grain);
      extent.length = std::min(length, covered);
      return extent;
    }
    extent.host_offset += in_grain;
    extent.host_valid = true;
    extent.in_place = true;
  } else if (zeroed(first)) {
    extent.kind = block::Extent::Kind::kZero;
  }
  const uint64_t step = has_data(first) ? grain / kSector : 0;
  uint64_t expected = uint64_t{first} + step;
  for (++entry; covered < length && entry < table.entries.size(); ++entry) {
    if (table.entries[entry] != expected) {
      break;
    }
    expected += step;
    covered += grain;
  }
  extent.length = std::min(length, covered);
  return extent;
}

io::Task<Result<VmdkExtent>> open_sparse_extent(block::Edge& file, SparseHeader header,
                                                uint64_t begin, bool writable) {
  if (header.directory_offset == kDirectoryAtEnd) {
    Result<SparseHeader> footer = co_await read_footer(file);
    if (!footer) {
      co_return pass(footer);
    }
    header = *footer;
  }
  if (auto usable = check_sparse_header(header, writable, file.length()); !usable) {
    co_return pass(usable);
  }
  const Result<uint64_t> disk_end = extent_end(begin, header.capacity);
  if (!disk_end) {
    co_return std::unexpected(disk_end.error());
  }
  VmdkExtent extent;
  extent.file = &file;
  extent.begin = begin;
  extent.end = *disk_end;
  extent.header = header;
  extent.grain = header.grain_size * kSector;
  extent.tables = std::make_unique<GrainTables>(file, header);
  if (header.compressed()) {
    extent.codec = std::make_unique<GrainCodec>(header.has(kFlagMarkers));
  }
  Result<void> loaded = co_await extent.tables->load(writable);
  if (!loaded) {
    co_return pass(loaded);
  }
  extent.unwritten_from = file.length();
  extent.next_free = align_up(std::max(file.length(), header.overhead * kSector), extent.grain);
  co_return extent;
}

io::Task<Result<VmdkExtent>> open_se_sparse_extent(block::Edge& file, uint64_t begin) {
  const Result<SeSparseHeader> header = co_await read_se_sparse_headers(file);
  if (!header) {
    co_return std::unexpected(header.error());
  }
  auto map = std::make_unique<SeSparseMap>(file, *header);
  Result<void> loaded = co_await map->load();
  if (!loaded) {
    co_return pass(loaded);
  }
  const Result<uint64_t> end = extent_end(begin, header->capacity);
  if (!end) {
    co_return std::unexpected(end.error());
  }
  VmdkExtent extent;
  extent.file = &file;
  extent.begin = begin;
  extent.end = *end;
  extent.grain = kSeGrain;
  extent.se_map = std::move(map);
  co_return extent;
}

}  // namespace cairn::vmdk
