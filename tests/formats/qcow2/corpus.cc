#include "tests/formats/qcow2/corpus.h"

#include <functional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "block/dirty_bitmap_ops.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/refcounts.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/formats/qcow2/repair_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::Qcow2Shape;
using testing::SparseBytes;

constexpr uint64_t kClusters = 600;  // of the disk: more than one L2 table, where they are small

struct Value {
  std::string name;
  uint64_t value;
};

// A sound image and where its parts are.
struct Base {
  std::string name;
  RawImage image;
  uint32_t cluster_bits = 0;
  uint64_t snapshots = 0;          // 0: none
  uint64_t bitmaps_extension = 0;  // place of its data in the header; 0: none

  [[nodiscard]] uint64_t cluster() const { return uint64_t{1} << cluster_bits; }
  [[nodiscard]] uint64_t l2_entry_bytes() const {
    return (image.field(header_offset::kIncompatible) & kIncompatibleExtendedL2) != 0
               ? kL2ExtendedEntryBytes
               : kL2EntryBytes;
  }
};

// Every fourth cluster of the first two hundred is data, compressed, zeroes, or nothing.
SparseBytes build(Qcow2Shape shape, bool with_snapshot) {
  const uint64_t cluster = shape.cluster_size();
  const bool zeroes = shape.version > 2;
  shape.size = kClusters * cluster;
  Qcow2Builder builder(std::move(shape));
  std::vector<std::byte> data(cluster);
  for (uint64_t i = 0; i < 200; ++i) {
    testing::fill_pattern(1, i * cluster, std::span(data).first(cluster / 4));
    if (i == 100 && with_snapshot) {
      builder.snapshot("1", "first");
    }
    if (i % 4 == 0) {
      builder.data(i * cluster, data);
    } else if (i % 4 == 1 && i > 100) {  // the builder has none in snapshots
      static_cast<void>(builder.compressed(i * cluster, data));
    } else if (i % 4 == 2 && zeroes) {
      builder.zero(i * cluster, i % 8 == 2);
    }
  }
  return builder.finish();
}

// With two bitmaps that have bits set.
SparseBytes with_bitmaps(SparseBytes bytes) {
  ImageWorld image;
  image.world().add("image", std::move(bytes));
  if (image.open()) {
    for (const char* name : {"one", "two"}) {
      static_cast<void>(
          image.run(block::add_bitmap(image.edge().node(), {.name = name, .persistent = true})));
    }
    static_cast<void>(image.write(3, 0, 5000));
    static_cast<void>(image.close());
  }
  return image.file().disk.visible();
}

// Extensions begin at multiples of eight bytes, with type and length.
uint64_t find_bitmaps_extension(const RawImage& image) {
  uint64_t at = kHeaderLengthV3;
  while (image.field(at) >> 32 != static_cast<uint32_t>(ExtensionType::kBitmaps)) {
    at += 8;
  }
  return at + 8;
}

std::vector<Base> sound_images() {
  std::vector<Base> all;
  all.push_back({"v3", RawImage(build({.cluster_bits = 12}, true)), 12});
  all.push_back({"v2", RawImage(build({.version = 2, .cluster_bits = 12}, true)), 12});
  all.push_back({"narrow", RawImage(build({.cluster_bits = 9, .refcount_order = 0}, false)), 9});
  all.push_back({"extended", RawImage(build({.cluster_bits = 14, .extended_l2 = true}, true)), 14});
  all.push_back({"bitmaps", RawImage(with_bitmaps(build({.cluster_bits = 12}, false))), 12});
  for (Base& base : all) {
    base.snapshots = base.image.field(header_offset::kSnapshots + 4);
  }
  Base& last = all.back();
  last.bitmaps_extension = find_bitmaps_extension(last.image);
  return all;
}

// Places that make no sense for what they are said to be of, or make too much of it.
std::vector<Value> places(const Base& base) {
  const RawImage& image = base.image;
  const uint64_t end = align_up(RawImage(image).bytes().size(), base.cluster());
  std::vector<Value> all = {{"nowhere", 0},
                            {"a byte", 1},
                            {"half a cluster", base.cluster() / 2},
                            {"between clusters", image.l2() + 512},
                            {"the L1 table", image.l1()},
                            {"an L2 table", image.l2()},
                            {"the refcount table", image.table()},
                            {"a refcount block", image.block()},
                            {"data", image.field(image.l2()) & kEntryOffsetMask},
                            {"the last cluster", end - base.cluster()},
                            {"the end", end},
                            {"far behind the end", end + (uint64_t{1} << 40)},
                            {"2^56 less a cluster", kMaxHostOffset - base.cluster()},
                            {"2^63 less a cluster", (uint64_t{1} << 63) - base.cluster()},
                            {"2^63", uint64_t{1} << 63},
                            {"2^64 less a cluster", ~base.cluster() + 1},
                            {"2^64 less 1", UINT64_MAX}};
  if (base.snapshots != 0) {
    all.push_back({"the snapshot table", base.snapshots});
  }
  return all;
}

const std::vector<Value> kSmallNumbers = {{"0", 0},
                                          {"1", 1},
                                          {"2", 2},
                                          {"3", 3},
                                          {"8", 8},
                                          {"9", 9},
                                          {"21", 21},
                                          {"22", 22},
                                          {"63", 63},
                                          {"64", 64},
                                          {"65535", 65535},
                                          {"65536", 65536},
                                          {"2^20", 1 << 20},
                                          {"2^31 - 1", INT32_MAX},
                                          {"2^31", uint64_t{1} << 31},
                                          {"2^32 - 1", UINT32_MAX}};

class Corpus {
 public:
  void add(const Base& base, const std::string& what, const Value& value,
           const std::function<void(RawImage&)>& change) {
    RawImage image = base.image;
    change(image);
    images_.push_back(
        {fmt::format("{}: {} = {}", base.name, what, value.name), std::move(image.bytes())});
  }
  void set64(const Base& base, const std::string& what, uint64_t at, std::span<const Value> values,
             uint64_t flags = 0) {
    for (const Value& value : values) {
      add(base, what, value, [&](RawImage& image) { image.set(at, value.value | flags); });
    }
  }
  void set32(const Base& base, const std::string& what, uint64_t at) {
    for (const Value& value : kSmallNumbers) {
      add(base, what, value,
          [&](RawImage& image) { image.set32(at, static_cast<uint32_t>(value.value)); });
    }
  }
  [[nodiscard]] std::vector<DamagedImage> take() { return std::move(images_); }

 private:
  std::vector<DamagedImage> images_;
};

void damage_header(Corpus& corpus, const Base& base) {
  corpus.set32(base, "version", 4);
  corpus.set64(base, "place of the backing name", 8, places(base));
  for (const Value& length : kSmallNumbers) {
    corpus.add(base, "length of the backing name", length, [&](RawImage& image) {
      image.set(8, 512 - 16);
      image.set32(16, static_cast<uint32_t>(length.value));
    });
  }
  corpus.set32(base, "cluster_bits", 20);
  const std::vector<Value> sizes = {{"0", 0},
                                    {"1", 1},
                                    {"511", 511},
                                    {"a cluster more", (kClusters + 1) * base.cluster()},
                                    {"2^62", uint64_t{1} << 62},
                                    {"2^63 - 512", (uint64_t{1} << 63) - 512},
                                    {"2^63", uint64_t{1} << 63},
                                    {"2^64 - 1", UINT64_MAX}};
  corpus.set64(base, "size", header_offset::kSize, sizes);
  corpus.set32(base, "crypt_method", 32);
  corpus.set32(base, "L1 entries", header_offset::kL1Size);
  corpus.set64(base, "place of the L1 table", header_offset::kL1Size + 4, places(base));
  corpus.set64(base, "place of the refcount table", header_offset::kRefcountTable, places(base));
  corpus.set32(base, "clusters of the refcount table", header_offset::kRefcountTable + 8);
  corpus.set32(base, "snapshots", header_offset::kSnapshots);
  corpus.set64(base, "place of the snapshot table", header_offset::kSnapshots + 4, places(base));
}

void damage_header_of_version_3(Corpus& corpus, const Base& base) {
  for (uint64_t bit = 0; bit < 64; bit = bit < 6 ? bit + 1 : bit + 19) {
    const Value value{fmt::format("bit {}", bit), uint64_t{1} << bit};
    corpus.set64(base, "incompatible_features", header_offset::kIncompatible, {&value, 1});
    corpus.set64(base, "compatible_features", header_offset::kCompatible, {&value, 1});
    corpus.set64(base, "autoclear_features", header_offset::kAutoclear, {&value, 1});
  }
  corpus.set32(base, "refcount_order", 96);
  corpus.set32(base, "header_length", 100);
  for (const uint8_t type : {1, 2, 255}) {
    for (const uint64_t feature : {uint64_t{0}, kIncompatibleCompression}) {
      const Value value{fmt::format("{} with features {}", type, feature), type};
      corpus.add(base, "compression_type", value, [&](RawImage& image) {
        image.set32(100, kHeaderLengthKnown);
        image.set(header_offset::kIncompatible, feature);
        image.set(104, static_cast<uint64_t>(type) << 56);
      });
    }
  }
}

// One extension of each kind that is known, and one that is not, of every length.
void damage_extensions(Corpus& corpus, const Base& base) {
  using enum ExtensionType;
  for (const ExtensionType type :
       {kBackingFormat, kFeatureNames, kBitmaps, kCryptHeader, kDataFile, ExtensionType{7}}) {
    for (const Value& length : kSmallNumbers) {
      const auto what = fmt::format("length of extension {:#x}", static_cast<uint32_t>(type));
      corpus.add(base, what, length, [&](RawImage& image) {
        image.set32(100, kHeaderLengthV3);
        image.set32(kHeaderLengthV3, static_cast<uint32_t>(type));
        image.set32(kHeaderLengthV3 + 4, static_cast<uint32_t>(length.value));
        image.set(kHeaderLengthV3 + 8, UINT64_MAX);
        image.set(header_offset::kAutoclear, kAutoclearBitmaps);
      });
    }
  }
}

void damage_tables(Corpus& corpus, const Base& base) {
  const uint64_t l1 = base.image.l1();
  const uint64_t l2 = base.image.l2();
  const uint64_t table = base.image.table();
  const std::vector<Value> everywhere = places(base);
  corpus.set64(base, "L1 entry 0", l1, everywhere);
  corpus.set64(base, "L1 entry 0, COPIED", l1, everywhere, kEntryCopied);
  corpus.set64(base, "L1 entry 1, COPIED", l1 + 8, everywhere, kEntryCopied);
  corpus.set64(base, "refcount table entry 0", table, everywhere);
  corpus.set64(base, "refcount table entry 1", table + 8, everywhere);
  for (const uint64_t index : {0, 2, 3}) {
    const uint64_t at = l2 + index * base.l2_entry_bytes();
    const auto what = fmt::format("L2 entry {}", index);
    corpus.set64(base, what, at, everywhere);
    corpus.set64(base, what + ", COPIED", at, everywhere, kEntryCopied);
    corpus.set64(base, what + ", zero", at, everywhere, kEntryCopied | kEntryZero);
    corpus.set64(base, what + ", compressed", at, everywhere, kEntryCompressed);
    corpus.set64(base, what + ", compressed and long", at, everywhere,
                 kEntryCompressed | uint64_t{0xff} << 53);
  }
  for (const uint8_t count : {0, 0xff, 0x80, 1}) {
    corpus.add(base, "all refcounts", {fmt::format("{:#x}", count), count}, [&](RawImage& image) {
      const std::vector<std::byte> bytes(base.cluster(), std::byte{count});
      image.bytes().write(image.block(), bytes);
    });
  }
}

void damage_subclusters(Corpus& corpus, const Base& base) {
  const std::vector<Value> bitmaps = {{"nothing", 0},
                                      {"both everywhere", UINT64_MAX},
                                      {"both in one", uint64_t{1} << 32 | 1},
                                      {"data", UINT32_MAX},
                                      {"zeroes", ~uint64_t{UINT32_MAX}},
                                      {"every other", 0x5555'5555'5555'5555}};
  for (uint64_t index = 100; index < 104; ++index) {
    const uint64_t at = base.image.l2() + index * kL2ExtendedEntryBytes;
    corpus.set64(base, fmt::format("subclusters of entry {}", index), at + 8, bitmaps);
  }
}

void damage_snapshots(Corpus& corpus, const Base& base, bool third) {
  const uint64_t at = base.snapshots;
  corpus.set64(base, "place of a snapshot's L1 table", at, places(base));
  corpus.set32(base, "L1 entries of a snapshot", at + 8);
  corpus.set32(base, "lengths of a snapshot's id and name", at + 12);
  corpus.set32(base, "machine state of a snapshot", at + 32);
  corpus.set32(base, "extra data of a snapshot", at + 36);
  if (third) {
    corpus.set64(base, "size of a snapshot", at + 48, places(base));
  }
  const uint64_t l1 = base.image.field(at);
  corpus.set64(base, "L1 entry of a snapshot", l1, places(base));
  corpus.set64(base, "L1 entry of a snapshot, COPIED", l1, places(base), kEntryCopied);
}

void damage_bitmaps(Corpus& corpus, const Base& base) {
  const uint64_t extension = base.bitmaps_extension;
  corpus.set32(base, "bitmaps", extension);
  corpus.set32(base, "reserved field of the bitmaps", extension + 4);
  corpus.set64(base, "length of the bitmap directory", extension + 8, places(base));
  corpus.set64(base, "place of the bitmap directory", extension + 16, places(base));
  const uint64_t entry = base.image.field(extension + 16);
  corpus.set64(base, "place of a bitmap's table", entry, places(base));
  corpus.set32(base, "entries of a bitmap's table", entry + 8);
  corpus.set32(base, "flags of a bitmap", entry + 12);
  corpus.set32(base, "type, granularity and name of a bitmap", entry + 16);
  corpus.set32(base, "extra data of a bitmap", entry + 20);
  corpus.set64(base, "entry of a bitmap's table", base.image.field(entry), places(base));
}

}  // namespace

std::vector<DamagedImage> damaged_images() {
  Corpus corpus;
  for (const Base& base : sound_images()) {
    corpus.add(base, "sound", {"nothing", 0}, [](RawImage& /*image*/) {});
    if (base.bitmaps_extension != 0) {
      damage_bitmaps(corpus, base);
      continue;  // the rest of it is as in the first
    }
    const bool third = (base.image.field(0) & UINT32_MAX) == 3;
    damage_header(corpus, base);
    if (third) {
      damage_header_of_version_3(corpus, base);
      damage_extensions(corpus, base);
      damage_tables(corpus, base);
    }
    if (base.l2_entry_bytes() == kL2ExtendedEntryBytes) {
      damage_subclusters(corpus, base);
    }
    if (base.snapshots != 0) {
      damage_snapshots(corpus, base, third);
    }
  }
  std::vector<DamagedImage> all = corpus.take();
  for (DamagedImage& image : costly_images()) {
    all.push_back(std::move(image));
  }
  return all;
}

}  // namespace cairn::qcow2
