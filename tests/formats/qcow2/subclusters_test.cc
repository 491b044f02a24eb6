// Extended L2 entries: which subclusters a write, a zeroing and a discard touch, what is copied
// when a cluster has to move, and what entries that make no sense lead to.
#include "formats/qcow2/subclusters.h"

#include <cerrno>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::Qcow2Shape;

constexpr uint64_t kSubcluster = kCluster / kSubclustersPerCluster;

TEST(SubclusterBitmapTest, TellsWhatEachSubclusterIs) {
  const SubclusterBitmap bitmap(uint64_t{0x80000002} << 32 | 0x40000001);
  EXPECT_EQ(bitmap.kind(0), SubclusterKind::kData);
  EXPECT_EQ(bitmap.kind(1), SubclusterKind::kZero);
  EXPECT_EQ(bitmap.kind(2), SubclusterKind::kUnallocated);
  EXPECT_EQ(bitmap.kind(30), SubclusterKind::kData);
  EXPECT_EQ(bitmap.kind(31), SubclusterKind::kZero);
  EXPECT_EQ(bitmap.run(0), 1U);
  EXPECT_EQ(bitmap.run(2), 28U);
  EXPECT_EQ(bitmap.run(31), 1U);
}

TEST(SubclusterBitmapTest, RunsEndWithTheCluster) {
  EXPECT_EQ(SubclusterBitmap::all_data().run(0), 32U);
  EXPECT_EQ(SubclusterBitmap::all_zero().run(31), 1U);
  EXPECT_EQ(SubclusterBitmap().run(0), 32U);
  EXPECT_EQ(SubclusterBitmap().run(5), 27U);
}

TEST(SubclusterBitmapTest, IsEitherDataOrZeroes) {
  SubclusterBitmap bitmap;
  bitmap.set_data(SubclusterBitmap::range(0, 32));
  EXPECT_EQ(bitmap, SubclusterBitmap::all_data());
  bitmap.set_zero(SubclusterBitmap::range(4, 8));
  EXPECT_EQ(bitmap.stored(), uint64_t{0xf0} << 32 | 0xffffff0f);
  bitmap.set_data(SubclusterBitmap::range(7, 8));
  EXPECT_EQ(bitmap.stored(), uint64_t{0x70} << 32 | 0xffffff8f);
  EXPECT_TRUE(bitmap.valid());
  EXPECT_FALSE(SubclusterBitmap(uint64_t{1} << 32 | 1).valid());
}

class SubclustersTest : public Qcow2Test {
 protected:
  static Qcow2Shape shape(uint64_t clusters = 8) {
    Qcow2Shape shape{.size = clusters * kCluster};
    shape.extended_l2 = true;
    return shape;
  }
  static std::vector<std::byte> content(testing::WriteNumber number, uint64_t offset) {
    std::vector<std::byte> data(kCluster);
    testing::fill_pattern(number, offset, data);
    return data;
  }
  // The bitmap on disk of one of the first clusters.
  uint64_t bitmap_of(uint64_t cluster) {
    const testing::SparseBytes& bytes = image_.file().disk.visible();
    const auto field = [&](uint64_t at) {
      std::byte raw[8];
      bytes.read(at, raw);
      return load_be<uint64_t>(raw);
    };
    const uint64_t l2 = field(field(header_offset::kL1Size + 4)) & kEntryOffsetMask;
    return field(l2 + cluster * kL2ExtendedEntryBytes + kSubclusterBitmapOffset);
  }
};

TEST_F(SubclustersTest, AWriteTakesTheSubclustersItTouches) {
  start(shape());
  ASSERT_TRUE(image_.write(1, 3 * kSubcluster + 512, kSubcluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 3 * kSubcluster + 512));
  EXPECT_TRUE(image_.holds(1, 3 * kSubcluster + 512, kSubcluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 4 * kSubcluster + 512, kCluster));
  close_clean();
  EXPECT_EQ(bitmap_of(0), 0b11000U);
}

TEST_F(SubclustersTest, LaterWritesStayInTheClustersSpace) {
  start(shape());
  ASSERT_TRUE(image_.write(1, 0, 512));
  const uint64_t length = image_.file().disk.size();
  for (uint64_t i = 1; i < kSubclustersPerCluster; ++i) {
    ASSERT_TRUE(image_.write(1 + i, i * kSubcluster, 512));
  }
  for (uint64_t i = 0; i < kSubclustersPerCluster; ++i) {
    EXPECT_TRUE(image_.holds(1 + i, i * kSubcluster, 512)) << i;
  }
  close_clean();
  EXPECT_LE(image_.file().disk.size(), align_up(length, kCluster));
  EXPECT_EQ(bitmap_of(0), 0xffffffffU);
}

TEST_F(SubclustersTest, AWriteOverDataAndOtherSubclustersKeepsTheDataAround) {
  start(shape());
  ASSERT_TRUE(image_.write(1, 2 * kSubcluster, 2 * kSubcluster));
  ASSERT_TRUE(image_.write(2, kSubcluster + 100, 2 * kSubcluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kSubcluster, 100));
  EXPECT_TRUE(image_.holds(2, kSubcluster + 100, 2 * kSubcluster));
  EXPECT_TRUE(image_.holds(1, 3 * kSubcluster + 100, kSubcluster - 100));
  close_clean();
}

// The first write to an image does not go in place at once; it must not take data for a subcluster
// that has none, and copy what another write is about to change.
TEST_F(SubclustersTest, TheFirstWriteAfterOpeningTouchesNothingButItsBytes) {
  Qcow2Builder builder(shape());
  builder.data(0, content(1, 0));
  start(builder);
  const uint64_t before = image_.file().disk.size();
  ASSERT_TRUE(image_.write(2, 700, 100));
  EXPECT_TRUE(image_.holds(1, 0, 700));
  EXPECT_TRUE(image_.holds(2, 700, 100));
  EXPECT_TRUE(image_.holds(1, 800, kCluster - 800));
  close_clean();
  EXPECT_EQ(image_.file().disk.size(), before);
}

TEST_F(SubclustersTest, ACopyTakesAllDataOfASharedCluster) {
  Qcow2Builder builder(shape());
  builder.data(0, content(1, 0));
  builder.snapshot("1", "before");
  start(builder);
  ASSERT_TRUE(image_.write(2, 5 * kSubcluster, 512));
  EXPECT_TRUE(image_.holds(1, 0, 5 * kSubcluster));
  EXPECT_TRUE(image_.holds(2, 5 * kSubcluster, 512));
  EXPECT_TRUE(image_.holds(1, 5 * kSubcluster + 512, 26 * kSubcluster + kSubcluster - 512));
  close_clean();
  EXPECT_EQ(bitmap_of(0), 0xffffffffU);
}

TEST_F(SubclustersTest, ZeroingTakesSubclustersWithoutWriting) {
  Qcow2Builder builder(shape());
  builder.data(0, content(1, 0));
  builder.data(kCluster, content(2, kCluster));
  start(builder);
  ASSERT_TRUE(image_.zero(30 * kSubcluster, 4 * kSubcluster, {.no_fallback = true}));
  EXPECT_TRUE(image_.holds(1, 0, 30 * kSubcluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 30 * kSubcluster, 4 * kSubcluster));
  EXPECT_TRUE(image_.holds(2, kCluster + 2 * kSubcluster, 30 * kSubcluster));
  // A part of a subcluster is written out.
  EXPECT_FALSE(image_.zero(512, 512, {.no_fallback = true}));
  ASSERT_TRUE(image_.zero(512, 512));
  EXPECT_TRUE(image_.holds(1, 0, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 512, 512));
  close_clean();
  EXPECT_EQ(bitmap_of(0), uint64_t{0xc0000000} << 32 | 0x3fffffff);
  EXPECT_EQ(bitmap_of(1), uint64_t{3} << 32 | 0xfffffffc);
}

TEST_F(SubclustersTest, ZeroedSubclustersTakeDataAgain) {
  Qcow2Builder builder(shape());
  builder.data(0, content(1, 0));
  start(builder);
  ASSERT_TRUE(image_.zero(0, 4 * kSubcluster));
  ASSERT_TRUE(image_.write(2, kSubcluster + 100, 100));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, kSubcluster + 100));
  EXPECT_TRUE(image_.holds(2, kSubcluster + 100, 100));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kSubcluster + 200, 3 * kSubcluster - 200));
  EXPECT_TRUE(image_.holds(1, 4 * kSubcluster, 28 * kSubcluster));
  close_clean();
}

TEST_F(SubclustersTest, WholeClustersGiveTheirSpaceBack) {
  Qcow2Builder builder(shape());
  builder.data(0, content(1, 0));
  builder.data(kCluster, content(2, kCluster));
  start(builder);
  ASSERT_TRUE(image_.zero(0, kCluster, {.may_unmap = true}));
  ASSERT_TRUE(image_.discard(kCluster, kCluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 2 * kCluster));
  close_clean();
  EXPECT_EQ(bitmap_of(0), uint64_t{0xffffffff} << 32);
}

TEST_F(SubclustersTest, CompressedClustersHaveNone) {
  Qcow2Builder builder(shape());
  std::vector<std::byte> repeated(kCluster, std::byte{0x55});
  ASSERT_TRUE(builder.compressed(0, repeated));
  ASSERT_TRUE(builder.compressed(kCluster, repeated));
  start(builder);
  EXPECT_FALSE(image_.zero(0, kSubcluster, {.no_fallback = true}));
  ASSERT_TRUE(image_.zero(0, 2 * kSubcluster));
  ASSERT_TRUE(image_.write(1, kCluster, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 2 * kSubcluster));
  std::vector<std::byte> data(kCluster);
  ASSERT_TRUE(image_.run(image_.edge().read(0, data.data(), kCluster)));
  EXPECT_EQ(data[2 * kSubcluster], std::byte{0x55});
  EXPECT_EQ(data.back(), std::byte{0x55});
  EXPECT_TRUE(image_.holds(1, kCluster, 512));
  close_clean();
  EXPECT_EQ(bitmap_of(1), 0xffffffffU);
}

// Their place is any byte, and is not to be taken for one of a cluster of its own.
TEST_F(SubclustersTest, ACompressedClusterIsReadBeforeAnythingIsCached) {
  Qcow2Builder builder(shape());
  std::vector<std::byte> repeated(kCluster, std::byte{0x55});
  ASSERT_TRUE(builder.compressed(0, repeated));
  ASSERT_TRUE(builder.compressed(kCluster, repeated));  // behind the other, in the same cluster
  start(builder);
  std::vector<std::byte> data(kCluster);
  ASSERT_TRUE(image_.run(image_.edge().read(kCluster, data.data(), kCluster)));
  EXPECT_EQ(data, repeated);
  close_clean();
}

TEST_F(SubclustersTest, EntriesThatMakeNoSenseAreCorruption) {
  struct Case {
    uint64_t entry;  // 0: none
    uint64_t bitmap;
  };
  for (const Case& damage :
       {Case{.entry = 1, .bitmap = uint64_t{1} << 32 | 1}, Case{.entry = 0, .bitmap = 1}}) {
    Qcow2Builder builder(shape());
    builder.data(0, content(1, 0));
    auto bytes = builder.finish();
    std::byte raw[8];
    bytes.read(header_offset::kL1Size + 4, raw);
    bytes.read(load_be<uint64_t>(raw), raw);
    const uint64_t l2 = load_be<uint64_t>(raw) & kEntryOffsetMask;
    if (damage.entry == 0) {
      bytes.zero(l2, 8);
    }
    store_be(raw, damage.bitmap);
    bytes.write(l2 + kSubclusterBitmapOffset, raw);
    image_.world().add("image", std::move(bytes));
    open();
    std::vector<std::byte> data(512);
    const Result<void> read = image_.run(image_.edge().read(0, data.data(), data.size()));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), EIO);
    EXPECT_TRUE(image_.driver().image().header().has(kIncompatibleCorrupt));
    EXPECT_TRUE(image_.close());
  }
}

}  // namespace
}  // namespace cairn::qcow2
