// What is remembered of data and holes, and when it is forgotten.
#include "protocols/file/segment_cache.h"

#include <gtest/gtest.h>

namespace cairn::file {
namespace {

TEST(SegmentCache, FindsOnlyInsideWhatItLearnt) {
  SegmentCache cache;
  EXPECT_FALSE(cache.find(0));
  cache.learn({100, 200, true}, false);
  EXPECT_FALSE(cache.find(99));
  ASSERT_TRUE(cache.find(100));
  EXPECT_EQ(cache.find(199)->end, 200u);
  EXPECT_FALSE(cache.find(200));
}

TEST(SegmentCache, HolesAreLearntOnlyWhenNobodyElseWrites) {
  SegmentCache cache;
  cache.learn({0, 100, false}, false);
  EXPECT_FALSE(cache.find(0));
  cache.learn({0, 100, false}, true);
  EXPECT_TRUE(cache.find(0));
}

TEST(SegmentCache, AWriteIntoAHoleForgetsIt) {
  SegmentCache cache;
  cache.learn({0, 100, false}, true);
  cache.write_begins(100, 50);
  EXPECT_TRUE(cache.find(0));
  cache.write_begins(99, 1);
  EXPECT_FALSE(cache.find(0));
}

TEST(SegmentCache, NoHoleIsLearntWhileAWriteIsInFlight) {
  SegmentCache cache;
  cache.write_begins(1000, 1);
  cache.learn({0, 100, false}, true);
  EXPECT_FALSE(cache.find(0));
  cache.write_ends();
  cache.learn({0, 100, false}, true);
  EXPECT_TRUE(cache.find(0));
}

TEST(SegmentCache, DataSurvivesWritesAndIsForgottenWhenPunched) {
  SegmentCache cache;
  cache.learn({0, 100, true}, false);
  cache.write_begins(0, 10);
  cache.write_ends();
  EXPECT_TRUE(cache.find(50));
  cache.forget(90, 100);
  EXPECT_FALSE(cache.find(50));
}

}  // namespace
}  // namespace cairn::file
