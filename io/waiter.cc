#include "io/waiter.h"

#include "io/reactor.h"

namespace cairn::io {

void Waiter::bind(std::coroutine_handle<> handle) {
  handle_ = handle;
  reactor_ = &Reactor::current();
}

void Waiter::wake() { reactor_->schedule(*this); }

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
