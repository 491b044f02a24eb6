// Lazy refcounts: the dirty bit is durable before the first count is missing, and goes when the
// image is closed; what was left dirty is repaired when it is opened for writing.
#include <gtest/gtest.h>

#include "tests/formats/qcow2/repair_test.h"

namespace cairn::qcow2 {
namespace {

using testing::IoKind;
using testing::Qcow2Builder;

constexpr uint64_t kLazyUnit = 4096;

class Qcow2LazyTest : public Qcow2Test {
 protected:
  void start_lazy(bool in_header = true) {
    Qcow2Builder builder(
        {.cluster_bits = 12, .size = 256 * kLazyUnit, .lazy_refcounts = in_header});
    image_.world().add("image", builder.finish());
    open();
  }
  bool dirty_on_disk() {
    return (RawImage(image_.file().disk.visible()).field(header_offset::kIncompatible) &
            kIncompatibleDirty) != 0;
  }
  std::vector<std::byte> counts_on_disk() {
    RawImage raw(image_.file().disk.visible());
    return raw.bytes().read(raw.block(), kLazyUnit);
  }
  // The power goes and comes back, and nothing that was flushed is lost.
  void cut_power() {
    image_.world().cut_power();
    static_cast<void>(image_.close());
    image_.world().restore_power();
  }
};

TEST_F(Qcow2LazyTest, PostponesCountsUntilTheImageIsClosed) {
  start_lazy();
  const auto before = counts_on_disk();
  EXPECT_FALSE(dirty_on_disk());
  ASSERT_TRUE(image_.write(1, 0, 40 * kLazyUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_TRUE(dirty_on_disk());
  EXPECT_TRUE(image_.driver().dirty().value_or(false));
  EXPECT_EQ(counts_on_disk(), before);
  close_clean();
  EXPECT_FALSE(dirty_on_disk());
  EXPECT_NE(counts_on_disk(), before);
}

TEST_F(Qcow2LazyTest, AnImageThatIsOnlyReadOrWrittenInPlaceStaysClean) {
  start_lazy();
  ASSERT_TRUE(image_.write(1, 0, 4 * kLazyUnit));
  close_clean();
  open();
  EXPECT_TRUE(image_.holds(1, 0, 4 * kLazyUnit));
  ASSERT_TRUE(image_.write(2, 0, 4 * kLazyUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_FALSE(dirty_on_disk());
  close_clean();
}

TEST_F(Qcow2LazyTest, TheOptionCountsMoreThanTheHeader) {
  image_.options().lazy_refcounts = false;
  start_lazy();
  ASSERT_TRUE(image_.write(1, 0, kLazyUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_FALSE(dirty_on_disk());
  close_clean();
  image_.options().lazy_refcounts = true;
  start_lazy(false);
  ASSERT_TRUE(image_.write(1, 0, kLazyUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_TRUE(dirty_on_disk());
  close_clean();
}

TEST_F(Qcow2LazyTest, APowerCutLeavesWhatOpeningForWritingRepairs) {
  start_lazy();
  ASSERT_TRUE(image_.write(1, 0, 40 * kLazyUnit));
  ASSERT_TRUE(image_.discard(10 * kLazyUnit, 5 * kLazyUnit));
  ASSERT_TRUE(image_.flush());
  cut_power();
  ASSERT_TRUE(dirty_on_disk());
  const auto left = image_.file().disk.visible();
  open(false);
  EXPECT_TRUE(image_.holds(1, 0, 10 * kLazyUnit));
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(image_.file().disk.visible().read(0, left.size()), left.read(0, left.size()));
  EXPECT_FALSE(repair(image_, Repair::kNone).clean()) << "the check tells";
  open();
  EXPECT_FALSE(dirty_on_disk());
  EXPECT_TRUE(image_.holds(1, 0, 10 * kLazyUnit));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 10 * kLazyUnit, 5 * kLazyUnit));
  ASSERT_TRUE(image_.write(2, 100 * kLazyUnit, 40 * kLazyUnit));
  EXPECT_TRUE(image_.holds(1, 15 * kLazyUnit, 25 * kLazyUnit));
  close_clean();
}

TEST_F(Qcow2LazyTest, OpeningADirtyImageIsTriedAgainAfterAPowerCut) {
  for (uint64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    ImageWorld image(n);
    Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kLazyUnit, .lazy_refcounts = true});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 9 * kLazyUnit));
    ASSERT_TRUE(image.flush());
    image.world().cut_power();
    static_cast<void>(image.close());
    image.world().restore_power();
    image.world().cut_power_at(n);
    const bool opened = image.open().has_value();
    const bool cut = !image.world().powered();
    if (opened) {
      static_cast<void>(image.close());
    }
    image.world().restore_power();
    ASSERT_TRUE(image.open());
    EXPECT_TRUE(image.holds(1, 0, 9 * kLazyUnit));
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
    EXPECT_FALSE(image.verify().dirty);
    if (!cut || HasFailure()) {
      break;
    }
    ASSERT_LT(n, 100u);
  }
}

TEST_F(Qcow2LazyTest, NothingIsMappedWhenTheBitCanNotBeSet) {
  start_lazy();
  ASSERT_TRUE(image_.write(1, 0, kLazyUnit));
  image_.world().add_fault({.kind = IoKind::kWrite, .offset = 0, .length = 512, .times = 2});
  EXPECT_FALSE(image_.flush());
  const RawImage now(image_.file().disk.visible());
  EXPECT_FALSE(dirty_on_disk());
  EXPECT_EQ(RawImage(image_.file().disk.visible()).field(now.field(40)), 0u) << "no L2 table";
  image_.world().clear_faults();
  static_cast<void>(image_.close());
  EXPECT_EQ(image_.verify().corruptions, std::vector<std::string>{});
}

TEST_F(Qcow2LazyTest, CountsAreWrittenWhenTheirCacheIsFull) {
  image_.options().refcount_cache_size = 0;
  Qcow2Builder builder(
      {.cluster_bits = 9, .refcount_order = 6, .size = 4096 * 512, .lazy_refcounts = true});
  start(builder);
  for (uint64_t i = 0; i < 4096; i += 64) {
    ASSERT_TRUE(image_.write(1, i * 512, 64 * 512));
    ASSERT_TRUE(image_.flush());
  }
  EXPECT_TRUE(image_.holds(1, 0, 4096 * 512));
  close_clean();
  EXPECT_FALSE(dirty_on_disk());
}

TEST_F(Qcow2LazyTest, SnapshotsAndResizesFindTheCountsOnDisk) {
  start_lazy();
  ASSERT_TRUE(image_.write(1, 0, 40 * kLazyUnit));
  ASSERT_TRUE(image_.flush());
  ASSERT_TRUE(image_.run(image_.edge().create_snapshot({.id = "1", .name = "one"})));
  ASSERT_TRUE(image_.write(2, 0, 20 * kLazyUnit));
  ASSERT_TRUE(image_.flush());
  ASSERT_TRUE(image_.run(image_.edge().resize(64 * kLazyUnit, {})));
  ASSERT_TRUE(image_.run(image_.edge().apply_snapshot("1")));
  EXPECT_TRUE(image_.holds(1, 0, 40 * kLazyUnit));
  ASSERT_TRUE(image_.write(3, 0, 20 * kLazyUnit));
  ASSERT_TRUE(image_.run(image_.edge().delete_snapshot("1")));
  close_clean();
}

}  // namespace
}  // namespace cairn::qcow2
