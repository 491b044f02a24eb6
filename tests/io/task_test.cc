// Task, TaskGroup and cancellation.
#include "io/task.h"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/cancel.h"
#include "io/event.h"
#include "io/frame_pool.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

class TaskTest : public ReactorTest {};
class TaskGroupTest : public ReactorTest {};
class CancelTest : public ReactorTest {};

Task<int> return_value(int value) { co_return value; }

Task<int> return_later(int value) {
  co_await yield_now();
  co_return value;
}

Task<void> mark(bool& ran) {
  ran = true;
  co_return;
}

// Counts how many are alive.
class Counted {
 public:
  explicit Counted(int& alive) : alive_(&alive) { ++*alive_; }
  Counted(const Counted& other) : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*alive_; }

 private:
  int* alive_;
};

Task<void> hold(Counted parameter) {
  const Counted local(parameter);  // NOLINT(performance-unnecessary-copy-initialization): counted
  co_await yield_now();
}

TEST_F(TaskTest, DoesNotStartUntilAwaited) {
  bool ran = false;
  auto task = mark(ran);
  EXPECT_FALSE(ran);
  run(std::move(task));
  EXPECT_TRUE(ran);
}

TEST_F(TaskTest, DestroyedBeforeStartedReleasesItsParameters) {
  int alive = 0;
  {
    const Counted counted(alive);
    auto task = hold(counted);
    EXPECT_GE(alive, 2);
  }
  EXPECT_EQ(alive, 0);
}

TEST_F(TaskTest, DestroysEverythingOfItsFrameAtTheEnd) {
  int alive = 0;
  {
    const Counted counted(alive);
    run(hold(counted));
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST_F(TaskTest, MovedFromTaskIsEmpty) {
  auto first = return_value(3);
  auto second = std::move(first);
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): the state is defined
  EXPECT_EQ(run(std::move(second)), 3);
}

TEST_F(TaskTest, AssignmentDestroysTheOldCoroutine) {
  int alive = 0;
  const Counted counted(alive);
  auto task = hold(counted);
  task = Task<void>();
  EXPECT_EQ(alive, 1);
}

Task<int> sum_of_both_kinds() {
  auto now = return_value(1);
  auto later = return_later(2);
  const int a = co_await std::move(now);
  const int b = co_await std::move(later);
  co_return a + b;
}

TEST_F(TaskTest, ReturnsValuesOfChildrenThatSuspendAndThatDoNot) {
  EXPECT_EQ(run(sum_of_both_kinds()), 3);
}

Task<std::unique_ptr<std::string>> make_string() {
  co_await yield_now();
  co_return std::make_unique<std::string>("moved");
}

TEST_F(TaskTest, ReturnsMoveOnlyValues) { EXPECT_EQ(*run(make_string()), "moved"); }

Task<int> nest(int depth) {
  if (depth == 0) {
    co_await yield_now();
    co_return 0;
  }
  auto child = nest(depth - 1);
  const int below = co_await std::move(child);
  co_return below + 1;
}

TEST_F(TaskTest, NestsDeeply) { EXPECT_EQ(run(nest(2000)), 2000); }

#if !defined(__SANITIZE_ADDRESS__)  // frames then come from the heap, so that it watches them
Task<void> await_many(int count) {
  for (int i = 0; i < count; ++i) {
    auto task = return_value(i);
    const int value = co_await std::move(task);
    EXPECT_EQ(value, i);
  }
}

TEST_F(TaskTest, ReusesFrames) {
  run(await_many(10));
  const FrameCounts before = frame_counts();
  run(await_many(1000));
  const FrameCounts after = frame_counts();
  EXPECT_LE(after.taken - before.taken, 1001U);  // clang may need no frame for a child at all
  EXPECT_EQ(after.heap_allocations, before.heap_allocations);
}
#endif

Task<void> append_after_yields(std::vector<int>& order, int value, int yields) {
  for (int i = 0; i < yields; ++i) {
    co_await yield_now();
  }
  order.push_back(value);
}

Task<void> spawn_and_join(std::vector<int>& order) {
  TaskGroup group;
  group.spawn(append_after_yields(order, 3, 3));
  group.spawn(append_after_yields(order, 1, 1));
  group.spawn(append_after_yields(order, 0, 0));
  EXPECT_EQ(group.running(), 2U);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(group.running(), 0U);
}

TEST_F(TaskGroupTest, JoinWaitsForAllTasks) {
  std::vector<int> order;
  run(spawn_and_join(order));
  EXPECT_EQ(order, (std::vector{0, 1, 3}));
}

Task<void> spawn_another(TaskGroup& group, std::vector<int>& order) {
  co_await yield_now();
  group.spawn(append_after_yields(order, 7, 5));
}

Task<void> join_spawning(std::vector<int>& order) {
  TaskGroup group;
  group.spawn(spawn_another(group, order));
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(TaskGroupTest, JoinWaitsForTasksSpawnedMeanwhile) {
  std::vector<int> order;
  run(join_spawning(order));
  EXPECT_EQ(order, std::vector{7});
}

Task<void> join_empty() {
  TaskGroup group;
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(TaskGroupTest, JoinOfAnEmptyGroupCompletes) { run(join_empty()); }

Task<void> wait_for(Event& event, CancelToken token, std::vector<bool>& outcomes) {
  auto wait = event.wait(token);
  const bool set = co_await wait;
  outcomes.push_back(set);
}

Task<void> cancel_some(std::vector<bool>& outcomes) {
  Event event;
  CancelSource source;
  CancelSource other;
  TaskGroup group;
  group.spawn(wait_for(event, source.token(), outcomes));
  group.spawn(wait_for(event, other.token(), outcomes));
  group.spawn(wait_for(event, source.token(), outcomes));
  source.cancel();
  co_await yield_now();
  EXPECT_EQ(outcomes, (std::vector{false, false}));
  event.set();
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(CancelTest, EndsTheWaitsOfItsTokensOnly) {
  std::vector<bool> outcomes;
  run(cancel_some(outcomes));
  EXPECT_EQ(outcomes, (std::vector{false, false, true}));
}

Task<bool> wait_with_cancelled_token() {
  Event event;
  CancelSource source;
  source.cancel();
  auto wait = event.wait(source.token());
  co_return co_await wait;
}

TEST_F(CancelTest, TokenThatIsCancelledAlreadyEndsAWaitAtOnce) {
  EXPECT_FALSE(run(wait_with_cancelled_token()));
}

Task<void> set_then_cancel(std::vector<bool>& outcomes) {
  Event event;
  CancelSource source;
  TaskGroup group;
  group.spawn(wait_for(event, source.token(), outcomes));
  event.set();
  source.cancel();  // the waiter is on its way already
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(CancelTest, AfterTheWakeUpChangesNothing) {
  std::vector<bool> outcomes;
  run(set_then_cancel(outcomes));
  EXPECT_EQ(outcomes, std::vector{true});
}

TEST(CancelTokenTest, EmptyTokenIsNeverCancelled) {
  EXPECT_FALSE(CancelToken().cancelled());
  CancelSource source;
  const CancelToken token = source.token();
  EXPECT_FALSE(token.cancelled());
  source.cancel();
  EXPECT_TRUE(token.cancelled());
}

}  // namespace
}  // namespace cairn::io
