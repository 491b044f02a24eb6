// How many parts of a copy are in flight, by what each of them takes.

#include "jobs/copy_window.h"

#include <chrono>
#include <deque>

#include <gtest/gtest.h>

namespace cairn::jobs {
namespace {

using std::chrono::milliseconds;

class CopyWindowTest : public ::testing::Test {
 protected:
  // Takes every place that there is.
  std::size_t fill() {
    for (;;) {
      auto waiting = window_.enter();
      if (!waiting.await_ready()) {
        return in_flight_.size();
      }
      in_flight_.push_back(waiting.await_resume());
    }
  }
  // The oldest part is done.
  void finish(std::optional<io::Duration> took) {
    io::Semaphore::Units place = std::move(in_flight_.front());
    in_flight_.pop_front();
    window_.leave(std::move(place), took);
  }
  // As many parts as `count`, each of which takes what `took` says of the number in flight.
  template <typename Took>
  void copy(int count, Took took) {
    for (int i = 0; i < count; ++i) {
      const std::size_t in_flight = fill();
      finish(took(in_flight));
    }
  }

  CopyWindow window_{64};
  std::deque<io::Semaphore::Units> in_flight_;
};

TEST_F(CopyWindowTest, BeginsWithOnePartAndGoesOnWithTheUsualNumber) {
  EXPECT_EQ(fill(), 1U);
  finish(milliseconds(1));
  EXPECT_EQ(fill(), CopyWindow::kUsual);
}

TEST_F(CopyWindowTest, AFirstPartWithoutDataIsEnoughForTheUsualNumber) {
  EXPECT_EQ(fill(), 1U);
  finish(std::nullopt);
  EXPECT_EQ(fill(), CopyWindow::kUsual);
}

TEST_F(CopyWindowTest, ADiskThatIsBusyWithAFewGetsNoMore) {
  copy(1000, [](std::size_t in_flight) { return milliseconds(1) * in_flight; });
  EXPECT_EQ(fill(), CopyWindow::kUsual);
}

TEST_F(CopyWindowTest, AServerThatIsFarAwayGetsAllThatIsAllowed) {
  copy(1000, [](std::size_t) { return milliseconds(100); });
  EXPECT_EQ(fill(), 64U);
}

TEST_F(CopyWindowTest, GrowsUntilTheWayIsFull) {
  // Sixteen at once take as long as one.
  copy(1000, [](std::size_t in_flight) {
    return milliseconds(10) * std::max<std::size_t>(in_flight, 16) / 16;
  });
  EXPECT_GE(fill(), 16U);
  EXPECT_LE(fill(), 24U);
}

TEST_F(CopyWindowTest, ShrinksWhenEverythingTakesLongerAndGrowsAgain) {
  copy(1000, [](std::size_t) { return milliseconds(10); });
  copy(1000, [](std::size_t) { return milliseconds(40); });
  EXPECT_EQ(fill(), CopyWindow::kUsual);
  copy(1000, [](std::size_t) { return milliseconds(10); });
  EXPECT_EQ(fill(), 64U);
}

TEST_F(CopyWindowTest, DoesNotGrowWhenPlacesAreLeft) {
  copy(8, [](std::size_t) { return milliseconds(10); });
  const std::size_t size = window_.size();
  while (!in_flight_.empty()) {
    finish(milliseconds(10));
  }
  EXPECT_LE(window_.size(), size + 1);
}

TEST(CopyWindow, KeepsToWhatIsAllowed) {
  CopyWindow window(3);
  auto first = window.enter();
  ASSERT_TRUE(first.await_ready());
  window.leave(first.await_resume(), milliseconds(1));
  EXPECT_EQ(window.size(), 3U);
}

}  // namespace
}  // namespace cairn::jobs
