// Compressed writes: what reads back, how space is shared and freed, what is refused, what a
// failure leaves behind.
#include <cerrno>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/task_group.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Shape;
using testing::Random;

constexpr block::WriteFlags kCompressed{.compressed = true};

// Zeroes, but for `noise` bytes that do not compress.
std::vector<std::byte> partly_noise(uint64_t seed, std::size_t length, std::size_t noise) {
  Random random(seed);
  std::vector<std::byte> data(length);
  for (std::size_t i = 0; i < noise; ++i) {
    data[i] = static_cast<std::byte>(random.below(256));
  }
  return data;
}

class CompressedWriteTest : public Qcow2Test {
 protected:
  Result<void> write(uint64_t offset, std::vector<std::byte> data,
                     block::WriteFlags flags = kCompressed) {
    return image_.run(image_.edge().write(offset, data.data(), data.size(), flags));
  }
  std::vector<std::byte> read(uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    const Result<void> result = image_.run(image_.edge().read(offset, data.data(), length));
    EXPECT_TRUE(result) << result.error().message();
    return data;
  }
  // The errno of a compressed write, or 0.
  int failure(uint64_t offset, std::vector<std::byte> data) {
    const Result<void> result = write(offset, std::move(data));
    return result ? 0 : result.error().code();
  }
  bool compressed(uint64_t offset) {
    const auto status = image_.run(image_.edge().status(offset, 512));
    return status && status->compressed;
  }
};

TEST_F(CompressedWriteTest, ReadsBackNowAndAfterItWasClosed) {
  for (const bool zstd : {false, true}) {
    for (const uint32_t bits : {9U, 12U, 16U, 21U}) {
      SCOPED_TRACE(std::to_string(bits) + (zstd ? " zstd" : " deflate"));
      const uint64_t cluster = uint64_t{1} << bits;
      Qcow2Shape shape{.size = 8 * cluster};
      shape.cluster_bits = bits;
      shape.zstd = zstd;
      start(shape);
      auto several = partly_noise(1, 3 * cluster, cluster / 2);
      ASSERT_TRUE(write(0, partly_noise(2, cluster, cluster / 3)));
      ASSERT_TRUE(write(2 * cluster, several));
      EXPECT_TRUE(compressed(0));
      EXPECT_TRUE(compressed(2 * cluster));
      for (int again = 0; again < 2; ++again) {
        EXPECT_EQ(read(0, cluster), partly_noise(2, cluster, cluster / 3));
        EXPECT_TRUE(image_.holds(testing::kZeroes, cluster, cluster));
        EXPECT_EQ(read(2 * cluster, 3 * cluster), several);
        close_clean();
        open();
      }
      close_clean();
    }
  }
}

TEST_F(CompressedWriteTest, TakesWholeClustersOrTheEndOfTheDisk) {
  start({.size = 3 * kCluster + 1024});
  EXPECT_EQ(failure(0, std::vector<std::byte>(4096)), EINVAL);
  EXPECT_EQ(failure(512, std::vector<std::byte>(kCluster)), EINVAL);
  ASSERT_TRUE(image_.write(1, 3 * kCluster, 1024, kCompressed));
  EXPECT_TRUE(image_.holds(1, 3 * kCluster, 1024));
  EXPECT_TRUE(compressed(3 * kCluster));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 3 * kCluster));
  close_clean();
}

TEST_F(CompressedWriteTest, OverwritesNoData) {
  start({.size = 8 * kCluster});
  const auto content = partly_noise(1, kCluster, 1000);
  const auto other = partly_noise(2, kCluster, 1000);
  ASSERT_TRUE(image_.write(1, 0, kCluster));
  ASSERT_TRUE(write(kCluster, content));
  ASSERT_TRUE(image_.write(3, 3 * kCluster, kCluster));
  ASSERT_TRUE(image_.zero(3 * kCluster, kCluster));
  EXPECT_EQ(failure(0, other), EIO);
  EXPECT_EQ(failure(kCluster, other), EIO);
  EXPECT_EQ(failure(2 * kCluster, other), 0);
  EXPECT_EQ(failure(3 * kCluster, other), 0) << "zeroes are no data";
  EXPECT_TRUE(image_.holds(1, 0, kCluster));
  EXPECT_EQ(read(kCluster, kCluster), content);
  EXPECT_EQ(read(3 * kCluster, kCluster), other);
  close_clean();
}

TEST_F(CompressedWriteTest, WhatDoesNotBecomeShorterIsWrittenPlainly) {
  start({.size = 8 * kCluster});
  const auto noise = partly_noise(1, kCluster, kCluster);
  ASSERT_TRUE(write(0, noise));
  EXPECT_FALSE(compressed(0));
  EXPECT_EQ(read(0, kCluster), noise);
  close_clean();
}

TEST_F(CompressedWriteTest, ClustersShareTheirSpaceAlsoWithPlainDataInBetween) {
  start({.size = 64 * kCluster});
  // Each takes a little more than a quarter of a host cluster.
  const std::size_t noise = kCluster / 4;
  ASSERT_TRUE(image_.write(7, 63 * kCluster, kCluster)) << "the tables are there now";
  const uint64_t before = image_.file().disk.size();
  for (uint64_t i = 0; i < 24; ++i) {
    ASSERT_TRUE(write(2 * i * kCluster, partly_noise(i, kCluster, noise)));
    ASSERT_TRUE(image_.write(i + 1, (2 * i + 1) * kCluster, kCluster));
  }
  const uint64_t taken = (image_.file().disk.size() - before) / kCluster;
  EXPECT_LE(taken, 24U + 24 / 3 + 1) << "three fit into a cluster";
  for (uint64_t i = 0; i < 24; ++i) {
    EXPECT_EQ(read(2 * i * kCluster, kCluster), partly_noise(i, kCluster, noise));
    EXPECT_TRUE(image_.holds(i + 1, (2 * i + 1) * kCluster, kCluster));
  }
  close_clean();
}

TEST_F(CompressedWriteTest, NothingIsSharedWhenCountsCanNotBeHigherThanOne) {
  Qcow2Shape shape{.size = 16 * kCluster};
  shape.refcount_order = 0;
  start(shape);
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(write(i * kCluster, partly_noise(i, kCluster, 100)));
  }
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(read(i * kCluster, kCluster), partly_noise(i, kCluster, 100));
  }
  close_clean();
}

TEST_F(CompressedWriteTest, SpaceIsFreedWhenTheLastOneWhoSharesItHasGone) {
  start({.size = 64 * kCluster});
  for (int round = 0; round < 20; ++round) {
    for (uint64_t i = 0; i < 16; ++i) {
      ASSERT_TRUE(write(i * kCluster, partly_noise(i, kCluster, 6000)));
    }
    ASSERT_TRUE(image_.write(2, 4 * kCluster + 512, 512)) << "one becomes a plain cluster";
    EXPECT_EQ(read(3 * kCluster, kCluster), partly_noise(3, kCluster, 6000));
    ASSERT_TRUE(image_.discard(0, 16 * kCluster));
    ASSERT_TRUE(image_.flush());
  }
  EXPECT_LT(image_.file().disk.size(), 24 * kCluster);
  close_clean();
}

io::Task<void> write_unit(block::Edge& edge, uint64_t index, std::vector<std::byte> data) {
  const Result<void> result =
      co_await edge.write(index * kCluster, data.data(), data.size(), kCompressed);
  EXPECT_TRUE(result);
}

TEST_F(CompressedWriteTest, PlacesAreGivenOutInTheOrderOfTheRequests) {
  std::vector<std::byte> first;
  for (const uint64_t seed : {1U, 2U, 3U}) {
    ImageWorld world(seed);
    testing::Qcow2Builder builder({.size = 64 * kCluster});
    world.world().add("image", builder.finish());
    ASSERT_TRUE(world.open());
    world.world().set_delays(std::chrono::microseconds(100));
    io::TaskGroup group;
    for (uint64_t i = 0; i < 32; ++i) {
      const std::size_t noise = i % 5 == 0 ? kCluster : 500 * i;
      group.spawn(write_unit(world.edge(), i, partly_noise(i, kCluster, noise)));
    }
    world.run(group.join());
    ASSERT_TRUE(world.close());
    const auto& bytes = world.file().disk.visible();
    const std::vector<std::byte> image = bytes.read(0, bytes.size());
    if (first.empty()) {
      first = image;
    }
    EXPECT_TRUE(image == first) << "seed " << seed;
  }
}

// Fails every request in turn.
TEST_F(CompressedWriteTest, FailuresLeaveASoundImage) {
  const auto first = partly_noise(1, 2 * kCluster, 3000);
  const auto second = partly_noise(2, 4 * kCluster, 3000);
  const std::vector<std::byte> nothing(4 * kCluster);
  for (uint64_t nth = 0; nth < 40; ++nth) {
    SCOPED_TRACE(nth);
    start({.size = 64 * kCluster});
    ASSERT_TRUE(write(0, first));
    const uint64_t faults = image_.world().faults();
    image_.world().add_fault({.after = nth, .error = nth % 2 == 0 ? EIO : ENOSPC});
    const bool written = failure(2 * kCluster, second) == 0;
    const bool flushed = image_.flush().has_value();
    const bool hit = image_.world().faults() != faults;
    EXPECT_EQ(written && flushed, !hit);
    image_.world().clear_faults();
    EXPECT_EQ(read(2 * kCluster, 4 * kCluster), written ? second : nothing);
    EXPECT_EQ(failure(8 * kCluster, first), 0);
    ASSERT_TRUE(image_.close());
    EXPECT_EQ(image_.verify().corruptions, std::vector<std::string>{});
    open();
    EXPECT_EQ(read(0, 2 * kCluster), first);
    EXPECT_EQ(read(2 * kCluster, 4 * kCluster), written ? second : nothing);
    EXPECT_EQ(read(8 * kCluster, 2 * kCluster), first);
    ASSERT_TRUE(image_.close());
    if (!hit) {
      return;
    }
  }
  FAIL() << "there is no end of requests";
}

}  // namespace
}  // namespace cairn::qcow2
