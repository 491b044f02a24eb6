// Event, AsyncMutex, Semaphore, Gate and Channel.
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/channel.h"
#include "io/event.h"
#include "io/gate.h"
#include "io/mutex.h"
#include "io/semaphore.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

class EventTest : public ReactorTest {};
class AsyncMutexTest : public ReactorTest {};
class SemaphoreTest : public ReactorTest {};
class GateTest : public ReactorTest {};
class ChannelTest : public ReactorTest {};

using Order = std::vector<int>;

Task<void> wait_event(Event& event, Order& order, int id) {
  co_await event.wait();
  order.push_back(id);
}

Task<void> set_and_reset(Order& order) {
  Event event;
  TaskGroup group;
  group.spawn(wait_event(event, order, 1));
  group.spawn(wait_event(event, order, 2));
  event.set();
  event.reset();
  group.spawn(wait_event(event, order, 3));
  co_await yield_now();
  EXPECT_EQ(order, (Order{1, 2}));
  event.set();
  auto join = group.join();
  co_await std::move(join);
  group.spawn(wait_event(event, order, 4));
  EXPECT_EQ(group.running(), 0U);
}

TEST_F(EventTest, WakesThoseWhoWaitEvenWhenResetAtOnce) {
  Order order;
  run(set_and_reset(order));
  EXPECT_EQ(order, (Order{1, 2, 3, 4}));
}

Task<void> lock_and_yield(AsyncMutex& mutex, Order& order, int id) {
  auto guard = co_await mutex.lock();
  order.push_back(id);
  co_await yield_now();
  order.push_back(-id);
}

Task<void> contend(Order& order) {
  AsyncMutex mutex;
  TaskGroup group;
  for (int id = 1; id <= 4; ++id) {
    group.spawn(lock_and_yield(mutex, order, id));
  }
  EXPECT_FALSE(mutex.try_lock().has_value());
  auto join = group.join();
  co_await std::move(join);
  EXPECT_FALSE(mutex.locked());
}

TEST_F(AsyncMutexTest, IsHeldByOneAtATimeInOrderOfArrival) {
  Order order;
  run(contend(order));
  EXPECT_EQ(order, (Order{1, -1, 2, -2, 3, -3, 4, -4}));
}

Task<void> hand_over() {
  AsyncMutex mutex;
  Order order;
  TaskGroup group;
  auto guard = co_await mutex.lock();
  group.spawn(lock_and_yield(mutex, order, 1));
  guard.unlock();
  EXPECT_FALSE(guard.owns_lock());
  // The one that waits has it, though it has not run yet.
  EXPECT_TRUE(mutex.locked());
  EXPECT_FALSE(mutex.try_lock().has_value());
  auto join = group.join();
  co_await std::move(join);
  auto again = mutex.try_lock();
  EXPECT_TRUE(again.has_value());
}

TEST_F(AsyncMutexTest, UnlockingHandsItToTheNextSoThatNobodyOvertakes) { run(hand_over()); }

Task<void> move_guards() {
  AsyncMutex mutex;
  auto first = co_await mutex.lock();
  AsyncMutex::Guard second = std::move(first);
  EXPECT_TRUE(second.owns_lock());
  EXPECT_TRUE(mutex.locked());
  second = AsyncMutex::Guard();
  EXPECT_FALSE(mutex.locked());
}

TEST_F(AsyncMutexTest, GuardsMove) { run(move_guards()); }

Task<void> take_units(Semaphore& semaphore, std::size_t count, Order& order, int id) {
  auto units = co_await semaphore.acquire(count);
  EXPECT_EQ(units.count(), count);
  order.push_back(id);
  co_await yield_now();
}

Task<void> share_units(Order& order) {
  Semaphore semaphore(3);
  TaskGroup group;
  group.spawn(take_units(semaphore, 2, order, 1));
  group.spawn(take_units(semaphore, 3, order, 2));  // waits for all
  group.spawn(take_units(semaphore, 1, order, 3));  // fits, but may not overtake
  EXPECT_EQ(order, Order{1});
  EXPECT_EQ(semaphore.available(), 1U);
  EXPECT_FALSE(semaphore.try_acquire(1).has_value());
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(semaphore.available(), 3U);
  EXPECT_TRUE(semaphore.try_acquire(3).has_value());
  EXPECT_FALSE(semaphore.try_acquire(4).has_value());
}

TEST_F(SemaphoreTest, ServesInOrderOfArrivalWhateverTheCounts) {
  Order order;
  run(share_units(order));
  EXPECT_EQ(order, (Order{1, 2, 3}));
}

Task<void> add_units(Order& order) {
  Semaphore semaphore(0);
  TaskGroup group;
  group.spawn(take_units(semaphore, 2, order, 1));
  group.spawn(take_units(semaphore, 2, order, 2));
  semaphore.add(4);
  co_await yield_now();
  EXPECT_EQ(order, (Order{1, 2}));
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(SemaphoreTest, OneAddWakesAllWhoFit) {
  Order order;
  run(add_units(order));
}

Task<void> stay_inside(Gate& gate, Event& leave) {
  auto pass = gate.enter();
  EXPECT_TRUE(pass.has_value());
  co_await leave.wait();
}

Task<void> close_gate(Gate& gate, bool& closed) {
  auto close = gate.close();
  co_await std::move(close);
  EXPECT_EQ(gate.inside(), 0U);
  closed = true;
}

Task<void> close_and_reopen() {
  Gate gate;
  Event leave;
  TaskGroup group;
  bool closed = false;
  group.spawn(stay_inside(gate, leave));
  group.spawn(stay_inside(gate, leave));
  EXPECT_EQ(gate.inside(), 2U);
  group.spawn(close_gate(gate, closed));
  EXPECT_TRUE(gate.closed());
  EXPECT_FALSE(gate.enter().has_value());
  co_await yield_now();
  EXPECT_FALSE(closed);
  leave.set();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_TRUE(closed);
  auto again = gate.close();
  co_await std::move(again);
  gate.open();
  EXPECT_TRUE(gate.enter().has_value());
}

TEST_F(GateTest, CloseRefusesNewcomersAndWaitsForThoseInside) { run(close_and_reopen()); }

Task<void> produce(Channel<std::string>& channel, int count, Order& sent) {
  for (int i = 0; i < count; ++i) {
    auto push = channel.push(std::to_string(i));
    const bool accepted = co_await push;
    if (!accepted) {
      co_return;
    }
    sent.push_back(i);
  }
}

Task<void> consume(Channel<std::string>& channel, Order& received) {
  for (;;) {
    auto pop = channel.pop();
    auto value = co_await pop;
    if (!value) {
      co_return;
    }
    received.push_back(std::stoi(*value));
  }
}

Order numbers(int count) {
  Order all;
  for (int i = 0; i < count; ++i) {
    all.push_back(i);
  }
  return all;
}

Task<void> produce_then_close(Channel<std::string>& channel, Order& sent) {
  auto producing = produce(channel, 100, sent);
  co_await std::move(producing);
  channel.close();
}

Task<void> pass_through(std::size_t capacity, Order& received) {
  Channel<std::string> channel(capacity);
  TaskGroup group;
  Order sent;
  group.spawn(produce_then_close(channel, sent));
  EXPECT_EQ(sent.size(), capacity);
  group.spawn(consume(channel, received));
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(sent, numbers(100));
}

TEST_F(ChannelTest, KeepsOrderAndBoundsTheQueue) {
  for (const std::size_t capacity : {0U, 1U, 7U}) {
    Order received;
    run(pass_through(capacity, received));
    EXPECT_EQ(received, numbers(100)) << "capacity " << capacity;
  }
}

Task<void> many_to_many(Order& received) {
  Channel<std::string> channel(2);
  TaskGroup producers;
  TaskGroup consumers;
  Order sent;
  for (int i = 0; i < 3; ++i) {
    consumers.spawn(consume(channel, received));
  }
  for (int i = 0; i < 3; ++i) {
    producers.spawn(produce(channel, 50, sent));
  }
  auto join_producers = producers.join();
  co_await std::move(join_producers);
  channel.close();
  auto join_consumers = consumers.join();
  co_await std::move(join_consumers);
}

TEST_F(ChannelTest, DeliversEveryValueOnceWithManyOnBothSides) {
  Order received;
  run(many_to_many(received));
  std::vector<int> counts(50, 0);
  for (const int value : received) {
    ++counts[static_cast<std::size_t>(value)];
  }
  EXPECT_EQ(counts, std::vector<int>(50, 3));
}

Task<void> close_with_waiters() {
  Channel<std::string> full(1);
  TaskGroup group;
  Order sent;
  group.spawn(produce(full, 5, sent));
  EXPECT_EQ(full.size(), 1U);
  full.close();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(sent, Order{0});
  std::string late = "late";
  EXPECT_FALSE(full.try_push(late));
  EXPECT_EQ(late, "late");
  // What was accepted is still there.
  auto value = co_await full.pop();
  EXPECT_EQ(value, "0");
  auto nothing = co_await full.pop();
  EXPECT_FALSE(nothing.has_value());

  Channel<std::string> empty(1);
  Order received;
  group.spawn(consume(empty, received));
  empty.close();
  auto join_again = group.join();
  co_await std::move(join_again);
}

TEST_F(ChannelTest, CloseEndsThoseWhoWaitAndKeepsWhatWasAccepted) { run(close_with_waiters()); }

}  // namespace
}  // namespace cairn::io
