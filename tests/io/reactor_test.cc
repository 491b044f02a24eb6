// The reactor's loop, timers and the worker pool.
#include "io/reactor.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/event.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "io/worker_pool.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

using namespace std::chrono_literals;

class ReactorLoopTest : public ReactorTest {};
class TimerTest : public ReactorTest {};
class WorkerPoolTest : public ReactorTest {};

TEST(BackendKindTest, ParsesTheValuesOfTheOption) {
  EXPECT_EQ(*parse_backend_kind("auto"), BackendKind::kAuto);
  EXPECT_EQ(*parse_backend_kind("io_uring"), BackendKind::kIoUring);
  EXPECT_EQ(*parse_backend_kind("epoll"), BackendKind::kEpoll);
  EXPECT_EQ(parse_backend_kind("Epoll").error().code(), EINVAL);
}

TEST_F(ReactorLoopTest, IsCurrentWhileItLives) {
  EXPECT_EQ(Reactor::current_or_null(), reactor_.get());
  reactor_.reset();
  EXPECT_EQ(Reactor::current_or_null(), nullptr);
}

// Counts down, then sets an event: work posted from other threads.
class CountDown : public RemoteWork {
 public:
  CountDown(int& left, Event& done) : left_(left), done_(done) {}
  void run() override {
    if (--left_ == 0) {
      done_.set();
    }
  }

 private:
  int& left_;
  Event& done_;
};

Task<void> receive_posts(int thread_count, int posts_each) {
  int left = thread_count * posts_each;
  Event done;
  std::vector<std::unique_ptr<CountDown>> work;
  for (int i = 0; i < left; ++i) {
    work.push_back(std::make_unique<CountDown>(left, done));
  }
  Reactor& reactor = Reactor::current();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(thread_count));
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&reactor, &work, t, posts_each] {
      for (int i = 0; i < posts_each; ++i) {
        reactor.post(*work.at(static_cast<std::size_t>(t) * static_cast<std::size_t>(posts_each) +
                              static_cast<std::size_t>(i)));
      }
    });
  }
  co_await done.wait();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(left, 0);
}

TEST_F(ReactorLoopTest, RunsEveryPostOfEveryThread) { run(receive_posts(4, 5000)); }

TEST_F(ReactorLoopTest, PostWakesAReactorThatSleeps) {
  for (int i = 0; i < 200; ++i) {
    run(receive_posts(1, 1));
  }
}

Task<void> sleep_then_note(Duration duration, std::vector<int>& order, int id) {
  auto sleep = sleep_for(duration);
  const bool slept = co_await sleep;
  EXPECT_TRUE(slept);
  order.push_back(id);
}

Task<void> sleep_in_parallel(std::vector<int>& order) {
  TaskGroup group;
  group.spawn(sleep_then_note(9ms, order, 3));
  group.spawn(sleep_then_note(3ms, order, 1));
  group.spawn(sleep_then_note(6ms, order, 2));
  group.spawn(sleep_then_note(-1ms, order, 0));
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(TimerTest, ExpireInOrderOfTheirDeadlines) {
  std::vector<int> order;
  const TimePoint start = reactor_->now();
  run(sleep_in_parallel(order));
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
  EXPECT_GE(reactor_->now() - start, 9ms);
}

Task<void> never_early() {
  for (const Duration duration : {Duration(1us), Duration(100us), Duration(1500us)}) {
    const TimePoint start = Reactor::current().now();
    co_await sleep_for(duration);
    EXPECT_GE(Reactor::current().now() - start, duration);
  }
}

TEST_F(TimerTest, NeverWakesEarly) { run(never_early()); }

Task<void> sleep_cancelled(CancelToken token, int& cancelled) {
  auto sleep = sleep_for(1h, token);
  const bool slept = co_await sleep;
  cancelled += slept ? 0 : 1;
}

Task<void> cancel_sleeps() {
  CancelSource source;
  TaskGroup group;
  int cancelled = 0;
  group.spawn(sleep_cancelled(source.token(), cancelled));
  group.spawn(sleep_cancelled(source.token(), cancelled));
  source.cancel();
  group.spawn(sleep_cancelled(source.token(), cancelled));
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(cancelled, 3);
}

TEST_F(TimerTest, CancellingEndsASleep) { run(cancel_sleeps()); }

Task<void> meet_deadline() {
  CancelSource source;
  const Deadline deadline(source, 1ms);
  auto sleep = sleep_for(Duration::max(), source.token());
  const bool slept = co_await sleep;
  EXPECT_FALSE(slept);
  EXPECT_TRUE(deadline.expired());
}

TEST_F(TimerTest, ADeadlineCancelsItsSource) { run(meet_deadline()); }

Task<void> beat_deadline() {
  CancelSource source;
  {
    const Deadline deadline(source, 2ms);
    Deadline disarmed(source, 1ms);
    disarmed.disarm();
    EXPECT_FALSE(deadline.expired());
  }
  co_await sleep_for(5ms);
  EXPECT_FALSE(source.cancelled());
}

TEST_F(TimerTest, ADeadlineThatIsGoneCancelsNothing) { run(beat_deadline()); }

class NoteTimer final : public TimerEntry {
 public:
  NoteTimer(std::vector<int>& order, int id) : order_(order), id_(id) {}
  void on_expired() override { order_.push_back(id_); }

 private:
  std::vector<int>& order_;
  int id_;
};

TEST_F(TimerTest, AnyOrderOfAddingAndRemovingKeepsTheQueueSorted) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> order;
    std::vector<std::unique_ptr<NoteTimer>> timers;
    const TimePoint start = reactor_->now();
    for (int id = 0; id < 60; ++id) {
      timers.push_back(std::make_unique<NoteTimer>(order, id));
    }
    std::vector<int> ids(60);
    for (int id = 0; id < 60; ++id) {
      ids[static_cast<std::size_t>(id)] = id;
    }
    std::shuffle(ids.begin(), ids.end(), random);
    for (const int id : ids) {  // deadlines in the past, ordered by id; some are the same
      reactor_->add_timer(*timers[static_cast<std::size_t>(id)], start - 60ms + id / 2 * 1ms);
    }
    for (int id = 0; id < 60; id += 3) {
      reactor_->remove_timer(*timers[static_cast<std::size_t>(id)]);
    }
    reactor_->run_once();
    ASSERT_EQ(order.size(), 40U);
    for (std::size_t i = 1; i < order.size(); ++i) {
      ASSERT_LE(order[i - 1] / 2, order[i] / 2);
    }
  }
}

Task<int> run_on(WorkerPool& pool, std::thread::id& where) {
  auto work = pool.run([&where] {
    where = std::this_thread::get_id();
    return 42;
  });
  co_return co_await work;
}

TEST_F(WorkerPoolTest, RunsOnAnotherThreadAndComesBack) {
  WorkerPool pool(2);
  std::thread::id where;
  EXPECT_EQ(run(run_on(pool, where)), 42);
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST_F(WorkerPoolTest, APoolWithoutThreadsRunsInline) {
  WorkerPool pool(0);
  std::thread::id where;
  EXPECT_EQ(run(run_on(pool, where)), 42);
  EXPECT_EQ(where, std::this_thread::get_id());
}

Task<void> add_one(WorkerPool& pool, std::atomic<int>& sum) {
  auto work = pool.run([&sum] { sum.fetch_add(1, std::memory_order_relaxed); });
  co_await work;
}

Task<void> add_many(WorkerPool& pool, std::atomic<int>& sum, int count) {
  TaskGroup group;
  for (int i = 0; i < count; ++i) {
    group.spawn(add_one(pool, sum));
  }
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(WorkerPoolTest, RunsEverythingOnce) {
  WorkerPool pool(3);
  std::atomic<int> sum = 0;
  run(add_many(pool, sum, 5000));
  EXPECT_EQ(sum.load(), 5000);
}

TEST_F(WorkerPoolTest, IdleThreadsEndAndNewOnesStart) {
  WorkerPool pool(2, 0ms);
  for (int i = 0; i < 20; ++i) {
    std::atomic<int> sum = 0;
    run(add_many(pool, sum, 20));
    EXPECT_EQ(sum.load(), 20);
    while (pool.thread_count() > 0) {
      std::this_thread::yield();
    }
  }
}

Task<std::unique_ptr<std::string>> make_remotely(WorkerPool& pool) {
  auto work = pool.run([] { return std::make_unique<std::string>("made elsewhere"); });
  co_return co_await work;
}

TEST_F(WorkerPoolTest, ReturnsMoveOnlyValues) {
  EXPECT_EQ(*run(make_remotely(WorkerPool::shared())), "made elsewhere");
}

TEST_F(WorkerPoolTest, ServesReactorsOnSeveralThreads) {
  WorkerPool pool(2);
  std::atomic<int> sum = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&pool, &sum] {
      auto reactor = Reactor::create(BackendKind::kEpoll);
      (*reactor)->block_on(add_many(pool, sum, 500));
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(sum.load(), 1500);
}

}  // namespace
}  // namespace cairn::io
