// What the choke point notices of requests: thresholds that are crossed, and statistics.
#include <chrono>

#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using std::chrono::milliseconds;

class ThresholdTest : public BlockTest {
 protected:
  ThresholdTest() {
    graph_.set_on_write_threshold([this](const Node& node, uint64_t threshold, uint64_t exceeded) {
      told_.push_back(fmt::format("{} {}+{}", node.info().name, threshold, exceeded));
    });
  }

  std::vector<std::string> told_;
};

TEST_F(ThresholdTest, TheFirstWriteBeyondItIsToldAndNoOther) {
  Edge& edge = attach_file("disk", 1 << 20);
  edge.node().set_write_threshold(4096);
  EXPECT_TRUE(edge.node().observed());
  ASSERT_TRUE(write(edge, 1, 3584, 512));
  EXPECT_TRUE(told_.empty());
  EXPECT_EQ(edge.node().write_threshold(), 4096U);
  ASSERT_TRUE(write(edge, 1, 4095, 513));
  ASSERT_TRUE(write(edge, 1, 8192, 512));
  EXPECT_EQ(told_, std::vector<std::string>{"file 4096+512"});
  EXPECT_EQ(edge.node().write_threshold(), 0U);
  EXPECT_FALSE(edge.node().observed());
}

TEST_F(ThresholdTest, ZeroingAndDiscardingCountReadingDoesNot) {
  Edge& edge = attach_file("disk", 1 << 20);
  edge.node().set_write_threshold(4096);
  read(edge, 8192, 512);
  EXPECT_TRUE(told_.empty());
  ASSERT_TRUE(run(edge.write_zeroes(8192, 512)));
  edge.node().set_write_threshold(4096);
  ASSERT_TRUE(run(edge.discard(4096, 4096)));
  EXPECT_EQ(told_, (std::vector<std::string>{"file 4096+4608", "file 4096+4096"}));
}

TEST_F(ThresholdTest, ARefusedWriteIsNotTold) {
  Edge& edge = attach_file("disk", 1 << 20);
  edge.node().set_write_threshold(4096);
  EXPECT_FALSE(write(edge, 1, 1 << 20, 512));
  EXPECT_TRUE(told_.empty());
}

TEST_F(ThresholdTest, AFileBelowAnImageIsNotPassedOver) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, kUnit));
  Node& below = edge.node().child("file")->node();
  below.set_write_threshold(1);
  ASSERT_TRUE(write(edge, 2, 0, kUnit));  // in place
  ASSERT_EQ(told_.size(), 1U);
  EXPECT_TRUE(told_.front().starts_with("file 1+")) << told_.front();
  EXPECT_TRUE(holds(edge, 2, 0, kUnit));
}

TEST_F(ThresholdTest, ItCanBeMovedAndTakenBack) {
  Edge& edge = attach_file("disk", 1 << 20);
  edge.node().set_write_threshold(4096);
  edge.node().set_write_threshold(16384);
  ASSERT_TRUE(write(edge, 1, 8192, 512));
  edge.node().set_write_threshold(0);
  EXPECT_FALSE(edge.node().observed());
  ASSERT_TRUE(write(edge, 1, 32768, 512));
  EXPECT_TRUE(told_.empty());
}

class StatisticsTest : public BlockTest {};

TEST_F(StatisticsTest, CountWhatSucceededAndHowLongItTook) {
  world_.set_delays(milliseconds(2));
  Edge& edge = attach_file("disk", 1 << 20);
  ASSERT_TRUE(write(edge, 1, 0, 4096));
  read(edge, 0, 512);
  ASSERT_TRUE(run(edge.discard(0, 4096)));
  ASSERT_TRUE(run(edge.flush()));
  const Statistics& counters = edge.node().statistics();
  EXPECT_EQ(counters.writes.operations, 1U);
  EXPECT_EQ(counters.writes.bytes, 4096U);
  EXPECT_EQ(counters.reads.operations, 1U);
  EXPECT_EQ(counters.reads.bytes, 512U);
  EXPECT_EQ(counters.unmaps.bytes, 4096U);
  EXPECT_EQ(counters.flushes.operations, 1U);
  EXPECT_GT(counters.writes.time.count(), 0);
  EXPECT_GT(counters.reads.time.count(), 0);
  EXPECT_EQ(counters.last_access, reactor_.now());
}

TEST_F(StatisticsTest, TellFailedFromRefusedRequests) {
  Edge& edge = attach_file("disk", 1 << 20);
  world_.add_fault({.kind = testing::IoKind::kWrite});
  EXPECT_FALSE(write(edge, 1, 0, 512));
  EXPECT_FALSE(write(edge, 1, 1 << 20, 512));
  std::vector<std::byte> data(512);
  EXPECT_FALSE(run(edge.read(1 << 20, data.data(), data.size())));
  EXPECT_FALSE(run(edge.discard(1 << 20, 512)));
  const Statistics& counters = edge.node().statistics();
  EXPECT_EQ(counters.writes.operations, 0U);
  EXPECT_EQ(counters.writes.bytes, 0U);
  EXPECT_EQ(counters.writes.failed, 1U);
  EXPECT_EQ(counters.writes.invalid, 1U);
  EXPECT_EQ(counters.reads.invalid, 1U);
  EXPECT_EQ(counters.unmaps.invalid, 1U);
}

TEST_F(StatisticsTest, ARequestIsCountedAtTheImageAndAtTheFileBelowIt) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, kUnit));
  const Node& below = edge.node().child("file")->node();
  const uint64_t before = below.statistics().reads.operations;
  read(edge, 0, kUnit);
  EXPECT_EQ(edge.node().statistics().reads.operations, 1U);
  EXPECT_EQ(below.statistics().reads.operations, before + 1);
}

}  // namespace
}  // namespace cairn::block
