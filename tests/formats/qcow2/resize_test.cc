// Growing and shrinking qcow2 disks.
#include <gtest/gtest.h>

#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;

class Qcow2ResizeTest : public Qcow2Test {
 protected:
  Result<void> resize(uint64_t length, block::ResizeOptions options = {}) {
    return image_.run(image_.edge().resize(length, options));
  }
};

TEST_F(Qcow2ResizeTest, GrowingMovesTheL1TableAndKeepsTheData) {
  constexpr uint64_t kReach = 64 * 512;  // of one L1 entry
  start({.cluster_bits = 9, .size = 3 * kReach});
  ASSERT_TRUE(image_.write(1, 0, 3 * kReach));
  const uint64_t old_offset = image_.driver().image().header().l1_table_offset;
  ASSERT_TRUE(resize(200 * kReach));
  EXPECT_NE(image_.driver().image().header().l1_table_offset, old_offset);
  EXPECT_EQ(image_.edge().length(), 200 * kReach);
  EXPECT_TRUE(image_.holds(1, 0, 3 * kReach));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 3 * kReach, 197 * kReach));
  ASSERT_TRUE(image_.write(2, 199 * kReach, kReach));
  close_clean();
  open();
  EXPECT_TRUE(image_.holds(1, 0, 3 * kReach));
  EXPECT_TRUE(image_.holds(2, 199 * kReach, kReach));
  close_clean();
}

TEST(Qcow2ResizeSeries, AFailureAtAnyRequestLeavesTheOldSizeOrTheNew) {
  constexpr uint64_t kReach = 64 * 512;
  for (uint64_t request = 0; request < 12; ++request) {
    ImageWorld image;
    Qcow2Builder builder({.cluster_bits = 9, .size = 2 * kReach});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 2 * kReach));
    image.world().add_fault({.after = request, .error = ENOSPC});
    const Result<void> grown = image.run(image.edge().resize(300 * kReach, {}));
    image.world().clear_faults();
    EXPECT_EQ(image.edge().length(), grown ? 300 * kReach : 2 * kReach) << request;
    EXPECT_TRUE(image.holds(1, 0, 2 * kReach));
    ASSERT_TRUE(image.write(2, 0, 512));
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << request;
  }
}

// A table of several pages, one of which can not be read: what the others refer to is not free.
TEST(Qcow2ResizeSeries, AnErrorInTheMiddleOfATableFreesNothing) {
  constexpr uint64_t kUnit = 4096;
  constexpr uint64_t kReach = 512 * kUnit;  // of one L1 entry
  for (const bool empty : {false, true}) {
    for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
      SCOPED_TRACE(fmt::format("{} {}", empty, request));
      ImageWorld image;
      Qcow2Builder builder({.cluster_bits = 12, .size = 2 * kReach});
      image.world().add("image", builder.finish());
      image.options().l2_cache_entry_size = 512;
      image.options().l2_cache_size = 1024;
      ASSERT_TRUE(image.open());
      ASSERT_TRUE(image.write(1, 0, 2 * kReach));
      ASSERT_TRUE(image.close());
      ASSERT_TRUE(image.open());
      image.world().add_fault({.kind = testing::IoKind::kRead, .after = request});
      const Result<void> result =
          empty ? image.run(image.edge().make_empty()) : image.run(image.edge().resize(kReach));
      hit = image.world().faults();
      image.world().clear_faults();
      EXPECT_TRUE(result || hit != 0);
      // New data takes the space that is free.
      ASSERT_TRUE(image.flush());
      ASSERT_TRUE(image.write(2, 0, 8 * kUnit));
      ASSERT_TRUE(image.close());
      EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
      ASSERT_TRUE(image.open(false));
      EXPECT_TRUE(image.holds(2, 0, 8 * kUnit));
      for (uint64_t at = 8 * kUnit; at < kReach; at += kUnit) {
        EXPECT_TRUE(image.holds(1, at, kUnit) ||
                    (empty && image.holds(testing::kZeroes, at, kUnit)));
      }
      ASSERT_TRUE(image.close());
      ASSERT_FALSE(::testing::Test::HasFailure());
    }
  }
}

TEST(Qcow2ResizeSeries, ShrinkingFreesWhatItCutsOff) {
  for (const uint32_t bits : {9u, 16u}) {
    const uint64_t cluster = uint64_t{1} << bits;
    ImageWorld image;
    Qcow2Builder builder({.cluster_bits = bits, .size = 500 * cluster});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 500 * cluster));
    ASSERT_TRUE(image.flush());
    const uint64_t before = image.file().disk.size();
    ASSERT_TRUE(image.run(image.edge().resize(70 * cluster + 512, {.exact = true})));
    EXPECT_EQ(image.edge().length(), 70 * cluster + 512);
    if (bits == 16) {  // a refcount block that is empty now may keep a smaller file long
      EXPECT_LT(image.file().disk.size(), before / 2);
    }
    EXPECT_TRUE(image.holds(1, 0, 70 * cluster + 512));
    ASSERT_TRUE(image.write(2, 0, 70 * cluster));
    ASSERT_TRUE(image.close());
    const auto report = image.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_EQ(report.leaks, 0u);
  }
}

TEST_F(Qcow2ResizeTest, ShrinkingOverASharedTableLeavesTheSnapshotAlone) {
  constexpr uint64_t kReach = 64 * 512;
  Qcow2Builder builder({.cluster_bits = 9, .size = 4 * kReach});
  std::vector<std::byte> data(512);
  for (uint64_t i = 0; i < 256; i += 3) {
    testing::fill_pattern(1, i * 512, data);
    builder.data(i * 512, data);
  }
  builder.snapshot("1", "first");
  start(builder);
  ASSERT_TRUE(resize(kReach + 5 * 512));
  EXPECT_TRUE(image_.holds(1, 0, 512));
  close_clean();
}

TEST(Qcow2ResizeSeries, PreallocatedSpaceIsMappedAndReadsAsZeroes) {
  for (const auto mode : {block::Preallocation::kMetadata, block::Preallocation::kFalloc}) {
    ImageWorld image;
    Qcow2Builder builder({.size = 1 << 20});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 4096));
    ASSERT_TRUE(image.run(image.edge().resize(8 << 20, {.preallocation = mode})));
    ASSERT_TRUE(image.holds(testing::kZeroes, 1 << 20, 7 << 20));
    block::Extent extent;
    ASSERT_TRUE(image.driver().try_map(2 << 20, 4096, extent));
    EXPECT_TRUE(extent.in_place);
    ASSERT_TRUE(image.close());
    const auto report = image.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_EQ(report.leaks, 0u);
  }
}

// A disk that was full and lost its power while it shrank, when the image said so and little more:
// its clusters are still there, behind the end. Null when no cut leaves it so.
std::unique_ptr<ImageWorld> half_shrunk(uint64_t length, uint64_t seed = 1) {
  for (uint64_t request = 1; request < 20; ++request) {
    auto image = std::make_unique<ImageWorld>(seed);
    Qcow2Builder builder({.size = 8 * kCluster});
    image->world().add("image", builder.finish());
    EXPECT_TRUE(image->open());
    EXPECT_TRUE(image->write(1, 0, 8 * kCluster));
    EXPECT_TRUE(image->flush());
    image->world().cut_power_at(request);
    const Result<void> shrunk = image->run(image->edge().resize(length, {.exact = true}));
    const Result<void> closed = image->close();
    if (shrunk) {
      return nullptr;
    }
    image->world().restore_power();
    EXPECT_TRUE(image->open());
    const auto behind = image->run(image->driver().map(6 * kCluster, kCluster));
    if (image->edge().length() == length && behind && behind->kind == block::Extent::Kind::kData) {
      return image;
    }
  }
  return nullptr;
}

TEST(Qcow2ResizeSeries, GrowingShowsNothingThatAnInterruptedShrinkHasLeft) {
  using enum block::Preallocation;
  for (const auto mode : {kOff, kMetadata, kFalloc, kFull}) {
    SCOPED_TRACE(static_cast<int>(mode));
    constexpr uint64_t kLength = 2 * kCluster + 1024;
    const auto world = half_shrunk(kLength);
    ASSERT_NE(world, nullptr);
    ImageWorld& image = *world;
    ASSERT_TRUE(image.run(image.edge().resize(10 * kCluster, {.preallocation = mode})));
    EXPECT_TRUE(image.holds(1, 0, kLength));
    EXPECT_TRUE(image.holds(testing::kZeroes, kLength, 10 * kCluster - kLength));
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
  }
}

// Not even after a power cut at any of its requests, when the image may have its new size already.
TEST(Qcow2ResizeSeries, GrowingThatLosesItsPowerShowsNothingThatWasBehindTheEnd) {
  constexpr uint64_t kLength = 2 * kCluster + 1024;
  bool ended = false;
  for (uint64_t request = 1; !ended; ++request) {
    SCOPED_TRACE(request);
    const auto world = half_shrunk(kLength, request);
    ASSERT_NE(world, nullptr);
    ImageWorld& image = *world;
    image.world().cut_power_at(request);
    const Result<void> grown = image.run(image.edge().resize(10 * kCluster));
    ended = image.world().powered();
    EXPECT_EQ(grown.has_value(), ended);
    const Result<void> closed = image.close();
    static_cast<void>(closed);
    if (ended) {
      image.world().cut_power();
    }
    image.world().restore_power();
    ASSERT_TRUE(image.open(false));
    const uint64_t length = image.edge().length();
    ASSERT_TRUE(length == kLength || length == 10 * kCluster) << length;
    EXPECT_TRUE(image.holds(1, 0, kLength));
    EXPECT_TRUE(image.holds(testing::kZeroes, kLength, length - kLength));
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

}  // namespace
}  // namespace cairn::qcow2
