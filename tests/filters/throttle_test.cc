// Throttle nodes: what counts, who shares, and what a drain does. The arithmetic has its own test.
#include "filters/throttle.h"

#include "io/task_group.h"
#include "io/timer.h"
#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

using std::chrono::seconds;

class ThrottleNodes : public FilterTest {
 protected:
  void SetUp() override {
    world_.create("a.img", 64 << 20);
    throttles_["g"] = std::make_shared<io::Throttle>();
    throttles_["h"] = std::make_shared<io::Throttle>();
    ASSERT_EQ(add(file("f", "a.img")), "");
    ASSERT_EQ(add(throttle("t", "f", "g")), "");
    ASSERT_EQ(add(throttle("u", "f", "g")), "");
  }
  void limit(const std::string& group, io::ThrottleLimits limits) {
    throttles_.at(group)->set(limits);
  }
  static io::ThrottleLimits bytes(double average) {
    return {.bytes = {.total = {.average = average}}};
  }

  enum class Kind { kRead, kWrite, kZero, kDiscard };
  static io::Task<void> repeat(block::Edge& edge, Kind kind, io::TimePoint end, uint64_t& moved) {
    std::vector<std::byte> data(4096, std::byte{1});
    while (io::Reactor::current().now() < end) {
      Result<void> done;
      switch (kind) {
        case Kind::kRead:
          done = co_await edge.read(0, data.data(), data.size());
          break;
        case Kind::kWrite:
          done = co_await edge.write(0, data.data(), data.size());
          break;
        case Kind::kZero:
          done = co_await edge.write_zeroes(0, data.size());
          break;
        case Kind::kDiscard:
          done = co_await edge.discard(0, data.size());
          break;
      }
      EXPECT_TRUE(done.has_value()) << done.error().message();
      moved += data.size();
    }
  }
  static io::Task<void> write_once(block::Edge& edge, uint64_t& moved) {
    std::vector<std::byte> data(4096, std::byte{1});
    const Result<void> done = co_await edge.write(0, data.data(), data.size());
    EXPECT_TRUE(done.has_value()) << done.error().message();
    moved += data.size();
  }
  static io::Task<void> join(io::TaskGroup& group) { co_await group.join(); }
  static io::Task<void> sleep(io::Duration time) { co_await io::sleep_for(time); }
};

TEST_F(ThrottleNodes, NeedAGroup) {
  EXPECT_EQ(add(throttle("x", "f", "nobody")), "Throttle group 'nobody' does not exist");
  EXPECT_EQ(reopen(throttle("t", "f", "nobody")), "Throttle group 'nobody' does not exist");
}

TEST_F(ThrottleNodes, EveryKindOfRequestCounts) {
  block::Edge& edge = attach("t");
  for (const Kind kind : {Kind::kRead, Kind::kWrite, Kind::kZero, Kind::kDiscard}) {
    limit("g", bytes(1 << 20));
    uint64_t moved = 0;
    run(repeat(edge, kind, reactor_.now() + seconds(10), moved));
    EXPECT_NEAR(static_cast<double>(moved), 10 << 20, 0.03 * (10 << 20));
  }
}

TEST_F(ThrottleNodes, NodesOfAGroupShareItsLimitsFairly) {
  block::Edge& busy = attach("t");
  block::Edge& quiet = attach("u");
  limit("g", bytes(1 << 20));
  uint64_t moved[2] = {0, 0};
  io::TaskGroup group;
  const io::TimePoint end = reactor_.now() + seconds(20);
  for (int i = 0; i < 16; ++i) {
    group.spawn(repeat(busy, Kind::kWrite, end, moved[0]));
  }
  group.spawn(repeat(quiet, Kind::kRead, end, moved[1]));
  run(join(group));
  EXPECT_NEAR(static_cast<double>(moved[0]), 10 << 20, 0.03 * (10 << 20));
  EXPECT_NEAR(static_cast<double>(moved[1]), 10 << 20, 0.03 * (10 << 20));
}

TEST_F(ThrottleNodes, ADrainDoesNotWaitForTheLimits) {
  block::Edge& edge = attach("t");
  limit("g", bytes(1));
  io::TaskGroup group;
  uint64_t moved = 0;
  for (int i = 0; i < 10; ++i) {
    group.spawn(write_once(edge, moved));
  }
  run(sleep(seconds(1)));
  EXPECT_EQ(moved, 4096U) << "the first fits, the others wait for an hour each";
  const io::TimePoint begin = reactor_.now();
  run(graph_.drain_begin());
  EXPECT_EQ(moved, 10 * 4096U);
  EXPECT_LT(reactor_.now() - begin, seconds(1));
  graph_.drain_end();
  run(join(group));
}

TEST_F(ThrottleNodes, GoingAwayDoesNotWaitForTheLimitsEither) {
  ASSERT_EQ(add(raw("r", "f")), "");
  block::Edge& edge = attach("r");
  ASSERT_EQ(reopen(raw("r", "t")), "");
  limit("g", bytes(1));
  io::TaskGroup group;
  uint64_t moved = 0;
  for (int i = 0; i < 3; ++i) {
    group.spawn(write_once(edge, moved));
  }
  run(sleep(seconds(1)));
  const io::TimePoint begin = reactor_.now();
  EXPECT_EQ(reopen(raw("r", "f")), "");
  EXPECT_LT(reactor_.now() - begin, seconds(1));
  EXPECT_EQ(remove("t"), "");
  run(join(group));
  EXPECT_EQ(moved, 3 * 4096U);
}

TEST_F(ThrottleNodes, ANodeCanChangeItsGroup) {
  block::Edge& edge = attach("t");
  limit("g", bytes(1));
  limit("h", bytes(1 << 20));
  EXPECT_EQ(reopen(throttle("t", "f", "h")), "");
  uint64_t moved = 0;
  run(repeat(edge, Kind::kRead, reactor_.now() + seconds(10), moved));
  EXPECT_NEAR(static_cast<double>(moved), 10 << 20, 0.03 * (10 << 20));
  EXPECT_EQ(throttles_.at("h").use_count(), 2);
  EXPECT_EQ(graph_.find("t")->filename(),
            "json:{\"driver\": \"throttle\", \"file\": {\"driver\": \"file\", \"filename\": "
            "\"a.img\"}, \"throttle-group\": \"h\"}");
}

TEST_F(ThrottleNodes, AChangeThatFailsElsewhereLeavesItInItsGroup) {
  ASSERT_EQ(add(copy_on_read("c", "f")), "");
  auto failed = run(reopen_alone({throttle("t", "f", "h"), copy_on_read("c", "f")}));
  EXPECT_FALSE(failed.has_value());
  EXPECT_EQ(throttles_.at("h").use_count(), 1);
}

}  // namespace
}  // namespace cairn::filters
