// Images that contradict themselves: refused, reported once, and never made worse.
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::SparseBytes;

class Qcow2DamageTest : public Qcow2Test {
 protected:
  Qcow2DamageTest() {
    Qcow2Builder builder({.size = 16 * kCluster});
    std::vector<std::byte> data(kCluster);
    for (uint64_t i = 0; i < 4; ++i) {
      testing::fill_pattern(1, i * kCluster, data);
      builder.data(i * kCluster, data);
    }
    bytes_ = builder.finish();
  }
  uint64_t field(uint64_t offset) const { return load_be<uint64_t>(bytes_.read(offset, 8).data()); }
  void set(uint64_t offset, uint64_t value) {
    std::byte raw[8];
    store_be(raw, value);
    bytes_.write(offset, raw);
  }
  uint64_t l1_offset() const { return field(header_offset::kL1Size + 4); }
  uint64_t l2_offset() const { return field(l1_offset()) & kEntryOffsetMask; }
  void open_damaged(bool writable = true) {
    image_.world().add("image", bytes_);
    open(writable);
  }
  bool marked_corrupt() {
    const auto raw = image_.file().disk.visible().read(header_offset::kIncompatible, 8);
    return (load_be<uint64_t>(raw.data()) & kIncompatibleCorrupt) != 0;
  }
  void expect_refused_and_marked(uint64_t offset) {
    const SparseBytes before = image_.file().disk.visible();
    const auto refused = image_.write(2, offset, 512);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EIO);
    EXPECT_TRUE(marked_corrupt());
    EXPECT_EQ(image_.file().disk.visible().read(512, before.size() - 512),
              before.read(512, before.size() - 512))
        << "only the header's sector may change";
    EXPECT_FALSE(image_.write(2, kCluster, 512)) << "no more writes";
    EXPECT_TRUE(image_.holds(1, kCluster, kCluster)) << "reading goes on";
    static_cast<void>(image_.close());
    const auto again = image_.open();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().message(), "qcow2: Image is corrupt; cannot be opened read/write");
    EXPECT_TRUE(image_.open(false));
  }

  SparseBytes bytes_;
};

TEST_F(Qcow2DamageTest, RefusesToWriteOverTables) {
  set(l2_offset() + 2 * 8, l1_offset() | kEntryCopied);
  open_damaged();
  expect_refused_and_marked(2 * kCluster);
}

TEST_F(Qcow2DamageTest, RefusesToAllocateATable) {
  // The refcounts say that all is free, the header and the tables included.
  const uint64_t block = field(field(header_offset::kRefcountTable)) & kRefcountTableOffsetMask;
  bytes_.zero(block, kCluster);
  open_damaged();
  expect_refused_and_marked(10 * kCluster);
}

TEST_F(Qcow2DamageTest, RefusesUnalignedClusters) {
  set(l2_offset() + 2 * 8, field(l2_offset() + 2 * 8) | 0x200);
  open_damaged();
  expect_refused_and_marked(2 * kCluster);
}

TEST_F(Qcow2DamageTest, RefusesUnalignedTables) {
  set(l1_offset(), field(l1_offset()) | 0x200);
  open_damaged(false);
  EXPECT_FALSE(image_.holds(1, 0, 512));
  EXPECT_FALSE(marked_corrupt()) << "a read-only image is not written to";
}

TEST_F(Qcow2DamageTest, RefusesUnalignedRefcountBlocks) {
  const uint64_t table = field(header_offset::kRefcountTable);
  set(table, field(table) | 0x200);
  open_damaged();
  EXPECT_TRUE(image_.holds(1, 0, 4 * kCluster));
  EXPECT_FALSE(image_.write(2, 10 * kCluster, 512));
  EXPECT_TRUE(marked_corrupt());
}

TEST_F(Qcow2DamageTest, AnL1EntryWithAFlagAndNoTableIsNone) {
  set(l1_offset(), kEntryCopied);
  open_damaged();
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 4 * kCluster));
  ASSERT_TRUE(image_.write(2, kCluster, 512));
  EXPECT_TRUE(image_.holds(2, kCluster, 512));
  ASSERT_TRUE(image_.close());
  open(false);
  EXPECT_TRUE(image_.holds(2, kCluster, 512));
}

TEST_F(Qcow2DamageTest, DiscardsNeverPunchIntoTables) {
  set(l2_offset() + 2 * 8, l1_offset() | kEntryCopied);
  open_damaged();
  const uint64_t l1_entry = field(l1_offset());
  ASSERT_TRUE(image_.discard(2 * kCluster, kCluster));
  ASSERT_TRUE(image_.flush());
  ASSERT_TRUE(image_.close());
  const auto raw = image_.file().disk.visible().read(l1_offset(), 8);
  EXPECT_EQ(load_be<uint64_t>(raw.data()), l1_entry);
}

TEST_F(Qcow2DamageTest, MetadataAndDataBeyondTheEndOfTheFileReadAsZeroes) {
  set(l1_offset(), (uint64_t{1} << 50) | kEntryCopied);
  open_damaged(false);
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 16 * kCluster));
  EXPECT_TRUE(image_.close());
  set(l1_offset(), field(l1_offset()));
}

TEST_F(Qcow2DamageTest, WritesToDataBeyondTheEndOfTheFileGrowIt) {
  const uint64_t end = align_up(bytes_.size(), kCluster) + 5 * kCluster;
  set(l2_offset() + 2 * 8, end | kEntryCopied);
  open_damaged();
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kCluster, kCluster));
  ASSERT_TRUE(image_.write(2, 2 * kCluster + 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kCluster, 512));
  EXPECT_TRUE(image_.holds(2, 2 * kCluster + 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kCluster + 1024, kCluster - 1024));
}

TEST_F(Qcow2DamageTest, RepairsDirtyImagesWhenTheyAreOpenedForWriting) {
  set(header_offset::kIncompatible, kIncompatibleDirty);
  const uint64_t block = field(field(header_offset::kRefcountTable)) & kRefcountTableOffsetMask;
  bytes_.zero(block, kCluster);
  open_damaged(false);
  EXPECT_TRUE(image_.holds(1, 0, 4 * kCluster));
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(image_.file().disk.visible().read(0, bytes_.size()), bytes_.read(0, bytes_.size()))
      << "opened for reading, it stays as it is";
  open();
  EXPECT_TRUE(image_.holds(1, 0, 4 * kCluster));
  EXPECT_FALSE(image_.driver().dirty().value_or(true));
  ASSERT_TRUE(image_.write(2, 5 * kCluster, 3 * kCluster));
  EXPECT_TRUE(image_.holds(1, 0, 4 * kCluster));
  close_clean();
}

}  // namespace
}  // namespace cairn::qcow2
