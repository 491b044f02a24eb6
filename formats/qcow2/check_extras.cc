// References of what lies beside the active tables: snapshots, bitmaps, the encryption header.
#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

// Entries that are not as they must be are repaired in memory; write_snapshots() follows at the
// end.
io::Task<Result<void>> Checker::read_snapshots() {
  const auto excess = options_.fix_errors ? ExcessExtra::kDiscard : ExcessExtra::kRefuse;
  auto table = co_await read_snapshot_table(image_.file(), header_, excess);
  if (!table) {
    co_return pass(table, "ERROR failed to read the snapshot table: ");
  }
  snapshots_ = std::move(*table);
  for (std::size_t i = 0; i < snapshots_.size(); ++i) {
    const uint32_t extra = snapshots_[i].extra_length;
    if (extra > SnapshotEntry::kMaxExtra) {
      report(fmt::format("Discarding too much extra metadata in snapshot table entry {} ({} > {})",
                         i, extra, uint32_t{SnapshotEntry::kMaxExtra}));
    } else if (header_.version < 3 || extra >= SnapshotEntry::kExtraOfVersion3) {
      continue;
    } else if (!options_.fix_errors) {
      corruption(fmt::format("ERROR snapshot table entry {} is incomplete", i));
      continue;
    } else {
      report(fmt::format("Repairing snapshot table entry {} is incomplete", i));
    }
    ++findings_;
    ++repaired_snapshots_;
  }
  co_return Result<void>{};
}

// The repaired snapshot table as it shall be stored; empty when there is nothing to repair. The old
// one ends like the old refcount structures.
Result<std::vector<std::byte>> Checker::retire_snapshot_table() {
  if (repaired_snapshots_ == 0) {
    return std::vector<std::byte>();
  }
  SnapshotTable table;
  uint64_t old_length = 0;
  for (const SnapshotEntry& snapshot : snapshots_) {
    old_length += snapshot.length;
    table.add(snapshot);
  }
  auto bytes = table.serialize();
  const uint64_t first = header_.snapshots_offset >> geometry_.cluster_bits;
  const uint64_t clusters = div_round_up(old_length, geometry_.cluster_size());
  for (uint64_t i = 0; bytes && snapshot_table_counted_ && i < clusters; ++i) {
    if (structure_.add(first + i) == 0) {
      return fail(ENOMEM, "The check would need more memory than it may use");
    }
  }
  return bytes;
}

io::Task<Result<void>> Checker::count_snapshots() {
  uint64_t table_length = 0;
  for (const SnapshotEntry& snapshot : snapshots_) {
    table_length += snapshot.length;
    if (!is_aligned(snapshot.l1_offset, geometry_.cluster_size())) {
      corruption(
          fmt::format("ERROR snapshot {} ({}) l1_offset={:#x}: L1 table is not cluster aligned; "
                      "snapshot table entry corrupted",
                      snapshot.id, snapshot.name, snapshot.l1_offset));
      continue;
    }
    if (snapshot.l1_entries > kMaxL1Bytes / kL1EntryBytes) {
      corruption(
          fmt::format("ERROR snapshot {} ({}) l1_size={:#x}: L1 table is too large; "
                      "snapshot table entry corrupted",
                      snapshot.id, snapshot.name, snapshot.l1_entries));
      continue;
    }
    const L1Table table{snapshot.l1_offset, snapshot.l1_entries, false};
    Result<void> counted = co_await count_l1(table);
    if (!counted) {
      co_return counted;
    }
  }
  const int64_t corruptions = result_.corruptions;
  auto counted = count(header_.snapshots_offset, table_length);
  snapshot_table_counted_ = counted && result_.corruptions == corruptions;
  co_return counted;
}

Result<void> Checker::count_crypt_header() {
  const HeaderExtension* extension = header_.extension(ExtensionType::kCryptHeader);
  if (extension == nullptr || extension->data.size() < kCryptExtensionLength) {
    return {};
  }
  return count(load_be<uint64_t>(extension->data.data()),
               load_be<uint64_t>(extension->data.data() + 8));
}

io::Task<Result<void>> Checker::count_bitmaps() {
  const HeaderExtension* extension = header_.extension(ExtensionType::kBitmaps);
  // Without the autoclear bit somebody has written to the image who does not know bitmaps: they are
  // void, and their clusters leaked.
  if (extension == nullptr || extension->data.size() < kBitmapsExtensionLength ||
      (header_.autoclear_features & kAutoclearBitmaps) == 0) {
    co_return Result<void>{};
  }
  const auto bitmaps = load_be<uint32_t>(extension->data.data());
  const auto length = load_be<uint64_t>(extension->data.data() + 8);
  const auto offset = load_be<uint64_t>(extension->data.data() + 16);
  if (bitmaps > kMaxBitmaps || length > kMaxBitmapDirectoryBytes || offset > kMaxHostOffset) {
    corruption("ERROR the bitmap directory is beyond the limits of the format");
    co_return Result<void>{};
  }
  if (auto counted = count(offset, length); !counted) {
    co_return counted;
  }
  uint64_t at = 0;
  for (uint32_t i = 0; i < bitmaps; ++i) {
    std::array<std::byte, kBitmapEntryFixed> entry{};
    if (length < kBitmapEntryFixed || at > length - kBitmapEntryFixed) {
      corruption(fmt::format("ERROR bitmap directory entry {} is beyond the directory's end", i));
      break;
    }
    Result<void> read = co_await read_metadata(image_.file(), offset + at, entry);
    if (!read) {
      co_return pass(read, "Could not read the bitmap directory: ");
    }
    const auto name_length = load_be<uint16_t>(entry.data() + 18);
    const auto extra = load_be<uint32_t>(entry.data() + 20);
    at += align_up(kBitmapEntryFixed + name_length + extra, 8);
    const auto table_offset = load_be<uint64_t>(entry.data());
    const auto table_entries = load_be<uint32_t>(entry.data() + 8);
    Result<void> counted = co_await count_bitmap_table(table_offset, table_entries);
    if (!counted) {
      co_return counted;
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Checker::count_bitmap_table(uint64_t offset, uint64_t entries) {
  const uint64_t length = entries * sizeof(uint64_t);
  if (auto counted = count(offset, length); !counted) {
    co_return counted;
  }
  // A table that does not lie in the file was just found wanting.
  if (offset >= file_length_ || length > file_length_ - offset) {
    co_return Result<void>{};
  }
  std::vector<std::byte> bytes;
  const uint64_t piece_entries = geometry_.cluster_size() / sizeof(uint64_t);
  for (uint64_t first = 0; first < entries; first += piece_entries) {
    const uint64_t here = std::min(piece_entries, entries - first);
    Result<void> read = co_await read_table(offset + first * sizeof(uint64_t), here, bytes);
    if (!read) {
      co_return pass(read, "Could not read a bitmap table: ");
    }
    for (uint64_t i = 0; i < here; ++i) {
      const uint64_t place =
          load_be<uint64_t>(bytes.data() + i * sizeof(uint64_t)) & kEntryOffsetMask;
      if (place == 0) {
        continue;
      }
      if (auto counted = count(place, geometry_.cluster_size()); !counted) {
        co_return counted;
      }
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::qcow2
