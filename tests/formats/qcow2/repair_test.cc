// Every kind of damage by hand: what a repair leaves is sound for the independent verifier, shows
// the guest what it showed before, and neither errors nor power cuts on the way make it worse.
#include "tests/formats/qcow2/repair_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn::qcow2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Qcow2Builder;

// With 4 KiB clusters: data, zeroes that keep their space, and a snapshot that shares two clusters.
RawImage sound(bool snapshot) {
  Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kPageCluster});
  std::vector<std::byte> data(kPageCluster);
  for (uint64_t i = 0; i < 4; ++i) {
    testing::fill_pattern(static_cast<testing::WriteNumber>(i + 1), i * kPageCluster, data);
    builder.data(i * kPageCluster, data);
    if (snapshot && i == 1) {
      builder.snapshot("1", "keep");
    }
  }
  builder.zero(5 * kPageCluster, true);
  return RawImage(builder.finish());
}

struct Damage {
  std::string name;
  bool snapshot = false;
  std::function<void(RawImage&)> inflict;
  bool only_all = true;  // a repair of leaks is not enough
};

std::vector<Damage> damages() {
  constexpr uint64_t kFar = uint64_t{1} << 55;
  std::vector<Damage> all;
  const auto add = [&](std::string name, std::function<void(RawImage&)> inflict) {
    all.push_back({.name = std::move(name), .inflict = std::move(inflict)});
  };
  const auto data = [](RawImage& r) { return (r.field(r.l2()) & kEntryOffsetMask) / kPageCluster; };
  add("leak", [=](RawImage& r) { r.set_refcount(data(r), 3); });
  all.back().only_all = false;
  add("leak of a free cluster", [](RawImage& r) {
    r.set_refcount(r.bytes().size() / kPageCluster, 1);
    r.bytes().resize(r.bytes().size() + kPageCluster);
  });
  all.back().only_all = false;
  add("no COPIED in L1", [](RawImage& r) { r.set(r.l1(), r.l2()); });
  all.back().only_all = false;
  add("no COPIED in L2", [](RawImage& r) { r.set(r.l2(), r.field(r.l2()) & ~kEntryCopied); });
  all.back().only_all = false;
  add("used cluster counted as free", [=](RawImage& r) { r.set_refcount(data(r), 0); });
  add("all counted as free", [](RawImage& r) { r.bytes().zero(r.block(), kPageCluster); });
  add("table of zeroes", [](RawImage& r) { r.bytes().zero(r.table(), kPageCluster); });
  add("table behind the end", [](RawImage& r) { r.set(header_offset::kRefcountTable, 1 << 30); });
  add("table nowhere", [=](RawImage& r) { r.set(header_offset::kRefcountTable, kFar); });
  add("table unaligned",
      [](RawImage& r) { r.set(header_offset::kRefcountTable, r.table() + 512); });
  add("table too large", [](RawImage& r) { r.set32(header_offset::kRefcountTable + 8, 1 << 20); });
  add("table without clusters", [](RawImage& r) { r.set32(header_offset::kRefcountTable + 8, 0); });
  add("table is the L1 table", [](RawImage& r) { r.set(header_offset::kRefcountTable, r.l1()); });
  add("table is the header", [](RawImage& r) { r.set(header_offset::kRefcountTable, 0); });
  add("block is an L2 table", [](RawImage& r) { r.set(r.table(), r.l2()); });
  add("block twice", [](RawImage& r) { r.set(r.table() + 8, r.block()); });
  add("block outside",
      [](RawImage& r) { r.set(r.table() + 8, r.bytes().size() + 9 * kPageCluster); });
  add("block far outside", [=](RawImage& r) { r.set(r.table() + 8, kFar); });
  add("reserved bits in the table", [](RawImage& r) { r.set(r.table(), r.block() | 0x100); });
  add("zero cluster unaligned",
      [](RawImage& r) { r.set(r.l2() + 40, r.field(r.l2() + 40) | 0x200); });
  add("dirty", [=](RawImage& r) {
    r.set(header_offset::kIncompatible, kIncompatibleDirty);
    r.set_refcount(data(r), 0);
  });
  add("corrupt", [](RawImage& r) { r.set(header_offset::kIncompatible, kIncompatibleCorrupt); });
  all.back().only_all = false;
  all.push_back({.name = "count of a shared cluster too low",
                 .snapshot = true,
                 .inflict = [=](RawImage& r) { r.set_refcount(data(r), 1); }});
  const auto extra = [](RawImage& r) { return r.field(header_offset::kSnapshots + 4) + 36; };
  all.push_back({.name = "snapshot without extra data",
                 .snapshot = true,
                 .inflict = [=](RawImage& r) { r.set32(extra(r), 0); }});
  all.push_back({.name = "snapshot with too much extra data",
                 .snapshot = true,
                 .inflict = [=](RawImage& r) { r.set32(extra(r), 2048); }});
  all.push_back({.name = "snapshot without extra data and no counts",
                 .snapshot = true,
                 .inflict = [=](RawImage& r) {
                   r.set32(extra(r), 0);
                   r.bytes().zero(r.block(), kPageCluster);
                 }});
  all.push_back({.name = "everything at once", .snapshot = true, .inflict = [=](RawImage& r) {
                   r.set_refcount(data(r), 1);
                   r.set_refcount(data(r) + 1, 0);
                   r.set(r.l2() + 8, r.field(r.l2() + 8) ^ kEntryCopied);
                   r.set(r.l1(), r.field(r.l1()) ^ kEntryCopied);
                   r.set(r.table() + 16, 0x12345);
                   r.set(header_offset::kIncompatible, kIncompatibleDirty | kIncompatibleCorrupt);
                 }});
  return all;
}

class Qcow2RepairTest : public ::testing::TestWithParam<Damage> {
 protected:
  static testing::SparseBytes damaged() {
    RawImage raw = sound(GetParam().snapshot);
    GetParam().inflict(raw);
    return raw.bytes();
  }
  static void expect_sound(ImageWorld& image, const GuestContent& before) {
    const auto report = image.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_EQ(report.leaks, 0u);
    EXPECT_FALSE(report.dirty);
    const RepairOutcome check = repair(image, Repair::kNone);
    EXPECT_TRUE(check.clean()) << check.text();
    EXPECT_EQ(first_loss(before, guest_content(image)), SIZE_MAX);
    EXPECT_EQ(image.world().violations(), std::vector<std::string>{});
    const auto opened = image.open();
    ASSERT_TRUE(opened) << opened.error().message();
    EXPECT_TRUE(image.write(77, 20 * kPageCluster, 30 * kPageCluster)) << "it is in use again";
    EXPECT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
  }
  // What the guest saw of the image when it was sound.
  static GuestContent original() {
    ImageWorld image;
    image.world().add("image", sound(GetParam().snapshot).bytes());
    return guest_content(image);
  }
};

TEST_P(Qcow2RepairTest, LeavesASoundImageWithTheSameContent) {
  const GuestContent before = original();
  ImageWorld image;
  image.world().add("image", damaged());
  const RepairOutcome outcome = repair(image, Repair::kAll);
  EXPECT_TRUE(outcome.clean()) << outcome.text();
  expect_sound(image, before);
}

TEST_P(Qcow2RepairTest, OfLeaksDoesWhatItIsAllowedTo) {
  ImageWorld image;
  image.world().add("image", damaged());
  const GuestContent before = guest_content(image);
  const RepairOutcome outcome = repair(image, Repair::kLeaks);
  EXPECT_EQ(outcome.clean(), !GetParam().only_all) << outcome.text();
  EXPECT_EQ(first_loss(before, guest_content(image)), SIZE_MAX);
  if (!GetParam().only_all) {
    expect_sound(image, before);
  }
}

TEST_P(Qcow2RepairTest, ThatFailsAnywhereCanBeRepeated) {
  const GuestContent before = original();
  for (const bool torn : {false, true}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(n);
      ImageWorld image(n);
      image.world().add("image", damaged());
      image.world().add_fault({.after = n, .torn = torn});
      static_cast<void>(repair(image, Repair::kAll));
      const bool failed = image.world().faults() != 0;
      image.world().clear_faults();
      EXPECT_EQ(image.world().in_flight(), 0u);
      const RepairOutcome again = repair(image, Repair::kAll);
      EXPECT_TRUE(again.clean()) << again.text();
      expect_sound(image, before);
      if (!failed || HasFailure()) {
        break;
      }
      ASSERT_LT(n, 1000u);
    }
  }
}

TEST_P(Qcow2RepairTest, SurvivesAPowerCutAnywhere) {
  const GuestContent before = original();
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (uint64_t n = 1;; ++n) {
      SCOPED_TRACE(n);
      ImageWorld image(seed * 1000 + n);
      image.world().add("image", damaged());
      image.world().cut_power_at(n);
      static_cast<void>(repair(image, Repair::kAll));
      const bool cut = !image.world().powered();
      image.world().restore_power();
      const RepairOutcome again = repair(image, Repair::kAll);
      EXPECT_TRUE(again.clean()) << again.text();
      expect_sound(image, before);
      if (!cut || HasFailure()) {
        break;
      }
      ASSERT_LT(n, 1000u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Damages, Qcow2RepairTest, ::testing::ValuesIn(damages()),
                         [](const auto& damage) {
                           std::string name = damage.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST(Qcow2Repair, ReportsWhatItRepairs) {
  RawImage raw = sound(false);
  const uint64_t cluster = (raw.field(raw.l2()) & kEntryOffsetMask) / kPageCluster;
  raw.set_refcount(cluster, 2);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  const RepairOutcome outcome = repair(image, Repair::kLeaks);
  EXPECT_THAT(outcome.lines,
              ElementsAre(fmt::format("Leaked cluster {} refcount=2 reference=1", cluster),
                          fmt::format("Repairing cluster {} refcount=2 reference=1", cluster)));
  EXPECT_EQ(outcome.result->leaks_fixed, 1);
  EXPECT_EQ(outcome.result->corruptions_fixed, 0);
}

TEST(Qcow2Repair, OfLeaksWritesNothingWhenTheCountsCanNotBeTrusted) {
  RawImage raw = sound(false);
  const uint64_t cluster = (raw.field(raw.l2()) & kEntryOffsetMask) / kPageCluster;
  raw.set_refcount(cluster, 0);
  raw.set_refcount(cluster + 1, 2);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  const RepairOutcome outcome = repair(image, Repair::kLeaks);
  ASSERT_FALSE(outcome.result);
  EXPECT_EQ(outcome.result.error().code(), EIO);
  EXPECT_EQ(outcome.lines.back(), "ERROR need to rebuild refcount structures");
  EXPECT_EQ(image.file().disk.visible().read(0, raw.bytes().size()),
            raw.bytes().read(0, raw.bytes().size()));
}

TEST(Qcow2Repair, AnUnalignedBlockTakesASecondRepair) {
  RawImage raw = sound(false);
  raw.set(raw.table(), raw.block() | 0x200);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  RepairOutcome outcome = repair(image, Repair::kAll);
  EXPECT_FALSE(outcome.result) << "the image is marked, and nothing else is written";
  outcome = repair(image, Repair::kAll);
  EXPECT_TRUE(outcome.clean()) << outcome.text();
  EXPECT_TRUE(repair(image, Repair::kNone).clean());
}

TEST(Qcow2Repair, NeverPutsStructuresWhereAnEntryLeads) {
  RawImage raw = sound(false);
  // The next clusters behind the end of the file: they read as zeroes, and shall do so afterwards.
  const uint64_t end = raw.bytes().size() / kPageCluster;
  for (uint64_t i = 0; i < 3; ++i) {
    raw.set(raw.l2() + (10 + i) * 8, (end + i) * kPageCluster | kEntryCopied);
  }
  raw.bytes().zero(raw.table(), kPageCluster);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  const GuestContent before = guest_content(image);
  static_cast<void>(repair(image, Repair::kAll));
  EXPECT_EQ(first_loss(before, guest_content(image)), SIZE_MAX);
  const RepairOutcome again = repair(image, Repair::kAll);
  EXPECT_TRUE(again.clean()) << again.text();
  EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
}

TEST(Qcow2Repair, NeverSetsCopiedWhereTheCountIsKnownToBeTooLow) {
  RawImage raw = sound(true);
  const uint64_t shared = raw.field(raw.l2()) & kEntryOffsetMask;
  raw.set_refcount(shared / kPageCluster, 1);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  static_cast<void>(repair(image, Repair::kLeaks));
  const auto entry = image.file().disk.visible().read(raw.l2(), 8);
  EXPECT_EQ(load_be<uint64_t>(entry.data()), shared);
}

TEST(Qcow2Repair, RefusesToWriteEntriesOverOtherMetadata) {
  RawImage raw = sound(true);
  // The snapshot's L1 table is said to lie in the cluster of the active one.
  const uint64_t snapshots = raw.field(header_offset::kSnapshots + 4);
  raw.set(snapshots, raw.l1() + 512);
  const uint64_t entry = raw.field(raw.l1());
  raw.set(raw.l1(), entry ^ kEntryCopied);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  const RepairOutcome outcome = repair(image, Repair::kAll);
  EXPECT_FALSE(outcome.result);
  const auto now = image.file().disk.visible();
  EXPECT_EQ(load_be<uint64_t>(now.read(raw.l1(), 8).data()), entry ^ kEntryCopied);
  EXPECT_EQ(load_be<uint64_t>(now.read(header_offset::kIncompatible, 8).data()),
            kIncompatibleCorrupt);
}

TEST(Qcow2Repair, OfAnUnreadableTableWritesNothing) {
  RawImage raw = sound(false);
  raw.set_refcount((raw.field(raw.l2()) & kEntryOffsetMask) / kPageCluster, 2);
  ImageWorld image;
  image.world().add("image", raw.bytes());
  image.world().add_fault(
      {.kind = testing::IoKind::kRead, .offset = raw.l2(), .length = 512, .times = 100});
  const RepairOutcome outcome = repair(image, Repair::kAll);
  EXPECT_FALSE(outcome.result);
  EXPECT_EQ(image.file().disk.visible().read(0, raw.bytes().size()),
            raw.bytes().read(0, raw.bytes().size()));
}

TEST(Qcow2Repair, CountsThatDoNotFitAreNamedAndStayAtTheirLimit) {
  Qcow2Builder builder({.cluster_bits = 12, .refcount_order = 0, .size = 64 * kPageCluster});
  std::vector<std::byte> data(kPageCluster);
  builder.data(0, data);
  builder.data(kPageCluster, data);
  RawImage raw(builder.finish());
  raw.set(raw.l2() + 8, raw.field(raw.l2()));
  ImageWorld image;
  image.world().add("image", raw.bytes());
  const RepairOutcome outcome = repair(image, Repair::kAll);
  EXPECT_THAT(outcome.lines[0], HasSubstr("ERROR: overflow cluster offset="));
  ASSERT_TRUE(outcome.result);
  EXPECT_EQ(outcome.result->corruptions, 1);
  EXPECT_EQ(outcome.result->leaks_fixed, 1);
}

}  // namespace
}  // namespace cairn::qcow2
