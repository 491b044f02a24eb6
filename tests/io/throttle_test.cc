// Limits by virtual time: rates, bursts, and who gets how much of them.
#include "io/throttle.h"

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "io/reactor.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/support/sim_backend.h"

namespace cairn::io {
namespace {

using std::chrono::seconds;

constexpr double kTolerance = 0.03;

class ThrottleTest : public ::testing::Test {
 protected:
  // Units that somebody has used so far.
  struct Use {
    uint64_t requests = 0;
    uint64_t bytes = 0;
  };

  // Makes one request after the other until `end`.
  static Task<void> make_requests(Throttle::Member& member, Direction direction, uint64_t bytes,
                                  TimePoint end, Use& use) {
    for (;;) {
      if (!member.admit(direction, bytes)) {
        co_await member.wait(direction, bytes);
      }
      if (Reactor::current().now() >= end) {
        co_return;
      }
      ++use.requests;
      use.bytes += bytes;
    }
  }

  struct Load {
    Throttle::Member& member;
    Direction direction;
    uint64_t bytes;
    unsigned depth;  // requests at a time
  };

  // What each of the loads got in the time.
  std::vector<Use> use(std::vector<Load> loads, Duration time) {
    std::vector<Use> uses(loads.size());
    reactor_.block_on(run(loads, reactor_.now() + time, uses));
    return uses;
  }
  static Task<void> run(std::vector<Load>& loads, TimePoint end, std::vector<Use>& uses) {
    TaskGroup group;
    for (size_t i = 0; i < loads.size(); ++i) {
      for (unsigned n = 0; n < loads[i].depth; ++n) {
        group.spawn(
            make_requests(loads[i].member, loads[i].direction, loads[i].bytes, end, uses[i]));
      }
    }
    co_await group.join();
  }

  static void expect_near(double actual, double expected) {
    EXPECT_NEAR(actual, expected, expected * kTolerance);
  }

  Reactor reactor_{std::make_unique<cairn::testing::SimBackend>(1)};
  std::shared_ptr<Throttle> throttle_ = std::make_shared<Throttle>();
  Throttle::Member a_{throttle_};
  Throttle::Member b_{throttle_};
};

TEST_F(ThrottleTest, NothingIsLimitedAtFirst) {
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(a_.admit(Direction::kRead, 1 << 20));
  }
}

TEST_F(ThrottleTest, EachLimitHoldsOverTenSeconds) {
  constexpr double kRequests = 500;
  constexpr double kBytes = 8 << 20;
  struct Case {
    RateLimit ThrottleLimits::Kind::* which;
    bool read;
    bool write;
  };
  const Case cases[] = {{&ThrottleLimits::Kind::total, true, true},
                        {&ThrottleLimits::Kind::read, true, false},
                        {&ThrottleLimits::Kind::write, false, true}};
  for (const Case& one : cases) {
    for (const Direction direction : {Direction::kRead, Direction::kWrite}) {
      if (!(direction == Direction::kRead ? one.read : one.write)) {
        continue;
      }
      ThrottleLimits limits;
      limits.requests.*one.which = {.average = kRequests};
      throttle_->set(limits);
      expect_near(static_cast<double>(use({{a_, direction, 4096, 8}}, seconds(10))[0].requests),
                  kRequests * 10);
      limits = {};
      limits.bytes.*one.which = {.average = kBytes};
      throttle_->set(limits);
      expect_near(static_cast<double>(use({{a_, direction, 65536, 8}}, seconds(10))[0].bytes),
                  kBytes * 10);
    }
  }
}

TEST_F(ThrottleTest, WhatIsNotConcernedIsNotLimited) {
  ThrottleLimits limits;
  limits.bytes.read = {.average = 1};
  limits.requests.read = {.average = 1};
  throttle_->set(limits);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(a_.admit(Direction::kWrite, 1 << 20));
  }
  EXPECT_TRUE(a_.admit(Direction::kRead, 1 << 20));
  EXPECT_FALSE(a_.admit(Direction::kRead, 1 << 20));
}

TEST_F(ThrottleTest, ABurstOfASecondIsUsedAtOnceAndThenTheAverageHolds) {
  ThrottleLimits limits;
  limits.requests.total = {.average = 100, .burst = 1000};
  throttle_->set(limits);
  const auto at_once = use({{a_, Direction::kRead, 1, 4}}, std::chrono::milliseconds(1));
  expect_near(static_cast<double>(at_once[0].requests), 1000);
  const auto after = use({{a_, Direction::kRead, 1, 4}}, seconds(10));
  expect_near(static_cast<double>(after[0].requests), 100 * 10);
}

TEST_F(ThrottleTest, ALongBurstGoesAtItsOwnRate) {
  ThrottleLimits limits;
  limits.bytes.total = {.average = 1e6, .burst = 10e6, .burst_seconds = 9};
  throttle_->set(limits);
  // 90 MB and what leaks meanwhile are there for the burst: ten seconds of it.
  const auto burst = use({{a_, Direction::kRead, 4096, 4}}, seconds(10));
  expect_near(static_cast<double>(burst[0].bytes), 10e6 * 10);
  const auto after = use({{a_, Direction::kRead, 4096, 4}}, seconds(10));
  expect_near(static_cast<double>(after[0].bytes), 1e6 * 10);
  // Who rests may burst again.
  reactor_.block_on([]() -> Task<void> { co_await sleep_for(seconds(200)); }());
  const auto again = use({{a_, Direction::kRead, 4096, 4}}, seconds(10));
  expect_near(static_cast<double>(again[0].bytes), 10e6 * 10);
}

TEST_F(ThrottleTest, ALargeRequestGoesThroughWholeAndIsPaidForAfterwards) {
  ThrottleLimits limits;
  limits.bytes.total = {.average = 1000};
  throttle_->set(limits);
  EXPECT_TRUE(a_.admit(Direction::kWrite, 5000));
  const TimePoint begin = reactor_.now();
  EXPECT_FALSE(a_.admit(Direction::kWrite, 1));
  reactor_.block_on([](Throttle::Member& member) -> Task<void> {
    co_await member.wait(Direction::kWrite, 1);
  }(a_));
  // Until all but what a tenth of a second is worth has leaked out.
  EXPECT_NEAR(std::chrono::duration<double>(reactor_.now() - begin).count(), 4.9, 0.001);
}

TEST_F(ThrottleTest, LargeRequestsCountForMoreThanOne) {
  ThrottleLimits limits;
  limits.requests.total = {.average = 1000};
  limits.request_size = 4096;
  throttle_->set(limits);
  const auto large = use({{a_, Direction::kRead, 5 * 2048, 4}}, seconds(10));
  expect_near(static_cast<double>(large[0].requests), 10 * 1000 / 2.5);
  throttle_->set(limits);
  const auto small = use({{a_, Direction::kRead, 1, 4}}, seconds(10));
  expect_near(static_cast<double>(small[0].requests), 10 * 1000);
}

TEST_F(ThrottleTest, MembersShareFairlyHoweverBusyTheyAre) {
  ThrottleLimits limits;
  limits.bytes.total = {.average = 1 << 20};
  throttle_->set(limits);
  const auto uses =
      use({{a_, Direction::kRead, 4096, 64}, {b_, Direction::kRead, 4096, 1}}, seconds(20));
  expect_near(static_cast<double>(uses[0].bytes), 10 << 20);
  expect_near(static_cast<double>(uses[1].bytes), 10 << 20);
}

TEST_F(ThrottleTest, WhatOneMemberLeavesTheOtherTakes) {
  ThrottleLimits limits;
  limits.requests.read = {.average = 1000};
  throttle_->set(limits);
  const auto uses = use({{a_, Direction::kRead, 1, 4}}, seconds(10));
  expect_near(static_cast<double>(uses[0].requests), 10000);
}

TEST_F(ThrottleTest, ReadsAndWritesShareTheTotal) {
  ThrottleLimits limits;
  limits.requests.total = {.average = 1000};
  throttle_->set(limits);
  const auto uses =
      use({{a_, Direction::kRead, 512, 32}, {a_, Direction::kWrite, 512, 1}}, seconds(10));
  expect_near(static_cast<double>(uses[0].requests), 5000);
  expect_near(static_cast<double>(uses[1].requests), 5000);
}

TEST_F(ThrottleTest, AShortWaitDoesNotStandBehindALongOne) {
  ThrottleLimits limits;
  limits.requests.read = {.average = 0.001};
  limits.requests.write = {.average = 1000};
  throttle_->set(limits);
  EXPECT_TRUE(a_.admit(Direction::kRead, 1));
  TaskGroup group;
  group.spawn([](Throttle::Member& member) -> Task<void> {
    co_await member.wait(Direction::kRead, 1);
  }(a_));
  const auto uses = use({{b_, Direction::kWrite, 1, 4}}, seconds(1));
  EXPECT_GT(uses[0].requests, 900U);
  a_.release();
  reactor_.block_on([](TaskGroup& tasks) -> Task<void> { co_await tasks.join(); }(group));
}

TEST_F(ThrottleTest, NewLimitsHoldForWhoWaitsAlready) {
  ThrottleLimits limits;
  limits.requests.total = {.average = 0.001};
  throttle_->set(limits);
  EXPECT_TRUE(a_.admit(Direction::kRead, 1));
  Use use;
  TaskGroup group;
  const TimePoint begin = reactor_.now();
  group.spawn(make_requests(a_, Direction::kRead, 1, begin + seconds(10), use));
  limits.requests.total = {.average = 100};
  throttle_->set(limits);
  reactor_.block_on([](TaskGroup& tasks) -> Task<void> { co_await tasks.join(); }(group));
  expect_near(static_cast<double>(use.requests), 1000);
}

TEST_F(ThrottleTest, ReleaseLetsAllOfAMemberGoAndNobodyElse) {
  ThrottleLimits limits;
  limits.requests.total = {.average = 0.001};
  throttle_->set(limits);
  EXPECT_TRUE(a_.admit(Direction::kRead, 1));
  unsigned done[2] = {0, 0};
  TaskGroup group;
  const auto wait = [](Throttle::Member& member, unsigned& count) -> Task<void> {
    co_await member.wait(Direction::kRead, 1);
    ++count;
  };
  for (int i = 0; i < 5; ++i) {
    group.spawn(wait(a_, done[0]));
    group.spawn(wait(b_, done[1]));
  }
  a_.release();
  reactor_.block_on([]() -> Task<void> { co_await sleep_for(seconds(1)); }());
  EXPECT_EQ(done[0], 5U);
  EXPECT_EQ(done[1], 0U);
  b_.join(std::make_shared<Throttle>());
  reactor_.block_on([](TaskGroup& tasks) -> Task<void> { co_await tasks.join(); }(group));
  EXPECT_EQ(done[1], 5U);
}

}  // namespace
}  // namespace cairn::io
