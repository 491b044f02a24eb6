// Invariant I1: co_awaits that complete synchronously, in any number, run in bounded stack; so do
// any number of wake-ups. This program is built at -O0 and at -O2, whatever the rest is built at:
// compilers make tail calls at some levels only, and nothing may rely on them.
//
// Every test runs on a thread with a stack of 256 KiB, and measures how deep the stack gets as
// well.
#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>

#include "io/channel.h"
#include "io/event.h"
#include "io/gate.h"
#include "io/mutex.h"
#include "io/range_lock.h"
#include "io/reactor.h"
#include "io/semaphore.h"
#include "io/task.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "io/worker_pool.h"

namespace cairn::io {
namespace {

constexpr int kMillion = 1'000'000;
constexpr std::size_t kStackSize = std::size_t{256} << 10;
// From the test's body to the deepest place seen; sanitizers and -O0 make frames large.
constexpr std::uintptr_t kDepthAllowed = 32 << 10;

// The lowest and the highest place of the stack that was seen.
struct Depth {
  std::uintptr_t lowest = UINTPTR_MAX;
  std::uintptr_t highest = 0;

  [[gnu::noinline]] void note() {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    lowest = std::min(lowest, here);
    highest = std::max(highest, here);
  }
};

BackendKind backend_under_test() {
  const char* name = std::getenv("CAIRN_IO");
  return *parse_backend_kind(name != nullptr ? name : "auto");
}

// Runs `make_task(depth)` on a reactor on a thread with a small stack.
template <typename MakeTask>
void run_on_small_stack(MakeTask make_task) {
  struct Context {
    MakeTask make_task;
    Depth depth;
    bool skipped = false;
  } context{std::move(make_task), {}};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kStackSize), 0);
  pthread_t thread{};
  const auto body = [](void* argument) -> void* {
    auto& in = *static_cast<Context*>(argument);
    auto reactor = Reactor::create(backend_under_test());
    if (!reactor) {
      in.skipped = true;
      return nullptr;
    }
    in.depth.note();
    (*reactor)->block_on(in.make_task(in.depth));
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, body, &context), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  if (context.skipped) {
    GTEST_SKIP() << "this machine does not offer the back end";
  }
  EXPECT_LT(context.depth.highest - context.depth.lowest, kDepthAllowed);
}

Task<int> add(Depth& depth, int a, int b) {
  depth.note();
  co_return a + b;
}

Task<int> add_nested(Depth& depth, int a, int b) {
  auto inner = add(depth, a, b);
  co_return co_await std::move(inner);
}

Task<void> await_tasks(Depth& depth) {
  int64_t sum = 0;
  for (int i = 0; i < kMillion; ++i) {
    auto task = add_nested(depth, i, 1);
    sum += co_await std::move(task);
  }
  EXPECT_EQ(sum, int64_t{kMillion} * (kMillion + 1) / 2);
}

TEST(StackTest, AMillionTasksThatDoNotSuspend) { run_on_small_stack(await_tasks); }

// Suspends at every hundredth call, so that the loop goes on from the end of a child as well.
Task<int> sometimes_later(Depth& depth, int i) {
  depth.note();
  if (i % 100 == 0) {
    co_await yield_now();
  }
  depth.note();
  co_return i;
}

Task<void> await_mixed(Depth& depth) {
  int64_t sum = 0;
  for (int i = 0; i < kMillion; ++i) {
    auto task = sometimes_later(depth, i);
    sum += co_await std::move(task);
  }
  EXPECT_EQ(sum, int64_t{kMillion} * (kMillion - 1) / 2);
}

TEST(StackTest, AMillionTasksOfWhichSomeSuspend) { run_on_small_stack(await_mixed); }

Task<void> await_free_primitives(Depth& depth) {
  Event event(true);
  AsyncMutex mutex;
  Semaphore semaphore(2);
  RangeLock locks;
  Channel<int> channel(1);
  Gate gate;
  WorkerPool inline_pool(0);
  for (int i = 0; i < kMillion; ++i) {
    co_await event.wait();
    auto guard = co_await mutex.lock();
    auto units = co_await semaphore.acquire(2);
    auto range = co_await locks.lock_exclusive(0, 10);
    auto pushed = co_await channel.push(i);
    auto popped = co_await channel.pop();
    auto work = inline_pool.run([i] { return i; });
    const int value = co_await work;
    auto closing = gate.close();
    co_await std::move(closing);
    depth.note();
    if (!pushed || popped != i || value != i) {
      ADD_FAILURE();
      break;
    }
  }
}

TEST(StackTest, AMillionRoundsOfPrimitivesThatAreFree) {
  run_on_small_stack(await_free_primitives);
}

Task<void> play_channel(Depth& depth, Channel<int>& in, Channel<int>& out) {
  for (;;) {
    auto value = co_await in.pop();
    depth.note();
    if (!value) {
      out.close();
      co_return;
    }
    co_await out.push(*value + 1);
  }
}

Task<void> ping_pong_channels(Depth& depth) {
  Channel<int> there(1);
  Channel<int> back(1);
  TaskGroup group;
  group.spawn(play_channel(depth, there, back));
  int value = 0;
  while (value < kMillion) {
    co_await there.push(value);
    auto answer = co_await back.pop();
    depth.note();
    value = *answer;
  }
  there.close();
  auto join = group.join();
  co_await std::move(join);
}

TEST(StackTest, AMillionValuesBetweenTwoTasks) { run_on_small_stack(ping_pong_channels); }

Task<void> play_event(Depth& depth, Event& mine, Event& theirs, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    co_await mine.wait();
    mine.reset();
    depth.note();
    theirs.set();
  }
}

Task<void> ping_pong_events(Depth& depth) {
  Event a(true);
  Event b;
  TaskGroup group;
  group.spawn(play_event(depth, a, b, kMillion));
  group.spawn(play_event(depth, b, a, kMillion));
  auto join = group.join();
  co_await std::move(join);
}

TEST(StackTest, AMillionEventsBetweenTwoTasks) { run_on_small_stack(ping_pong_events); }

Task<void> play_mutex(Depth& depth, AsyncMutex& mutex, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    auto guard = co_await mutex.lock();
    depth.note();
    co_await yield_now();
  }
}

Task<void> contend_for_mutex(Depth& depth) {
  AsyncMutex mutex;
  TaskGroup group;
  group.spawn(play_mutex(depth, mutex, kMillion / 2));
  group.spawn(play_mutex(depth, mutex, kMillion / 2));
  auto join = group.join();
  co_await std::move(join);
}

TEST(StackTest, AMillionTurnsOfAContendedMutex) { run_on_small_stack(contend_for_mutex); }

// A long queue behind one holder: each that is woken wakes the next.
Task<void> pass_baton(Depth& depth, AsyncMutex& mutex) {
  auto guard = co_await mutex.lock();
  depth.note();
}

Task<void> run_relay(Depth& depth) {
  AsyncMutex mutex;
  TaskGroup group;
  auto guard = co_await mutex.lock();
  for (int i = 0; i < 100'000; ++i) {
    group.spawn(pass_baton(depth, mutex));
  }
  guard.unlock();
  auto join = group.join();
  co_await std::move(join);
}

TEST(StackTest, AHundredThousandWaitersThatWakeEachOther) { run_on_small_stack(run_relay); }

Task<void> spawn_many(Depth& depth) {
  TaskGroup group;
  for (int i = 0; i < kMillion; ++i) {
    group.spawn([](Depth& inner) -> Task<void> {
      inner.note();
      co_return;
    }(depth));
  }
  auto join = group.join();
  co_await std::move(join);
}

TEST(StackTest, AMillionTasksSpawnedIntoAGroup) { run_on_small_stack(spawn_many); }

}  // namespace
}  // namespace cairn::io
