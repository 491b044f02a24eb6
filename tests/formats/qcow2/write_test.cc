// Writing: what reaches the file and when, what is freed, what a failure leaves behind.
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "io/task_group.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::IoKind;
using testing::Qcow2Builder;
using testing::Qcow2Shape;

class Qcow2WriteTest : public Qcow2Test {
 protected:
  static std::vector<std::byte> content(uint64_t number, uint64_t offset,
                                        uint64_t length = kCluster) {
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    return data;
  }
  uint64_t flushes() { return image_.world().submitted(IoKind::kFlush); }
  uint64_t field(uint64_t offset) {
    return load_be<uint64_t>(image_.file().disk.visible().read(offset, 8).data());
  }
};

TEST_F(Qcow2WriteTest, AFlushOfInPlaceDataIsOneFlushOfTheFile) {
  Qcow2Builder builder({.size = 4 * kCluster});
  builder.data(0, content(1, 0));
  start(builder);
  ASSERT_TRUE(image_.write(2, 0, 4096));
  ASSERT_TRUE(image_.flush());
  const uint64_t before = flushes();
  const uint64_t writes = image_.world().submitted(IoKind::kWrite);
  ASSERT_TRUE(image_.write(3, 8192, 4096));
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(flushes() - before, 1u);
  EXPECT_EQ(image_.world().submitted(IoKind::kWrite) - writes, 1u);
  close_clean();
}

io::Task<void> flush_and_count(block::Edge& edge, int& successes) {
  const Result<void> flushed = co_await edge.flush();
  successes += flushed.has_value() ? 1 : 0;
}

TEST_F(Qcow2WriteTest, FlushesThatComeTogetherShareTheWork) {
  start({.size = 64 * kCluster});
  image_.world().set_delays(std::chrono::milliseconds(1));
  ASSERT_TRUE(image_.write(1, 0, 4096));
  const uint64_t before = flushes();
  int successes = 0;
  io::TaskGroup group;
  for (int i = 0; i < 20; ++i) {
    group.spawn(flush_and_count(image_.edge(), successes));
  }
  image_.run(group.join());
  EXPECT_EQ(successes, 20);
  EXPECT_LE(flushes() - before, 4u) << "one run with new tables takes three, the next one";
  close_clean();
}

TEST_F(Qcow2WriteTest, FillsOnlyTheRequestIntoFreshSpaceBeyondTheEndOfTheFile) {
  start({.size = 64 * kCluster});
  ASSERT_TRUE(image_.write(1, 5 * kCluster + 4096, 4096));
  const uint64_t length = image_.file().disk.size();
  EXPECT_LT(length % kCluster, kCluster / 2) << "the tail of the cluster was not written";
  EXPECT_TRUE(image_.holds(testing::kZeroes, 5 * kCluster, 4096));
  EXPECT_TRUE(image_.holds(1, 5 * kCluster + 4096, 4096));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 5 * kCluster + 8192, kCluster - 8192));
  close_clean();
}

TEST_F(Qcow2WriteTest, SequentialClustersLieInARow) {
  start({.size = 64 * kCluster});
  for (uint64_t i = 0; i < 16; ++i) {
    ASSERT_TRUE(image_.write(1, i * kCluster, kCluster));
  }
  block::Extent extent;
  ASSERT_TRUE(image_.driver().try_map(0, 64 * kCluster, extent));
  EXPECT_EQ(extent.length, 16 * kCluster);
  EXPECT_TRUE(extent.in_place);
  close_clean();
}

TEST_F(Qcow2WriteTest, CopiesWhatASnapshotShares) {
  Qcow2Builder builder({.size = 8 * kCluster});
  builder.data(0, content(1, 0));
  builder.data(kCluster, content(1, kCluster));
  builder.snapshot("1", "first");
  start(builder);
  block::Extent shared;
  ASSERT_TRUE(image_.run(image_.driver().map(0, kCluster)));
  ASSERT_TRUE(image_.driver().try_map(0, kCluster, shared));
  EXPECT_FALSE(shared.in_place);
  ASSERT_TRUE(image_.write(2, 4096, 512));
  EXPECT_TRUE(image_.holds(1, 0, 4096));
  EXPECT_TRUE(image_.holds(2, 4096, 512));
  EXPECT_EQ(image_.file().disk.visible().read(shared.host_offset, kCluster), content(1, 0))
      << "the snapshot's cluster must stay as it is";
  close_clean();
}

TEST_F(Qcow2WriteTest, GivesTheSpaceOfOverwrittenCompressedClustersBack) {
  constexpr uint64_t kSmall = 16384;  // decoded on the spot, not by the worker pool
  Qcow2Builder builder({.cluster_bits = 14, .size = 16 * kSmall});
  for (uint64_t i = 0; i < 8; ++i) {
    std::vector<std::byte> data(kSmall);
    testing::fill_pattern(7, i * kSmall, std::span(data).first(5000));
    ASSERT_TRUE(builder.compressed(i * kSmall, data));
  }
  start(builder);
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(image_.write(9, i * kSmall + 8000, 1000));
    EXPECT_TRUE(image_.holds(7, i * kSmall, 4992));
  }
  close_clean();
}

TEST_F(Qcow2WriteTest, AZeroClusterKeepsItsPlaceUnlessItMayGo) {
  Qcow2Builder builder({.size = 8 * kCluster});
  builder.data(0, content(1, 0));
  builder.data(kCluster, content(1, kCluster));
  start(builder);
  ASSERT_TRUE(image_.zero(0, 2 * kCluster));
  block::Extent extent;
  ASSERT_TRUE(image_.driver().try_map(0, 2 * kCluster, extent));
  EXPECT_EQ(extent.kind, block::Extent::Kind::kZero);
  EXPECT_TRUE(extent.host_valid);
  const uint64_t host = extent.host_offset;
  ASSERT_TRUE(image_.write(2, 512, 512));
  ASSERT_TRUE(image_.driver().try_map(0, kCluster, extent));
  EXPECT_EQ(extent.host_offset, host);
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 1024, kCluster - 1024));
  ASSERT_TRUE(image_.zero(0, 2 * kCluster, {.may_unmap = true}));
  ASSERT_TRUE(image_.driver().try_map(0, 2 * kCluster, extent));
  EXPECT_FALSE(extent.host_valid);
  close_clean();
}

TEST_F(Qcow2WriteTest, PunchesAndReusesAFreedClusterOnlyAfterTheMappingIsDurable) {
  Qcow2Builder builder({.size = 64 * kCluster});
  builder.data(0, content(1, 0));
  start(builder);
  block::Extent old;
  ASSERT_TRUE(image_.run(image_.driver().map(0, kCluster)));
  ASSERT_TRUE(image_.driver().try_map(0, kCluster, old));
  ASSERT_TRUE(image_.discard(0, kCluster));
  ASSERT_TRUE(image_.write(2, kCluster, kCluster));
  block::Extent extent;
  ASSERT_TRUE(image_.driver().try_map(kCluster, kCluster, extent));
  EXPECT_NE(extent.host_offset, old.host_offset);
  EXPECT_EQ(image_.world().submitted(IoKind::kDiscard), 0u);
  ASSERT_TRUE(image_.flush());
  image_.run(image_.driver().reclaim().join());
  EXPECT_EQ(image_.world().submitted(IoKind::kDiscard), 1u);
  ASSERT_TRUE(image_.write(3, 2 * kCluster, kCluster));
  ASSERT_TRUE(image_.driver().try_map(2 * kCluster, kCluster, extent));
  EXPECT_EQ(extent.host_offset, old.host_offset);
  close_clean();
}

TEST_F(Qcow2WriteTest, AFailedWriteLeavesTheImageAsItWas) {
  Qcow2Builder builder({.size = 64 * kCluster});
  builder.data(0, content(1, 0));
  start(builder);
  ASSERT_TRUE(image_.write(2, 5 * kCluster, 512));
  image_.world().add_fault({.kind = IoKind::kWrite, .error = ENOSPC, .torn = true});
  const auto failed = image_.write(3, kCluster, 3 * kCluster);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ENOSPC);
  EXPECT_TRUE(image_.holds(testing::kZeroes, kCluster, 3 * kCluster));
  // The space is free again, and is not taken for space that was never written.
  ASSERT_TRUE(image_.write(4, kCluster + 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kCluster, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kCluster + 1024, kCluster - 1024));
  close_clean();
}

TEST_F(Qcow2WriteTest, AFailedWriteOutIsReportedAndTriedAgain) {
  start({.size = 64 * kCluster});
  ASSERT_TRUE(image_.write(1, 0, kCluster));
  for (uint64_t request = 0; request < 4; ++request) {
    image_.world().add_fault({.kind = IoKind::kWrite, .after = request, .error = EIO});
    static_cast<void>(image_.flush());
    image_.world().clear_faults();
  }
  ASSERT_TRUE(image_.flush());
  EXPECT_TRUE(image_.driver().metadata_durable());
  close_clean();
}

TEST_F(Qcow2WriteTest, ClearsUnknownAutoclearBitsBeforeTheFirstChange) {
  Qcow2Builder builder({.size = 4 * kCluster});
  builder.data(0, content(1, 0));
  testing::SparseBytes bytes = builder.finish();
  std::byte bits[8];
  store_be<uint64_t>(bits, uint64_t{1} << 9);
  bytes.write(header_offset::kAutoclear, bits);
  image_.world().add("image", std::move(bytes));
  open();
  EXPECT_TRUE(image_.holds(1, 0, 4096));
  EXPECT_EQ(field(header_offset::kAutoclear), uint64_t{1} << 9);
  ASSERT_TRUE(image_.write(2, 0, 4096));
  EXPECT_EQ(field(header_offset::kAutoclear), 0u);
  close_clean();
}

// Section "Header": it is an error if the bit is set without the extension that it vouches for.
TEST_F(Qcow2WriteTest, ClearsTheBitOfBitmapsThatAreNotThere) {
  Qcow2Builder builder({.size = 4 * kCluster});
  testing::SparseBytes bytes = builder.finish();
  std::byte bits[8];
  store_be<uint64_t>(bits, kAutoclearBitmaps);
  bytes.write(header_offset::kAutoclear, bits);
  image_.world().add("image", std::move(bytes));
  open();
  ASSERT_TRUE(image_.write(2, 0, 4096));
  EXPECT_EQ(field(header_offset::kAutoclear), 0u);
  close_clean();
}

TEST_F(Qcow2WriteTest, GrowsTheRefcountTableAgainAndAgain) {
  // A block counts 64 clusters of 512 bytes, a cluster of the table covers 2 MiB.
  start({.cluster_bits = 9, .refcount_order = 6, .size = 12 << 20});
  for (uint64_t offset = 0; offset < 12 << 20; offset += 64 << 10) {
    ASSERT_TRUE(image_.write(1, offset, 64 << 10));
  }
  EXPECT_GT(image_.driver().image().header().refcount_table_clusters, 6u);
  EXPECT_TRUE(image_.holds(1, 0, 12 << 20));
  close_clean();
}

}  // namespace
}  // namespace cairn::qcow2
