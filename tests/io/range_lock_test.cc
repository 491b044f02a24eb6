// RangeLock: its rule, stated once more and tested against random histories.
#include "io/range_lock.h"

#include <cstdint>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/event.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

using Mode = RangeLock::Mode;

class RangeLockTest : public ReactorTest {};

TEST_F(RangeLockTest, TryLockFailsOnlyOnConflicts) {
  RangeLock locks;
  auto held = locks.try_lock(Mode::kExclusive, 100, 100);
  ASSERT_TRUE(held.has_value());
  EXPECT_TRUE(held->owns_lock());
  EXPECT_FALSE(locks.try_lock(Mode::kExclusive, 199, 1).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 0, 101).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 0, UINT64_MAX).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 150, 1).has_value());
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 0, 100).has_value());
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 200, 100).has_value());
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 150, 0).has_value());
  held->unlock();
  EXPECT_TRUE(locks.idle());
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 150, 1).has_value());
}

TEST_F(RangeLockTest, SharedRangesOverlap) {
  RangeLock locks;
  auto first = locks.try_lock(Mode::kShared, 0, 100);
  auto second = locks.try_lock(Mode::kShared, 50, 100);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(locks.try_lock(Mode::kExclusive, 120, 1).has_value());
  second.reset();
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 120, 1).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kExclusive, 99, 1).has_value());
}

TEST_F(RangeLockTest, RangesAtTheEndOfTheNumbersDoNotWrap) {
  RangeLock locks;
  auto end = locks.try_lock(Mode::kExclusive, UINT64_MAX - 10, 1000);
  ASSERT_TRUE(end.has_value());
  EXPECT_TRUE(locks.try_lock(Mode::kExclusive, 0, 900).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kExclusive, UINT64_MAX - 1, 1).has_value());
}

TEST_F(RangeLockTest, GuardsMoveWithoutLosingTheirPlace) {
  RangeLock locks;
  std::vector<RangeLock::Guard> guards;
  for (uint64_t i = 0; i < 20; ++i) {  // the vector moves them as it grows
    auto guard = locks.try_lock(Mode::kExclusive, i * 10, 10);
    ASSERT_TRUE(guard.has_value());
    guards.push_back(std::move(*guard));
  }
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 55, 1).has_value());
  guards.erase(guards.begin() + 5);
  EXPECT_TRUE(locks.try_lock(Mode::kShared, 55, 1).has_value());
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 65, 1).has_value());
  guards.clear();
  EXPECT_TRUE(locks.idle());
}

using Order = std::vector<int>;

Task<void> lock_range(RangeLock& locks, Mode mode, uint64_t offset, uint64_t length, Order& order,
                      int id) {
  auto guard = co_await locks.lock(mode, offset, length);
  order.push_back(id);
  co_await yield_now();
}

Task<void> queue_up(Order& order) {
  RangeLock locks;
  TaskGroup group;
  std::optional held = co_await locks.lock_exclusive(0, 10);
  group.spawn(lock_range(locks, Mode::kExclusive, 5, 10, order, 1));
  group.spawn(lock_range(locks, Mode::kShared, 12, 4, order, 2));       // behind 1, not behind held
  group.spawn(lock_range(locks, Mode::kExclusive, 100, 10, order, 3));  // free
  group.spawn(lock_range(locks, Mode::kShared, 14, 4, order, 4));       // with 2
  EXPECT_EQ(order, Order{3});
  co_await yield_now();
  EXPECT_EQ(order, Order{3});
  held.reset();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_TRUE(locks.idle());
}

TEST_F(RangeLockTest, WaitersGoInOrderOfArrivalAmongConflictsOnly) {
  Order order;
  run(queue_up(order));
  EXPECT_EQ(order, (Order{3, 1, 2, 4}));
}

Task<void> wait_behind_a_waiting_writer(Order& order) {
  RangeLock locks;
  TaskGroup group;
  std::optional reader = co_await locks.lock_shared(0, 10);
  group.spawn(lock_range(locks, Mode::kExclusive, 0, 10, order, 1));
  group.spawn(lock_range(locks, Mode::kShared, 0, 10, order, 2));
  // The new reader could share with the old one, but then the writer might starve.
  EXPECT_FALSE(locks.try_lock(Mode::kShared, 0, 1).has_value());
  co_await yield_now();
  EXPECT_TRUE(order.empty());
  reader.reset();
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(RangeLockTest, ReadersDoNotStarveAWriter) {
  Order order;
  run(wait_behind_a_waiting_writer(order));
  EXPECT_EQ(order, (Order{1, 2}));
}

// The property test: requests at random against the rule that the header states, worked out by the
// dullest means. Every request is one of a list in order of arrival; it may hold its range exactly
// when no earlier one that is not finished conflicts with it.
struct Request {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool exclusive = false;
  bool holds = false;
  bool finished = false;
  Event release;
};

bool conflict(const Request& a, const Request& b) {
  if (!a.exclusive && !b.exclusive) {
    return false;
  }
  for (uint64_t byte = a.begin; byte < a.end; ++byte) {
    if (byte >= b.begin && byte < b.end) {
      return true;
    }
  }
  return false;
}

Task<void> perform(RangeLock& locks, Request& request) {
  const Mode mode = request.exclusive ? Mode::kExclusive : Mode::kShared;
  auto guard = co_await locks.lock(mode, request.begin, request.end - request.begin);
  request.holds = true;
  co_await request.release.wait();
  request.holds = false;
  request.finished = true;
}

void check_against_the_rule(const std::vector<std::unique_ptr<Request>>& requests) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i]->finished) {
      continue;
    }
    bool blocked = false;
    for (std::size_t earlier = 0; earlier < i; ++earlier) {
      blocked =
          blocked || (!requests[earlier]->finished && conflict(*requests[earlier], *requests[i]));
    }
    ASSERT_EQ(requests[i]->holds, !blocked) << "request " << i;
  }
}

Task<void> random_history(uint64_t seed) {
  std::mt19937_64 random(seed);
  RangeLock locks;
  TaskGroup group;
  std::vector<std::unique_ptr<Request>> requests;
  for (int step = 0; step < 120; ++step) {
    if (random() % 2 == 0) {
      auto& request = *requests.emplace_back(std::make_unique<Request>());
      request.begin = random() % 40;
      request.end = request.begin + random() % 12;
      request.exclusive = random() % 2 == 0;
      group.spawn(perform(locks, request));
    } else if (!requests.empty()) {
      Request& request = *requests[random() % requests.size()];
      if (request.holds) {
        request.release.set();
      }
    }
    // A wake-up takes two turns of the queue: the holder leaves, then the next one runs.
    co_await yield_now();
    co_await yield_now();
    check_against_the_rule(requests);
    if (testing::Test::HasFatalFailure()) {
      break;
    }
  }
  for (auto& request : requests) {
    request->release.set();
  }
  auto join = group.join();
  co_await std::move(join);
  EXPECT_TRUE(locks.idle());
}

TEST_F(RangeLockTest, RandomHistoriesFollowTheRule) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    run(random_history(seed));
    if (HasFatalFailure()) {
      return;
    }
  }
}

}  // namespace
}  // namespace cairn::io
