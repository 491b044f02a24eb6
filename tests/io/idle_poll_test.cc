// How long a reactor looks for work before it sleeps.
#include "io/idle_poll.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "io/event.h"
#include "io/reactor.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

using namespace std::chrono_literals;

TEST(IdlePoll, LooksNotAtAllByDefault) {
  IdlePoll poll;
  poll.waited(0ns, 1);
  EXPECT_FALSE(poll.enabled());
  EXPECT_EQ(poll.window(), 0ns);
}

TEST(IdlePoll, GrowsUntilItCoversWhatItWaitsFor) {
  IdlePoll poll;
  poll.configure({.longest = 100us});
  EXPECT_EQ(poll.window(), 0ns);
  poll.waited(30us, 3);
  EXPECT_EQ(poll.window(), 4us);
  for (int i = 0; i < 3; ++i) {
    poll.waited(30us, 3);
  }
  EXPECT_EQ(poll.window(), 32us);
  poll.waited(30us, 3);
  EXPECT_EQ(poll.window(), 32us);
  poll.waited(90us, 3);
  poll.waited(90us, 3);
  EXPECT_EQ(poll.window(), 100us);
}

TEST(IdlePoll, GivesUpAfterAWaitBeyondItsLimit) {
  IdlePoll poll;
  poll.configure({.longest = 100us});
  poll.waited(50us, 1);
  poll.waited(101us, 1);
  EXPECT_EQ(poll.window(), 0ns);
}

TEST(IdlePoll, GivesUpWhenRequestsComeInCrowds) {
  IdlePoll poll;
  poll.configure({.longest = 100us});
  poll.waited(50us, IdlePoll::kFewResumptions);
  EXPECT_GT(poll.window(), 0ns);
  poll.waited(1us, IdlePoll::kFewResumptions + 1);
  EXPECT_EQ(poll.window(), 0ns);
}

TEST(IdlePoll, GrowsAndShrinksAsItIsTold) {
  IdlePoll poll;
  poll.configure({.longest = 100us, .grow = 5, .shrink = 4});
  poll.waited(90us, 1);
  poll.waited(90us, 1);
  EXPECT_EQ(poll.window(), 20us);
  poll.waited(1s, 1);
  EXPECT_EQ(poll.window(), 5us);
  poll.configure({.longest = 2us});
  EXPECT_EQ(poll.window(), 2us);
}

TEST(IdlePoll, CopesWithTheLargestNumbers) {
  IdlePoll poll;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  poll.configure({.longest = std::chrono::nanoseconds(kMost), .grow = kMost, .shrink = kMost});
  poll.waited(1us, 1);
  poll.waited(1h, 1);
  EXPECT_EQ(poll.window(), std::chrono::nanoseconds(kMost));
}

// A kernel in which time passes only while it is asked, and something happens at a given time.
class ScriptedBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "scripted"; }
  [[nodiscard]] TimePoint now() const override { return now_; }
  void submit(Operation& /*operation*/) override {}
  void cancel(Operation& /*operation*/) override {}
  void wake() override {}
  void wait(std::optional<Duration> timeout) override {
    const bool sleeps = !timeout || *timeout > Duration::zero();
    if (sleeps) {
      ++sleeps_;
      now_ = std::max(now_, next_);
    } else {
      ++looks_;
      now_ += 1us;
    }
    if (event_ != nullptr && now_ >= next_) {
      std::exchange(event_, nullptr)->set();
    }
  }

  void happen(Event& event, Duration later) {
    event_ = &event;
    next_ = now_ + later;
  }
  [[nodiscard]] int sleeps() const { return sleeps_; }
  [[nodiscard]] int looks() const { return looks_; }

 private:
  TimePoint now_{1h};
  TimePoint next_;
  Event* event_ = nullptr;
  int sleeps_ = 0;
  int looks_ = 0;
};

Task<void> wait_for_events(ScriptedBackend& backend, int count, Duration each) {
  for (int i = 0; i < count; ++i) {
    Event event;
    backend.happen(event, each);
    co_await event.wait();
  }
}

class PollingReactorTest : public ::testing::Test {
 protected:
  PollingReactorTest() {
    auto backend = std::make_unique<ScriptedBackend>();
    backend_ = backend.get();
    reactor_ = std::make_unique<Reactor>(std::move(backend));
  }
  ScriptedBackend* backend_ = nullptr;
  std::unique_ptr<Reactor> reactor_;
};

TEST_F(PollingReactorTest, SleepsAtOnceByDefault) {
  reactor_->block_on(wait_for_events(*backend_, 20, 10us));
  EXPECT_EQ(backend_->sleeps(), 20);
}

TEST_F(PollingReactorTest, LooksWhenWorkComesSoon) {
  reactor_->set_polling({.longest = 100us});
  reactor_->block_on(wait_for_events(*backend_, 20, 10us));
  // The window grows over the first waits: 0, 4, 8, then 16 µs, which is enough.
  EXPECT_EQ(backend_->sleeps(), 3);
}

TEST_F(PollingReactorTest, SleepsWhenWorkComesLate) {
  reactor_->set_polling({.longest = 100us});
  reactor_->block_on(wait_for_events(*backend_, 20, 1ms));
  EXPECT_EQ(backend_->sleeps(), 20);
  EXPECT_LE(backend_->looks(), 20);  // the turns that only run what is ready
}

class PollingTest : public ReactorTest {};

class SetEvent final : public RemoteWork {
 public:
  explicit SetEvent(Event& event) : event_(event) {}
  void run() override { event_.set(); }

 private:
  Event& event_;
};

Task<void> answer_posts(Reactor& reactor, int count) {
  for (int i = 0; i < count; ++i) {
    Event event;
    SetEvent work(event);
    std::thread poster([&] { reactor.post(work); });
    co_await event.wait();
    poster.join();
  }
}

// It looks without saying that it sleeps, so that nobody wakes it.
TEST_F(PollingTest, FindsWhatOtherThreadsPost) {
  reactor_->set_polling({.longest = 500us});
  run(answer_posts(*reactor_, 500));
}

}  // namespace
}  // namespace cairn::io
