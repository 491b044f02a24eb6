// Writes that would hit metadata: refused and marked, each structure by its name, as far as
// `overlap-check` says.
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/formats/qcow2/repair_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using Mode = schema::Qcow2OverlapCheckMode;
using Flags = schema::Qcow2OverlapCheckFlags;

constexpr uint64_t kSize = 65536;                // of a cluster
constexpr uint64_t kSecondTable = 8192 * kSize;  // what the second L1 entry maps
constexpr uint64_t kVictim = 6 * kSize;          // the guest's cluster that is mapped onto metadata

// Two L2 tables, and a snapshot that shares the first of them.
RawImage two_tables() {
  Qcow2Builder builder({.size = 2 * kSecondTable});
  std::vector<std::byte> data(kSize);
  testing::fill_pattern(1, 0, data);
  builder.data(0, data);
  builder.snapshot("1", "keep");
  testing::fill_pattern(1, kSecondTable, data);
  builder.data(kSecondTable, data);
  testing::fill_pattern(1, kSize, data);
  builder.data(kSize, data);
  return RawImage(builder.finish());
}

uint64_t snapshot_table(RawImage& raw) { return raw.field(header_offset::kSnapshots + 4); }
uint64_t inactive_l1(RawImage& raw) { return raw.field(snapshot_table(raw)); }
uint64_t inactive_l2(RawImage& raw) { return raw.field(inactive_l1(raw)) & kEntryOffsetMask; }
uint64_t second_l2(RawImage& raw) { return raw.field(raw.l1() + 8) & kEntryOffsetMask; }

// A bitmaps extension with its directory in a cluster of its own at the end of the file.
uint64_t add_bitmap_directory(RawImage& raw) {
  const uint64_t place = raw.bytes().size();
  raw.bytes().resize(place + kSize);
  raw.set_refcount(place / kSize, 1);
  const uint64_t at = load_be<uint32_t>(raw.bytes().read(100, 4).data());  // the header's length
  raw.set32(at, 0x23852875);
  raw.set32(at + 4, 24);
  raw.set32(at + 8, 1);
  raw.set(at + 16, 32);
  raw.set(at + 24, place);
  // One bitmap, "b", which is in use, so that opening reads no more of it.
  raw.set(place, place);
  raw.set32(place + 8, 1);
  raw.set32(place + 12, 1);
  raw.set32(place + 16, 0x01100001);
  raw.set(place + 24, uint64_t{'b'} << 56);
  raw.set(at + 32, 0);
  raw.set(header_offset::kAutoclear, kAutoclearBitmaps);
  return place;
}

struct Structure {
  std::string name;
  std::function<uint64_t(RawImage&)> place;
  std::string message;
  std::function<void(Flags&, bool)> set;
  Mode weakest;  // the template that first protects it
};

std::vector<Structure> structures() {
  return {
      {"main_header", [](RawImage&) { return uint64_t{0}; }, "qcow2_header",
       [](Flags& f, bool on) { f.main_header = on; }, Mode::kConstant},
      {"active_l1", [](RawImage& r) { return r.l1(); }, "active L1 table",
       [](Flags& f, bool on) { f.active_l1 = on; }, Mode::kConstant},
      {"active_l2", second_l2, "active L2 table", [](Flags& f, bool on) { f.active_l2 = on; },
       Mode::kCached},
      {"refcount_table", [](RawImage& r) { return r.table(); }, "refcount table",
       [](Flags& f, bool on) { f.refcount_table = on; }, Mode::kConstant},
      {"refcount_block", [](RawImage& r) { return r.block(); }, "refcount block",
       [](Flags& f, bool on) { f.refcount_block = on; }, Mode::kCached},
      {"snapshot_table", snapshot_table, "snapshot table",
       [](Flags& f, bool on) { f.snapshot_table = on; }, Mode::kConstant},
      {"inactive_l1", inactive_l1, "inactive L1 table",
       [](Flags& f, bool on) { f.inactive_l1 = on; }, Mode::kCached},
      {"inactive_l2", inactive_l2, "inactive L2 table",
       [](Flags& f, bool on) { f.inactive_l2 = on; }, Mode::kAll},
      {"bitmap_directory", add_bitmap_directory, "bitmap directory",
       [](Flags& f, bool on) { f.bitmap_directory = on; }, Mode::kConstant},
  };
}

class Qcow2OverlapTest : public ::testing::TestWithParam<Structure> {
 protected:
  // An image whose guest's cluster kVictim is mapped onto the structure. The header can not be
  // mapped onto, as offset 0 means no cluster: there its count is 0, and an allocation finds it.
  RawImage mapped_onto(uint64_t& place) {
    RawImage raw = two_tables();
    place = GetParam().place(raw);
    if (place == 0) {
      raw.set_refcount(0, 0);
    } else {
      raw.set(raw.l2() + kVictim / kSize * 8, place | kEntryCopied);
    }
    return raw;
  }
  // Writes to the victim; whether that was refused, with the image marked as corrupt.
  bool refused(const schema::Qcow2OverlapChecks& checks) {
    uint64_t place = 0;
    RawImage raw = mapped_onto(place);
    const auto before = raw.bytes();
    ImageWorld image;
    image.options().overlap_check = checks;
    image.world().add("image", before);
    EXPECT_TRUE(image.open());
    ::testing::internal::CaptureStderr();
    const bool written = image.write(9, kVictim, 512).has_value();
    const std::string said = ::testing::internal::GetCapturedStderr();
    const auto now = image.file().disk.visible();
    const uint64_t bits = load_be<uint64_t>(now.read(header_offset::kIncompatible, 8).data());
    if (!written) {
      EXPECT_NE(bits & kIncompatibleCorrupt, 0u);
      EXPECT_EQ(said,
                "qcow2: Marking image as corrupt: Preventing invalid write on metadata "
                "(overlaps with " +
                    GetParam().message + "); further corruption events will be suppressed\n");
      if (place != 0) {
        EXPECT_EQ(now.read(place, 512), before.read(place, 512));
      }
    }
    static_cast<void>(image.close());
    return !written;
  }
};

TEST_P(Qcow2OverlapTest, DataIsNotWrittenThereWithTheTemplatesThatCoverIt) {
  for (const Mode mode : {Mode::kNone, Mode::kConstant, Mode::kCached, Mode::kAll}) {
    SCOPED_TRACE(static_cast<int>(mode));
    EXPECT_EQ(refused({.value = mode}), mode >= GetParam().weakest);
  }
}

TEST_P(Qcow2OverlapTest, AFlagOverridesTheTemplate) {
  Flags on{.template_ = Mode::kNone};
  GetParam().set(on, true);
  EXPECT_TRUE(refused({.value = on}));
  Flags off{.template_ = Mode::kAll};
  GetParam().set(off, false);
  EXPECT_FALSE(refused({.value = off}));
}

INSTANTIATE_TEST_SUITE_P(Structures, Qcow2OverlapTest, ::testing::ValuesIn(structures()),
                         [](const auto& structure) { return structure.param.name; });

// Two structures at one place: neither is written, the other one is named.
struct Clash {
  std::string name;
  std::function<void(RawImage&)> inflict;
  std::string message;
  Mode mode = Mode::kCached;
};

class Qcow2ClashTest : public ::testing::TestWithParam<Clash> {};

TEST_P(Qcow2ClashTest, NoTableIsWrittenWhereAnotherStructureLies) {
  RawImage raw = two_tables();
  GetParam().inflict(raw);
  ImageWorld image;
  image.options().overlap_check = schema::Qcow2OverlapChecks{.value = GetParam().mode};
  image.world().add("image", raw.bytes());
  ASSERT_TRUE(image.open());
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(image.write(9, 3 * kSize, 512));
  EXPECT_FALSE(image.discard(0, 4 * kSize));
  EXPECT_NE(
      ::testing::internal::GetCapturedStderr().find("(overlaps with " + GetParam().message + ")"),
      std::string::npos);
  static_cast<void>(image.close());
  const auto now = image.file().disk.visible();
  EXPECT_EQ(now.read(512, raw.bytes().size() - 512),
            raw.bytes().read(512, raw.bytes().size() - 512))
      << "only the header's sector may change";
}

INSTANTIATE_TEST_SUITE_P(
    Clashes, Qcow2ClashTest,
    ::testing::Values(
        Clash{"L2_at_the_L1", [](RawImage& r) { r.set(r.l1(), r.l1() | kEntryCopied); },
              "active L1 table"},
        Clash{"L2_at_the_refcount_table",
              [](RawImage& r) { r.set(r.l1(), r.table() | kEntryCopied); }, "refcount table"},
        Clash{"shared_L2_at_the_refcount_table", [](RawImage& r) { r.set(r.l1(), r.table()); },
              "refcount table"},
        Clash{"L2_at_a_refcount_block",
              [](RawImage& r) { r.set(r.l1(), r.block() | kEntryCopied); }, "refcount block"},
        Clash{"L2_at_the_snapshot_table",
              [](RawImage& r) { r.set(r.l1(), snapshot_table(r) | kEntryCopied); },
              "snapshot table"},
        Clash{"L2_at_a_snapshots_L1",
              [](RawImage& r) { r.set(r.l1(), inactive_l1(r) | kEntryCopied); },
              "inactive L1 table"},
        Clash{"L2_at_another_L2", [](RawImage& r) { r.set(r.l1(), second_l2(r) | kEntryCopied); },
              "active L2 table"},
        Clash{"own_L2_at_a_snapshots_L2",
              [](RawImage& r) { r.set(r.l1(), inactive_l2(r) | kEntryCopied); },
              "inactive L2 table", Mode::kAll},
        Clash{"refcount_block_at_an_L2", [](RawImage& r) { r.set(r.table(), second_l2(r)); },
              "active L2 table"}),
    [](const auto& clash) { return clash.param.name; });

TEST(Qcow2Overlap, TablesThatASnapshotSharesAreCopiedWithAllChecksOn) {
  ImageWorld image;
  image.options().overlap_check = schema::Qcow2OverlapChecks{.value = Mode::kAll};
  RawImage raw = two_tables();
  image.world().add("image", raw.bytes());
  ASSERT_TRUE(image.open());
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(image.write(7, i * kSize, kSize));
    ASSERT_TRUE(image.flush());
  }
  ASSERT_TRUE(image.discard(0, 10 * kSize));
  ASSERT_TRUE(image.write(8, kSecondTable + kSize, kSize));
  // What the tables of deleted snapshots leave can be used again.
  ASSERT_TRUE(image.run(image.edge().create_snapshot({.id = "2", .name = "other"})));
  ASSERT_TRUE(image.write(9, 0, 20 * kSize));
  for (const char* id : {"1", "2"}) {
    ASSERT_TRUE(image.run(image.edge().delete_snapshot(id)));
    ASSERT_TRUE(image.write(10, 30 * kSize, 20 * kSize));
    ASSERT_TRUE(image.discard(30 * kSize, 20 * kSize));
    ASSERT_TRUE(image.write(11, 2 * kSecondTable - 20 * kSize, 20 * kSize));
  }
  ASSERT_TRUE(image.close());
  EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
}

}  // namespace
}  // namespace cairn::qcow2
