// Which parts of a read have arrived.
#include "protocols/nbd/coverage.h"

#include <gtest/gtest.h>

namespace cairn::nbd::client {
namespace {

TEST(CoverageTest, IsCompleteWhenEveryByteCameOnceInAnyOrder) {
  Coverage coverage;
  EXPECT_FALSE(coverage.complete(10));
  EXPECT_TRUE(coverage.add(4, 2));
  EXPECT_TRUE(coverage.add(8, 2));
  EXPECT_TRUE(coverage.add(0, 4));
  EXPECT_FALSE(coverage.complete(10));
  EXPECT_TRUE(coverage.add(6, 2));
  EXPECT_TRUE(coverage.complete(10));
  EXPECT_FALSE(coverage.complete(11));
  EXPECT_FALSE(coverage.complete(9));
}

TEST(CoverageTest, RefusesWhatCameBefore) {
  Coverage coverage;
  EXPECT_TRUE(coverage.add(4, 4));
  EXPECT_FALSE(coverage.add(4, 4));
  EXPECT_FALSE(coverage.add(7, 1));
  EXPECT_FALSE(coverage.add(3, 2));
  EXPECT_FALSE(coverage.add(0, 100));
  EXPECT_TRUE(coverage.add(3, 1));
  EXPECT_TRUE(coverage.add(8, 1));
}

TEST(CoverageTest, IsBounded) {
  Coverage coverage;
  uint64_t taken = 0;
  while (taken < 1'000'000 && coverage.add(2 * taken, 1)) {
    ++taken;
  }
  EXPECT_LT(taken, 100'000u);
}

}  // namespace
}  // namespace cairn::nbd::client
