// Images that cost as much as they can, from files that have next to nothing in them.
#include <functional>

#include "base/bytes.h"
#include "formats/qcow2/bitmap_directory.h"
#include "tests/formats/qcow2/corpus.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/formats/qcow2/repair_test.h"

namespace cairn::qcow2 {
namespace {

constexpr uint64_t kSnapshotEntry = 40;  // bytes, without names and extra data

RawImage with_one_cluster(uint32_t bits) {
  testing::Qcow2Builder builder({.cluster_bits = bits, .size = 64 * (uint64_t{1} << bits)});
  std::vector<std::byte> data(uint64_t{1} << bits);
  testing::fill_pattern(1, 0, data);
  builder.data(0, data);
  return RawImage(builder.finish());
}

uint64_t cluster_of(const RawImage& raw) {
  return uint64_t{1} << (raw.field(16) & UINT32_MAX);  // cluster_bits is its second half
}

// Makes room for `bytes` at the end of the file; they are a hole.
uint64_t append(RawImage& raw, uint64_t bytes) {
  const uint64_t place = align_up(raw.bytes().size(), cluster_of(raw));
  raw.bytes().resize(align_up(place + bytes, cluster_of(raw)));
  return place;
}

using EntryOf = std::function<uint64_t(uint64_t index)>;

// A table of `entries` at the end of the file.
uint64_t append_table(RawImage& raw, uint64_t entries, const EntryOf& entry_of) {
  const uint64_t place = append(raw, entries * 8);
  for (uint64_t i = 0; i < entries; ++i) {
    raw.set(place + i * 8, entry_of(i));
  }
  return place;
}

void use_l1(RawImage& raw, uint64_t place, uint64_t entries) {
  raw.set32(header_offset::kL1Size, static_cast<uint32_t>(entries));
  raw.set(header_offset::kL1Size + 4, place);
}

void use_snapshots(RawImage& raw, uint64_t place, uint64_t count) {
  raw.set32(header_offset::kSnapshots, static_cast<uint32_t>(count));
  raw.set(header_offset::kSnapshots + 4, place);
}

RawImage l1_of_holes() {
  RawImage raw = with_one_cluster(16);
  const uint64_t place = append(raw, kMaxL1Bytes);
  use_l1(raw, place, kMaxL1Bytes / kL1EntryBytes);
  return raw;
}

RawImage l1_with(uint32_t bits, uint64_t entries, const EntryOf& entry_of) {
  RawImage raw = with_one_cluster(bits);
  use_l1(raw, append_table(raw, entries, entry_of), entries);
  return raw;
}

RawImage l1_entries_alike() {
  const uint64_t l2 = with_one_cluster(16).l2();
  return l1_with(16, 4096, [l2](uint64_t /*index*/) { return l2 | kEntryCopied; });
}

RawImage l1_entries_behind_the_end() {
  return l1_with(9, 8192, [](uint64_t index) { return ((index + 1) << 40) | kEntryCopied; });
}

RawImage refcount_table_of_holes() {
  RawImage raw = with_one_cluster(16);
  const uint64_t block = raw.block();
  const uint64_t place = append(raw, kMaxRefcountTableBytes);
  raw.set(place, block);
  raw.set(header_offset::kRefcountTable, place);
  raw.set32(header_offset::kRefcountTable + 8, kMaxRefcountTableBytes / 65536);
  return raw;
}

RawImage refcount_blocks_alike() {
  RawImage raw = with_one_cluster(16);
  const uint64_t block = raw.block();
  raw.set(header_offset::kRefcountTable,
          append_table(raw, 8192, [block](uint64_t /*index*/) { return block; }));
  return raw;
}

RawImage long_file() {
  RawImage raw = with_one_cluster(16);
  raw.bytes().resize(uint64_t{1} << 50);
  return raw;
}

RawImage large_disk() {
  RawImage raw = with_one_cluster(21);
  raw.set(header_offset::kSize, uint64_t{1} << 59);
  use_l1(raw, append(raw, 8 << 20), 1 << 20);
  return raw;
}

RawImage snapshots_in_a_hole() {
  RawImage raw = with_one_cluster(9);
  use_snapshots(raw, append(raw, 8), kMaxSnapshots);
  return raw;
}

// All with the L1 table at `l1`, of as many entries as there may be.
RawImage snapshots_with_l1(uint64_t l1, uint64_t count) {
  RawImage raw = with_one_cluster(16);
  const uint64_t table = append(raw, count * kSnapshotEntry);
  for (uint64_t i = 0; i < count; ++i) {
    raw.set(table + i * kSnapshotEntry, l1);
    raw.set32(table + i * kSnapshotEntry + 8, kMaxL1Bytes / kL1EntryBytes);
  }
  use_snapshots(raw, table, count);
  return raw;
}

RawImage snapshots_with_l1_behind_the_end() { return snapshots_with_l1(uint64_t{1} << 40, 1000); }

RawImage snapshots_that_share_a_table() {
  RawImage raw = with_one_cluster(16);
  const uint64_t l2 = raw.l2();
  const uint64_t l1 = append_table(raw, 512, [l2](uint64_t /*index*/) { return l2; });
  const uint64_t table = append(raw, 16 * kSnapshotEntry);
  for (uint64_t i = 0; i < 16; ++i) {
    raw.set(table + i * kSnapshotEntry, l1);
    raw.set32(table + i * kSnapshotEntry + 8, 512);
  }
  use_snapshots(raw, table, 16);
  return raw;
}

RawImage snapshot_with_extra_data() {
  RawImage raw = with_one_cluster(16);
  const uint64_t table = append(raw, kSnapshotEntry);
  raw.set32(table + 36, UINT32_MAX);
  use_snapshots(raw, table, 1);
  return raw;
}

// Each name is a hole of 64 KiB.
RawImage snapshots_with_long_names() {
  RawImage raw = with_one_cluster(16);
  const uint64_t length = align_up(kSnapshotEntry + UINT16_MAX, 8);
  const uint64_t count = kMaxSnapshotTableBytes / length;
  const uint64_t table = append(raw, count * length);
  for (uint64_t i = 0; i < count; ++i) {
    raw.set32(table + i * length + 12, UINT16_MAX);
  }
  use_snapshots(raw, table, count);
  return raw;
}

RawImage l2_with(uint32_t bits, const EntryOf& entry_of) {
  RawImage raw = with_one_cluster(bits);
  for (uint64_t i = 0; i < 64; ++i) {
    raw.set(raw.l2() + i * 8, entry_of(i));
  }
  return raw;
}

RawImage compressed_behind_the_end() {
  return l2_with(16,
                 [](uint64_t i) { return kEntryCompressed | (i << 40) | (uint64_t{255} << 54); });
}

RawImage compressed_in_one_place() {
  const uint64_t data = with_one_cluster(16).field(with_one_cluster(16).l2()) & kEntryOffsetMask;
  return l2_with(16, [data](uint64_t i) { return kEntryCompressed | (data + i); });
}

RawImage data_behind_the_end() {
  return l2_with(9, [](uint64_t i) { return ((i + 1) << 44) | kEntryCopied; });
}

// As many extensions as a header cluster has room for, all of them empty.
RawImage many_extensions() {
  RawImage raw = with_one_cluster(21);
  for (uint64_t at = kHeaderLengthV3; at < (uint64_t{1} << 21) - 16; at += 8) {
    raw.set(at, uint64_t{7} << 32);
  }
  return raw;
}

void use_bitmaps(RawImage& raw, uint32_t count, uint64_t length, uint64_t place) {
  raw.set(header_offset::kAutoclear, kAutoclearBitmaps);
  raw.set32(kHeaderLengthV3, static_cast<uint32_t>(ExtensionType::kBitmaps));
  raw.set32(kHeaderLengthV3 + 4, kBitmapsExtensionLength);
  raw.set32(kHeaderLengthV3 + 8, count);
  raw.set32(kHeaderLengthV3 + 12, 0);
  raw.set(kHeaderLengthV3 + 16, length);
  raw.set(kHeaderLengthV3 + 24, place);
  raw.set(kHeaderLengthV3 + 32, 0);
}

RawImage bitmap_directory_of_holes() {
  RawImage raw = with_one_cluster(16);
  use_bitmaps(raw, kMaxBitmaps, kMaxBitmapDirectoryBytes, append(raw, kMaxBitmapDirectoryBytes));
  return raw;
}

// The most and the largest bitmaps of the finest granularity, all with one table, a hole or not.
RawImage large_bitmaps(uint64_t table_entry) {
  RawImage raw = with_one_cluster(16);
  raw.set(header_offset::kSize, uint64_t{1} << 40);
  use_l1(raw, append(raw, 1 << 16), 1 << 13);
  const uint64_t entries = kMaxBitmapBytes / 65536;
  const uint64_t table =
      append_table(raw, entries, [table_entry](uint64_t /*index*/) { return table_entry; });
  constexpr uint64_t kEntry = 32;
  constexpr uint64_t kCount = 1000;
  const uint64_t directory = append(raw, kCount * kEntry);
  for (uint64_t i = 0; i < kCount; ++i) {
    const uint64_t at = directory + i * kEntry;
    raw.set(at, table);
    raw.set32(at + 8, static_cast<uint32_t>(entries));
    raw.set32(at + 16, 1 << 24 | 9 << 16 | 8);  // tracking, of 512 bytes, a name of eight
    raw.set(at + 24, 0x6162636465660000 + 0x3030 + (i / 100 << 8) + i % 100);
  }
  use_bitmaps(raw, kCount, kCount * kEntry, directory);
  return raw;
}

RawImage bitmaps_without_bits() { return large_bitmaps(0); }
RawImage bitmaps_of_ones() { return large_bitmaps(1); }
RawImage bitmaps_in_one_cluster() { return large_bitmaps(with_one_cluster(16).l2()); }

struct Costly {
  const char* name;
  RawImage (*make)();
};

constexpr Costly kCostly[] = {
    {"an L1 table of 32 MiB of holes", l1_of_holes},
    {"every L1 entry at one L2 table", l1_entries_alike},
    {"every L1 entry behind the end", l1_entries_behind_the_end},
    {"a refcount table of 8 MiB of holes", refcount_table_of_holes},
    {"every refcount block the same", refcount_blocks_alike},
    {"a file of 1 PiB", long_file},
    {"a disk of 512 PiB", large_disk},
    {"65536 snapshots in a hole", snapshots_in_a_hole},
    {"1000 snapshots of 32 MiB behind the end", snapshots_with_l1_behind_the_end},
    {"16 snapshots with one L1 table, and that with one L2 table", snapshots_that_share_a_table},
    {"a snapshot with 4 GiB of extra data", snapshot_with_extra_data},
    {"1000 snapshots with names of 64 KiB", snapshots_with_long_names},
    {"compressed clusters behind the end", compressed_behind_the_end},
    {"compressed clusters in one place", compressed_in_one_place},
    {"data clusters behind the end", data_behind_the_end},
    {"262000 header extensions", many_extensions},
    {"a bitmap directory of 64 MiB of holes", bitmap_directory_of_holes},
    {"1000 large bitmaps without bits", bitmaps_without_bits},
    {"1000 large bitmaps of ones", bitmaps_of_ones},
    {"1000 large bitmaps in one cluster", bitmaps_in_one_cluster},
};

}  // namespace

std::vector<DamagedImage> costly_images() {
  std::vector<DamagedImage> all;
  for (const Costly& costly : kCostly) {
    RawImage image = costly.make();
    all.push_back({costly.name, std::move(image.bytes())});
  }
  return all;
}

}  // namespace cairn::qcow2
