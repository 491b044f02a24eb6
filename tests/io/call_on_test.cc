// Calls between the reactors of several threads.
#include "io/call_on.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/event.h"
#include "io/frame_pool.h"
#include "io/reactor_thread.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<ReactorThread> start_thread() {
  const char* name = std::getenv("CAIRN_IO");
  auto kind = parse_backend_kind(name != nullptr ? name : "auto");
  auto thread = ReactorThread::start("cairn-test", *kind, {});
  return thread ? std::move(*thread) : nullptr;
}

class CallOnTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    if (!IsSkipped()) {
      thread_ = start_thread();
      ASSERT_NE(thread_, nullptr);
    }
  }
  Reactor& there() { return thread_->reactor(); }

  std::unique_ptr<ReactorThread> thread_;
};

Task<std::thread::id> thread_of_task() { co_return std::this_thread::get_id(); }

Task<int> after_yielding(int value) {
  co_await yield_now();
  co_return value;
}

Task<bool> runs_there_and_returns_here(Reactor& there) {
  const auto here = std::this_thread::get_id();
  const auto ran = co_await call_on(there, thread_of_task);
  co_return ran != here&& std::this_thread::get_id() == here;
}

TEST_F(CallOnTest, RunsThereAndReturnsHere) {
  EXPECT_TRUE(run(runs_there_and_returns_here(there())));
}

Task<std::unique_ptr<int>> make_number(std::unique_ptr<int> number) {
  auto pause = sleep_for(1ms);
  co_await pause;
  ++*number;
  co_return number;
}

Task<int> pass_number(Reactor& there) {
  auto number = std::make_unique<int>(41);
  auto call = call_on(there, [&number] { return make_number(std::move(number)); });
  auto back = co_await call;
  co_return *back;
}

TEST_F(CallOnTest, CarriesWhatCanOnlyBeMovedBothWays) { EXPECT_EQ(run(pass_number(there())), 42); }

Task<int> call_here(bool yields) {
  auto call = call_on(Reactor::current(), [yields] {
    return yields ? after_yielding(1) : Task<int>([]() -> Task<int> { co_return 2; }());
  });
  const int value = co_await call;
  co_return value;
}

TEST_F(CallOnTest, CallsOnItsOwnReactorToo) {
  EXPECT_EQ(run(call_here(true)), 1);
  EXPECT_EQ(run(call_here(false)), 2);
}

// What a task waits for until it is cancelled.
Task<bool> wait_until_cancelled(Event& event, CancelToken token) {
  const bool set = co_await event.wait(token);
  co_return !set;
}

Task<bool> cancel_call(Reactor& there, bool beforehand) {
  Event never;
  CancelSource source;
  std::optional<Deadline> deadline;
  if (beforehand) {
    source.cancel();
  } else {
    deadline.emplace(source, 5ms);
  }
  auto call = call_on(
      there, [&never](CancelToken token) { return wait_until_cancelled(never, token); },
      source.token());
  const bool ended = co_await call;
  co_return ended;
}

TEST_F(CallOnTest, CancelsTheTaskThatTakesAToken) {
  EXPECT_TRUE(run(cancel_call(there(), false)));
  EXPECT_TRUE(run(cancel_call(there(), true)));
  EXPECT_TRUE(run(cancel_call(*reactor_, false)));
  EXPECT_TRUE(run(cancel_call(*reactor_, true)));
}

Task<int> slowly() {
  auto pause = sleep_for(20ms);
  co_await pause;
  co_return 7;
}

Task<int> cancel_in_vain(Reactor& there) {
  CancelSource source;
  const Deadline deadline(source, 1ms);
  auto call = call_on(there, slowly, source.token());
  const int value = co_await call;
  co_return value;
}

TEST_F(CallOnTest, WaitsForATaskThatTakesNoToken) { EXPECT_EQ(run(cancel_in_vain(there())), 7); }

// Cancels while calls come to their end on the other side.
Task<int> race_with_the_end(Reactor& there, int rounds) {
  int sum = 0;
  for (int i = 0; i < rounds; ++i) {
    CancelSource source;
    TaskGroup group;
    auto one = [](Reactor& target, CancelToken token, int& total) -> Task<void> {
      auto call = call_on(target, [](CancelToken) { return after_yielding(1); }, token);
      total += co_await call;
    };
    group.spawn(one(there, source.token(), sum));
    for (int pause = 0; pause < i % 7; ++pause) {
      co_await yield_now();
    }
    source.cancel();
    co_await group.join();
  }
  co_return sum;
}

TEST_F(CallOnTest, CancellingRacesWithTheEnd) {
  EXPECT_EQ(run(race_with_the_end(there(), 2000)), 2000);
}

Task<int> bounce(Reactor& home, Reactor& there, int depth) {
  if (depth == 0) {
    co_return 0;
  }
  auto call = call_on(there, [&, depth] { return bounce(there, home, depth - 1); });
  const int below = co_await call;
  co_return below + 1;
}

TEST_F(CallOnTest, NestsBackAndForth) { EXPECT_EQ(run(bounce(*reactor_, there(), 20)), 20); }

Task<std::size_t> heap_frames() { co_return frame_counts().heap_allocations; }

Task<std::size_t> new_heap_frames(Reactor& there, int calls) {
  std::size_t before = 0;
  for (int i = -calls; i < calls; ++i) {
    if (i == 0) {
      before = frame_counts().heap_allocations + co_await call_on(there, heap_frames);
    }
    auto call = call_on(there, [i] { return after_yielding(i); });
    co_await call;
  }
  const std::size_t after = co_await call_on(there, heap_frames);
  co_return frame_counts().heap_allocations + after - before;
}

TEST_F(CallOnTest, TakesItsFramesFromThePools) {
  EXPECT_EQ(run(new_heap_frames(there(), 100)), 0U);
}

// Counts how often it is woken.
class CountingBackend final : public Backend {
 public:
  CountingBackend(std::unique_ptr<Backend> inner, std::atomic<int>& wakes)
      : inner_(std::move(inner)), wakes_(wakes) {}
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }
  void submit(Operation& operation) override { inner_->submit(operation); }
  void cancel(Operation& operation) override { inner_->cancel(operation); }
  void wait(std::optional<Duration> timeout) override { inner_->wait(timeout); }
  void wake() override {
    ++wakes_;
    inner_->wake();
  }

 private:
  std::unique_ptr<Backend> inner_;
  std::atomic<int>& wakes_;
};

Task<void> wait_for_event(Event& event) { co_await event.wait(); }

class StopOtherReactor final : public RemoteWork {
 public:
  void run() override { event.set(); }
  Event event;
};

// Keeps its thread busy until it is let go.
Task<void> hold_thread(std::promise<void>& held, std::shared_future<void> let_go) {
  held.set_value();
  let_go.wait();
  co_return;
}

Task<int> one_of_many(Reactor& there, int& sum) {
  auto call = call_on(there, [] { return after_yielding(1); });
  sum += co_await call;
  co_return 0;
}

Task<void> add_one(Reactor& there, int& sum) { (void)co_await one_of_many(there, sum); }

Task<void> keep_busy(Reactor& there, std::promise<void>& held, std::shared_future<void> let_go) {
  auto call = call_on(there, [&held, let_go] { return hold_thread(held, let_go); });
  co_await call;
}

// The wake-ups of the other reactor for `calls` calls that are made while it is busy.
Task<int> wakes_of_busy(Reactor& there, std::atomic<int>& wakes, int calls) {
  std::promise<void> held;
  std::promise<void> let_go;
  TaskGroup group;
  group.spawn(keep_busy(there, held, let_go.get_future().share()));
  held.get_future().wait();
  const int before = wakes;
  int sum = 0;
  for (int i = 0; i < calls; ++i) {
    group.spawn(add_one(there, sum));
  }
  const int after = wakes;
  let_go.set_value();
  co_await group.join();
  EXPECT_EQ(sum, calls);
  co_return after - before;
}

TEST_F(CallOnTest, WakesNoReactorThatIsAwake) {
  std::atomic<int> wakes{0};
  std::promise<Reactor*> ready;
  StopOtherReactor stop;
  std::thread thread([&] {
    Reactor reactor(std::make_unique<CountingBackend>(std::move(*make_epoll_backend()), wakes));
    ready.set_value(&reactor);
    reactor.block_on(wait_for_event(stop.event));
  });
  Reactor& there = *ready.get_future().get();
  EXPECT_EQ(run(wakes_of_busy(there, wakes, 100)), 0);
  there.post(stop);
  thread.join();
}

// Calls around between many threads, at random, while some are cancelled.
struct Crowd {
  std::vector<std::unique_ptr<ReactorThread>> threads;
  std::atomic<int> done{0};

  Reactor& pick(std::minstd_rand& random) { return threads[random() % threads.size()]->reactor(); }
};

Task<int> wander(Crowd& crowd, uint32_t seed, int depth) {
  std::minstd_rand random(seed);
  int visits = 1;
  for (int i = 0; depth > 0 && i < 2; ++i) {
    if (random() % 3 == 0) {
      co_await yield_now();
    }
    CancelSource source;
    std::optional<Deadline> deadline;
    if (random() % 4 == 0) {
      deadline.emplace(source, std::chrono::microseconds(random() % 200));
    }
    const auto next = static_cast<uint32_t>(random());
    auto call = call_on(
        crowd.pick(random),
        [&crowd, next, depth](CancelToken) { return wander(crowd, next, depth - 1); },
        source.token());
    visits += co_await call;
  }
  ++crowd.done;
  co_return visits;
}

Task<void> one_walk(Crowd& crowd, uint32_t seed, int& visits) {
  visits += co_await wander(crowd, seed, 5);
}

Task<int> all_walks(Crowd& crowd, int walks) {
  int visits = 0;
  TaskGroup group;
  for (int i = 0; i < walks; ++i) {
    group.spawn(one_walk(crowd, static_cast<uint32_t>(i + 1), visits));
  }
  co_await group.join();
  co_return visits;
}

TEST_F(CallOnTest, CarriesCallsOfACrowdThatEndsInAnyOrder) {
  Crowd crowd;
  for (int i = 0; i < 5; ++i) {
    crowd.threads.push_back(start_thread());
    ASSERT_NE(crowd.threads.back(), nullptr);
  }
  constexpr int kWalks = 100;
  constexpr int kVisits = 63;  // of one walk: a binary tree of six levels
  EXPECT_EQ(run(all_walks(crowd, kWalks)), kWalks * kVisits);
  EXPECT_EQ(crowd.done, kWalks * kVisits);
  // Threads go in another order than they came, and the caller's reactor before the last of them.
  std::swap(crowd.threads.front(), crowd.threads.back());
  crowd.threads.erase(crowd.threads.begin() + 1, crowd.threads.begin() + 3);
  EXPECT_EQ(run(all_walks(crowd, 1)), kVisits);
  reactor_.reset();
}

}  // namespace
}  // namespace cairn::io
