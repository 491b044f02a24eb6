// Deferred actions wait for the pins before them, in order.
#include "block/epoch.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/random.h"

namespace cairn::block {
namespace {

TEST(EpochTrackerTest, RunsAnActionAtOnceWithoutPins) {
  EpochTracker tracker;
  int runs = 0;
  tracker.defer([&runs] { ++runs; });
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(tracker.quiescent());
}

TEST(EpochTrackerTest, AnActionWaitsForThePinsTakenBeforeItAndNoOthers) {
  EpochTracker tracker;
  auto before = tracker.pin();
  bool ran = false;
  tracker.defer([&ran] { ran = true; });
  auto after = tracker.pin();
  EXPECT_FALSE(ran);
  before.release();
  EXPECT_TRUE(ran) << "a pin taken later must not hold it up";
  EXPECT_FALSE(tracker.quiescent());
}

TEST(EpochTrackerTest, ActionsRunInTheOrderTheyWereDeferred) {
  EpochTracker tracker;
  std::vector<int> order;
  auto first = tracker.pin();
  tracker.defer([&order] { order.push_back(1); });
  auto second = tracker.pin();
  tracker.defer([&order] { order.push_back(2); });
  second.release();
  EXPECT_TRUE(order.empty()) << "the second action waits for the first one's pins, too";
  first.release();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(EpochTrackerTest, AnActionMayDeferAnother) {
  EpochTracker tracker;
  std::vector<int> order;
  auto pin = tracker.pin();
  tracker.defer([&] {
    order.push_back(1);
    tracker.defer([&order] { order.push_back(3); });
    order.push_back(2);
  });
  pin.release();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(EpochTrackerTest, AnActionMayTakeAndReleaseAPin) {
  EpochTracker tracker;
  int runs = 0;
  auto pin = tracker.pin();
  tracker.defer([&] {
    auto inner = tracker.pin();
    tracker.defer([&runs] { ++runs; });
    EXPECT_EQ(runs, 0);
    inner.release();
  });
  pin.release();
  EXPECT_EQ(runs, 1);
}

TEST(EpochTrackerTest, AMovedPinHoldsOnce) {
  EpochTracker tracker;
  bool ran = false;
  auto pin = tracker.pin();
  EpochTracker::Pin moved = std::move(pin);
  tracker.defer([&ran] { ran = true; });
  pin.release();  // NOLINT(bugprone-use-after-move): it holds nothing any more
  EXPECT_FALSE(ran);
  moved = EpochTracker::Pin();
  EXPECT_TRUE(ran);
}

TEST(EpochTrackerTest, ABrokenTrackerDoesNotWait) {
  EpochTracker tracker;
  const auto pin = tracker.pin();
  tracker.break_for_test();
  bool ran = false;
  tracker.defer([&ran] { ran = true; });
  EXPECT_TRUE(ran);
}

// Against the definition: an action has run exactly when every pin taken before it is released, and
// so has every action before it.
TEST(EpochTrackerTest, AgreesWithItsDefinitionInRandomInterleavings) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    testing::Random random(seed);
    EpochTracker tracker;
    std::vector<EpochTracker::Pin> pins;
    std::vector<bool> held;
    std::vector<std::size_t> pins_before;  // of every action
    std::size_t ran = 0;
    for (int step = 0; step < 60; ++step) {
      const uint64_t kind = random.below(4);
      if (kind == 0) {
        pins.push_back(tracker.pin());
        held.push_back(true);
      } else if (kind == 1) {
        pins_before.push_back(pins.size());
        const std::size_t number = pins_before.size() - 1;
        tracker.defer([&ran, number] {
          EXPECT_EQ(ran, number);
          ++ran;
        });
      } else if (!pins.empty()) {
        const std::size_t which = random.below(pins.size());
        held[which] = false;
        pins[which].release();
      }
      const auto first = std::find(held.begin(), held.end(), true);
      const auto oldest_held = static_cast<std::size_t>(first - held.begin());
      std::size_t expected = 0;
      while (expected < pins_before.size() && pins_before[expected] <= oldest_held) {
        ++expected;
      }
      ASSERT_EQ(ran, expected) << "seed " << seed << ", step " << step;
    }
    pins.clear();
    EXPECT_EQ(ran, pins_before.size());
  }
}

}  // namespace
}  // namespace cairn::block
