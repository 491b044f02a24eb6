// What a flood on one throttled node costs those who use another: nothing when the limits are not
// shared, and no more than their turns when they are. By virtual time.
#include <algorithm>
#include <chrono>

#include "io/task_group.h"
#include "io/timer.h"
#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kRequest = 4096;
constexpr microseconds kDelay{100};
// A request has two steps, each of which may take sixteen times as long as usual.
constexpr microseconds kSlowest = 2 * 16 * kDelay;

class ThrottleLatency : public FilterTest {
 protected:
  void SetUp() override {
    world_.create("a.img", 64 << 20);
    throttles_["flooded"] = std::make_shared<io::Throttle>();
    throttles_["own"] = std::make_shared<io::Throttle>();
    ASSERT_EQ(add(file("f", "a.img")), "");
    ASSERT_EQ(add(throttle("flood", "f", "flooded")), "");
    ASSERT_EQ(add(throttle("quiet", "f", "own")), "");
    ASSERT_EQ(add(throttle("sharing", "f", "flooded")), "");
  }
  static io::ThrottleLimits requests_a_second(double average) {
    return {.requests = {.total = {.average = average}}};
  }

  static io::Task<void> flood(block::Edge& edge, io::TimePoint end) {
    std::vector<std::byte> data(kRequest, std::byte{1});
    while (io::Reactor::current().now() < end) {
      const Result<void> done = co_await edge.read(0, data.data(), data.size());
      EXPECT_TRUE(done.has_value()) << done.error().message();
    }
  }
  // One request each `pause`; the longest that one took.
  static io::Task<void> probe(block::Edge& edge, bool writes, io::Duration pause, io::TimePoint end,
                              io::Duration& longest, int& made) {
    std::vector<std::byte> data(kRequest, std::byte{2});
    while (io::Reactor::current().now() < end) {
      const io::TimePoint begin = io::Reactor::current().now();
      Result<void> done;
      if (writes) {
        done = co_await edge.write(1 << 20, data.data(), data.size());
      } else {
        done = co_await edge.read(1 << 20, data.data(), data.size());
      }
      EXPECT_TRUE(done.has_value()) << done.error().message();
      longest = std::max(longest, io::Reactor::current().now() - begin);
      ++made;
      co_await io::sleep_for(pause);
    }
  }
  static io::Task<void> join(io::TaskGroup& group) { co_await group.join(); }

  // The longest time that a request to `node` took, while 64 readers flood another one or not.
  io::Duration longest_on(const std::string& node, bool flooded, io::Duration pause,
                          bool writes = true) {
    block::Edge& busy = attach("flood");
    block::Edge& quiet = attach(node);
    io::TaskGroup group;
    const io::TimePoint end = reactor_.now() + seconds(20);
    for (int i = 0; flooded && i < 64; ++i) {
      group.spawn(flood(busy, end));
    }
    io::Duration longest{};
    int made = 0;
    group.spawn(probe(quiet, writes, pause, end, longest, made));
    run(join(group));
    EXPECT_GT(made, 10);
    detach(busy);
    detach(quiet);
    return longest;
  }
};

TEST_F(ThrottleLatency, IsThatOfTheDiskWhereNothingIsShared) {
  world_.set_delays(kDelay);
  throttles_.at("flooded")->set(requests_a_second(1000));
  const io::Duration alone = longest_on("quiet", false, milliseconds(3));
  const io::Duration flooded = longest_on("quiet", true, milliseconds(3));
  EXPECT_GT(alone, io::Duration{});
  EXPECT_LE(alone, kSlowest);
  EXPECT_LE(flooded, kSlowest) << "as slow as the disk can be, and no slower";
}

TEST_F(ThrottleLatency, KeepsToTheLimitOfItsOwnGroup) {
  throttles_.at("flooded")->set(requests_a_second(1000));
  throttles_.at("own")->set(requests_a_second(50));
  // As fast as the limit allows: a request each 20 ms.
  EXPECT_LE(longest_on("quiet", true, {}), milliseconds(21));
  // More slowly than the limit: there is nothing to wait for.
  EXPECT_EQ(longest_on("quiet", true, milliseconds(40)), io::Duration{});
}

// Each member of a group has every second turn while both have something to do.
TEST_F(ThrottleLatency, IsTwoTurnsWhereTheGroupIsShared) {
  throttles_.at("flooded")->set(requests_a_second(1000));
  for (const bool writes : {true, false}) {
    const io::Duration longest = longest_on("sharing", true, milliseconds(7), writes);
    EXPECT_GT(longest, io::Duration{});
    EXPECT_LE(longest, milliseconds(3)) << "64 requests of the flood were waiting before it";
  }
}

}  // namespace
}  // namespace cairn::filters
