#include "io/waiter.h"

#include <cassert>

#include "io/reactor.h"

namespace cairn::io {

void Waiter::bind(std::coroutine_handle<> handle) {
  handle_ = handle;
  reactor_ = &Reactor::current();
}

void Waiter::wake() { reactor_->schedule(*this); }

void WaiterList::push(Waiter& waiter) {
  assert(waiter.list_ == nullptr);
  waiter.list_ = this;
  waiter.next_ = nullptr;
  waiter.previous_ = tail_;
  (tail_ != nullptr ? tail_->next_ : head_) = &waiter;
  tail_ = &waiter;
}

Waiter* WaiterList::pop() {
  Waiter* first = head_;
  if (first != nullptr) {
    remove(*first);
  }
  return first;
}

bool WaiterList::remove(Waiter& waiter) {
  if (waiter.list_ != this) {
    return false;
  }
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : head_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : tail_) = waiter.previous_;
  waiter.list_ = nullptr;
  return true;
}

bool WaiterList::wake_one() {
  Waiter* first = pop();
  if (first != nullptr) {
    first->wake();
  }
  return first != nullptr;
}

void WaiterList::wake_all() {
  while (wake_one()) {
  }
}

}  // namespace cairn::io
