#include "formats/vmdk/se_sparse_map.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/bytes.h"

namespace cairn::vmdk {

namespace {

// Upper bits of an entry of the directory that has a table, whose number is in the lower half.
constexpr uint64_t kHasTable = 0x10000000;
constexpr unsigned kTableBits = 32;

// The kinds of entries of a table, in their upper four bits.
constexpr unsigned kGrainKindShift = 60;
constexpr uint64_t kGrainUnmapped = 1;  // the guest has discarded it; its old place follows
constexpr uint64_t kGrainZero = 2;
constexpr uint64_t kGrainAllocated = 3;
// The number of an allocated grain has its lowest twelve bits above all the others.
constexpr unsigned kLowBits = 12;
constexpr unsigned kLowShift = 48;
constexpr uint64_t kLowMask = (uint64_t{1} << kLowBits) - 1;
constexpr uint64_t kHighMask = (uint64_t{1} << kLowShift) - 1;

constexpr auto kLastPlace = static_cast<uint64_t>(INT64_MAX);

// Where unit `index` behind `begin` lies, when such a place can be.
std::optional<uint64_t> place_of(uint64_t begin, uint64_t index, uint64_t unit) {
  const auto distance = checked_mul(index, unit);
  const auto place = distance ? checked_add(begin, *distance) : std::nullopt;
  return place && *place <= kLastPlace - unit ? place : std::nullopt;
}

}  // namespace

SeSparseMap::SeSparseMap(block::Edge& file, const SeSparseHeader& header)
    : file_(file),
      header_(header),
      tables_begin_(checked_mul(header.tables.offset, kSector).value_or(UINT64_MAX)),
      grains_begin_(checked_mul(header.grains.offset, kSector).value_or(UINT64_MAX)) {}

// Entries beyond the end of the file are zero, and none of those is appended.
io::Task<Result<void>> SeSparseMap::read_entries(uint64_t offset, uint64_t count,
                                                 std::vector<uint64_t>& entries) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  const uint64_t length = file_.length();
  const uint64_t present =
      offset < length ? std::min(count * kSeEntryBytes, length - offset) : uint64_t{0};
  std::vector<std::byte> bytes;
  for (uint64_t done = 0; done < present; done += bytes.size()) {
    const uint64_t piece = std::min(kPiece, present - done);
    bytes.assign(align_up(piece, kSeEntryBytes), std::byte{0});
    Result<void> read = co_await file_.read(offset + done, bytes.data(), piece);
    if (!read) {
      co_return read;
    }
    uint64_t index = done / kSeEntryBytes;
    for (uint64_t at = 0; at < bytes.size(); at += kSeEntryBytes, ++index) {
      const auto entry = load_le<uint64_t>(bytes.data() + at);
      if (entry != 0) {
        entries.resize(index + 1);
        entries.back() = entry;
      }
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> SeSparseMap::load() {
  const Result<uint64_t> entries = se_directory_entries(header_);
  if (!entries) {
    co_return std::unexpected(entries.error());
  }
  int error = EIO;
  const auto offset = checked_mul(header_.directory.offset, kSector);
  if (offset && *offset <= kLastPlace - *entries * kSeEntryBytes) {
    Result<void> read = co_await read_entries(*offset, *entries, directory_);
    if (read) {
      co_return read;
    }
    error = read.error().code();
  }
  co_return fail_errno(error, "Could not read l1 table from extent '{}'", file_.node().filename());
}

Result<uint64_t> SeSparseMap::table_place(uint64_t index) const {
  const uint64_t entry = directory_[index];
  std::optional<uint64_t> place;
  if (entry >> kTableBits == kHasTable) {
    place = place_of(tables_begin_, entry & UINT32_MAX, kSeTableEntries * kSeEntryBytes);
  }
  if (!place) {
    return fail(EIO, "Entry {} of the grain directory of '{}' is damaged: {:#018x}", index,
                file_.node().filename(), entry);
  }
  return *place;
}

SeSparseMap::Grain SeSparseMap::parse_grain(uint64_t entry) const {
  switch (entry >> kGrainKindShift) {
    case kGrainUnmapped:
    case kGrainZero:
      return {.kind = Grain::Kind::kZero};
    case kGrainAllocated: {
      const uint64_t number = (entry >> kLowShift & kLowMask) | (entry & kHighMask) << kLowBits;
      const auto host = place_of(grains_begin_, number, kSeGrain);
      if (host) {
        return {.kind = Grain::Kind::kData, .host = *host};
      }
      return {.kind = Grain::Kind::kDamaged};
    }
    default:
      return {.kind = entry == 0 ? Grain::Kind::kHole : Grain::Kind::kDamaged};
  }
}

// False when the first grain's entry is damaged; later ones end what is told.
bool SeSparseMap::map_grains(const Table& table, uint64_t offset, uint64_t length,
                             block::Extent& extent) const {
  const auto entry = [&table](uint64_t index) {
    return index < table.entries.size() ? table.entries[index] : 0;
  };
  const uint64_t in_grain = offset % kSeGrain;
  uint64_t index = offset % kTableSpan / kSeGrain;
  const Grain first = parse_grain(entry(index));
  if (first.kind == Grain::Kind::kDamaged) {
    return false;
  }
  uint64_t covered = kSeGrain - in_grain;
  for (++index; covered < length && index < kSeTableEntries; ++index) {
    const Grain next = parse_grain(entry(index));
    const bool follows = next.kind == first.kind && (next.kind != Grain::Kind::kData ||
                                                     next.host == first.host + in_grain + covered);
    if (!follows) {
      break;
    }
    covered += kSeGrain;
  }
  extent = block::Extent{.length = std::min(length, covered)};
  if (first.kind == Grain::Kind::kData) {
    extent.kind = block::Extent::Kind::kData;
    extent.host_valid = true;
    extent.host_offset = first.host + in_grain;
    extent.child = &file_;
  } else if (first.kind == Grain::Kind::kZero) {
    extent.kind = block::Extent::Kind::kZero;
  }
  return true;
}

// Good until something is suspended.
const std::shared_ptr<SeSparseMap::Table>* SeSparseMap::find(uint64_t index) {
  const auto found = tables_.find(index);
  if (found == tables_.end()) {
    return nullptr;
  }
  found->second->used = ++clock_;
  return &found->second;
}

bool SeSparseMap::try_map(uint64_t offset, uint64_t length, block::Extent& extent) {
  const uint64_t index = offset / kTableSpan;
  if (index >= directory_.size()) {
    extent = block::Extent{.length = length};
    return true;
  }
  length = std::min(length, kTableSpan - offset % kTableSpan);
  if (directory_[index] == 0) {
    extent = block::Extent{.length = length};
    return true;
  }
  const std::shared_ptr<Table>* const table = find(index);
  return table != nullptr && map_grains(**table, offset, length, extent);
}

io::Task<Result<block::Extent>> SeSparseMap::map(uint64_t offset, uint64_t length) {
  block::Extent extent;
  if (try_map(offset, length, extent)) {
    co_return extent;
  }
  const Result<std::shared_ptr<Table>> table = co_await fetch(offset / kTableSpan);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  length = std::min(length, kTableSpan - offset % kTableSpan);
  if (!map_grains(**table, offset, length, extent)) {
    co_return fail(EIO, "The grain at offset {} of extent '{}' has a damaged entry: {:#018x}",
                   offset, file_.node().filename(),
                   (*table)->entries[offset % kTableSpan / kSeGrain]);
  }
  co_return extent;
}

io::Task<Result<std::shared_ptr<SeSparseMap::Table>>> SeSparseMap::fetch(uint64_t index) {
  // One at a time: two that want the same table read it once.
  const auto lock = co_await reading_.lock();
  if (const std::shared_ptr<Table>* const found = find(index)) {
    co_return *found;
  }
  const Result<uint64_t> place = table_place(index);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  auto table = std::make_shared<Table>();
  Result<void> read = co_await read_entries(*place, kSeTableEntries, table->entries);
  if (!read) {
    co_return pass(read);
  }
  table->used = ++clock_;
  make_room();
  tables_.emplace(index, table);
  co_return table;
}

void SeSparseMap::make_room() {
  if (tables_.size() < kMostTables) {
    return;
  }
  const auto oldest =
      std::ranges::min_element(tables_, {}, [](const auto& item) { return item.second->used; });
  tables_.erase(oldest);
}

}  // namespace cairn::vmdk
