// When block status asks the file below whether a data cluster reads as zeroes: for images whose
// clusters were allocated before there was anything in them.
#include "formats/qcow2/mapping.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::Qcow2Shape;
using testing::SparseBytes;

constexpr uint64_t kDiskSize = 512 * kPageCluster;

Qcow2Shape many_clusters() { return {.cluster_bits = 12, .size = kDiskSize}; }

// Gives back the space of pages that hold nothing but zeroes.
SparseBytes punched(SparseBytes image) {
  for (uint64_t at = 0; at < image.size(); at += kPageCluster) {
    const std::vector<std::byte> page = image.read(at, kPageCluster);
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{}; })) {
      image.zero(at, kPageCluster);
    }
  }
  return image;
}

class Qcow2MappingTest : public Qcow2Test {
 protected:
  // Opens an image of so many clusters of data, and behind them so many that are allocated and have
  // no space.
  void start_with_holes(uint64_t full, uint64_t empty, Qcow2Shape shape = many_clusters()) {
    Qcow2Builder builder(std::move(shape));
    for (uint64_t i = 0; i < full + empty; ++i) {
      std::vector<std::byte> content(kPageCluster);
      if (i < full) {
        testing::fill_pattern(1, i * kPageCluster, content);
      }
      builder.data(i * kPageCluster, content);
    }
    first_hole_ = full * kPageCluster;
    image_.world().add("image", punched(builder.finish()));
    if (builder.shape().external_data()) {
      image_.world().add(builder.shape().data_file, punched(builder.finish_data()));
    }
    open();
  }
  bool reads_as_zeroes(uint64_t offset) {
    const auto status = image_.run(image_.edge().status(offset, kPageCluster));
    EXPECT_TRUE(status);
    EXPECT_TRUE(status && status->data && status->allocated);
    return status && status->zero;
  }
  bool tells_holes() {
    EXPECT_FALSE(first_hole_ != 0 && reads_as_zeroes(0));
    return reads_as_zeroes(first_hole_);
  }
  uint64_t first_hole_ = 0;
};

// The small image has 5 clusters of tables, of which header, L1, counts and one L2 table are
// allowed to be holes; two more than those have to be.
TEST_F(Qcow2MappingTest, ASmallImageNeedsTwoHolesMoreThanItHasTables) {
  start_with_holes(4, 6);
  EXPECT_TRUE(tells_holes());
}

TEST_F(Qcow2MappingTest, OneHoleLessIsTakenForATableOfASmallImage) {
  start_with_holes(4, 5);
  EXPECT_FALSE(tells_holes());
}

// 100 + 16 + 5 clusters, of which a tenth is 12; with those of tables 16.
TEST_F(Qcow2MappingTest, ALargerImageNeedsATenthOfItsClusters) {
  start_with_holes(100, 16);
  EXPECT_TRUE(tells_holes());
}

TEST_F(Qcow2MappingTest, LessThanATenthOfALargerImageIsNotEnough) {
  start_with_holes(100, 15);
  EXPECT_FALSE(tells_holes());
}

TEST_F(Qcow2MappingTest, AnImageWithNothingInItIsAllHoles) {
  start_with_holes(0, 64);
  EXPECT_TRUE(tells_holes());
}

TEST_F(Qcow2MappingTest, HolesOfAnExternalDataFileAreNotAskedFor) {
  Qcow2Shape shape = many_clusters();
  shape.data_file = "data";
  start_with_holes(4, 64, shape);
  EXPECT_FALSE(tells_holes());
}

TEST_F(Qcow2MappingTest, WhatAHoleTellsChangesWithWhatIsWrittenThere) {
  start_with_holes(4, 64);
  ASSERT_TRUE(image_.write(2, first_hole_, kPageCluster));
  EXPECT_FALSE(reads_as_zeroes(first_hole_));
  EXPECT_TRUE(reads_as_zeroes(first_hole_ + kPageCluster));
}

}  // namespace
}  // namespace cairn::qcow2
