// Null devices.
#include "protocols/null/null.h"

#include "tests/support/graph_test.h"

namespace cairn::null {
namespace {

class NullTest : public testing::GraphTest {
 protected:
  NullTest() : GraphTest({&kNullCoDriver, &kNullAioDriver}) {}

  static schema::BlockdevOptions options(schema::BlockdevOptionsNull null = {}) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kNullCo;
    options.branch = null;
    return options;
  }
};

TEST_F(NullTest, HasOneGibibyteUnlessTold) {
  block::Edge* edge = open(options(), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 1u << 30);
  schema::BlockdevOptionsNull null;
  null.size = 12345;
  edge = open(options(null), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 12800u);
}

TEST_F(NullTest, ForgetsWritesAndNeverShowsOurMemory) {
  block::Edge* edge = open(options(), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_TRUE(write(*edge, 0, "something"));
  EXPECT_EQ(read(*edge, 0, 9), std::string(9, '\0'));
}

TEST_F(NullTest, ReadZeroesShowsInTheStatus) {
  schema::BlockdevOptionsNull null;
  null.read_zeroes = true;
  block::Edge* zero = open(options(null), kRead);
  ASSERT_NE(zero, nullptr) << error_;
  EXPECT_TRUE(run(zero->status(0, 4096))->zero);
  block::Edge* other = open(options(), kRead);
  ASSERT_NE(other, nullptr) << error_;
  EXPECT_FALSE(run(other->status(0, 4096))->zero);
}

TEST_F(NullTest, EveryRequestTakesTheLatency) {
  schema::BlockdevOptionsNull null;
  null.latency_ns = 2000000;
  block::Edge* edge = open(options(null), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  const auto begin = reactor_->now();
  EXPECT_TRUE(write(*edge, 0, "x"));
  EXPECT_EQ(read(*edge, 0, 1), std::string(1, '\0'));
  EXPECT_GE(reactor_->now() - begin, std::chrono::milliseconds(4));
}

TEST_F(NullTest, RefusesImpossibleSizes) {
  schema::BlockdevOptionsNull null;
  null.size = -1;
  EXPECT_EQ(open(options(null), kRead), nullptr);
  null.size = INT64_MAX;
  EXPECT_EQ(open(options(null), kRead), nullptr);
  EXPECT_EQ(error_, "Could not refresh total sector count: File too large");
}

}  // namespace
}  // namespace cairn::null
