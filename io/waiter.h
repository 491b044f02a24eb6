// Waiter: a suspended coroutine in a queue, and the queues it can be in.
//
// A Waiter lives in the awaiter object of the coroutine that waits, so queues allocate nothing. It
// remembers the reactor it waits on; wake() puts it on that reactor's ready queue rather than
// running it on the waker's stack, so that chains of wake-ups do not nest.
#pragma once

#include <cassert>
#include <coroutine>

namespace cairn::io {

class Reactor;
class WaiterList;

class Waiter {
 public:
  Waiter() = default;
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Binds the waiter to a coroutine that suspends on the current reactor.
  void bind(std::coroutine_handle<> handle);

  // Schedules the coroutine on its reactor. Call on that reactor's thread.
  void wake();

  [[nodiscard]] std::coroutine_handle<> handle() const { return handle_; }
  [[nodiscard]] Reactor* reactor() const { return reactor_; }

 private:
  friend class WaiterList;
  std::coroutine_handle<> handle_;
  Reactor* reactor_ = nullptr;
  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
  const WaiterList* list_ = nullptr;  // the list it is in, if any
};

// A first-in, first-out queue of waiters; owns none of them.
class WaiterList {
 public:
  WaiterList() = default;
  WaiterList(const WaiterList&) = delete;
  WaiterList& operator=(const WaiterList&) = delete;

  [[nodiscard]] bool empty() const { return head_ == nullptr; }
  [[nodiscard]] Waiter* front() const { return head_; }

  void push(Waiter& waiter) {
    assert(waiter.list_ == nullptr);
    waiter.list_ = this;
    waiter.next_ = nullptr;
    waiter.previous_ = tail_;
    (tail_ != nullptr ? tail_->next_ : head_) = &waiter;
    tail_ = &waiter;
  }

  // Removes the oldest waiter; null when there is none.
  Waiter* pop() {
    Waiter* first = head_;
    if (first != nullptr) {
      remove(*first);
    }
    return first;
  }

  // Removes `waiter` if it is in this list; says whether it was.
  bool remove(Waiter& waiter) {
    if (waiter.list_ != this) {
      return false;
    }
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : head_) = waiter.next_;
    (waiter.next_ != nullptr ? waiter.next_->previous_ : tail_) = waiter.previous_;
    waiter.list_ = nullptr;
    return true;
  }

  // False when nobody waits.
  bool wake_one();
  void wake_all();

 private:
  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
};

}  // namespace cairn::io
