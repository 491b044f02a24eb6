// WaitIn: suspends a coroutine in a WaiterList until whoever owns the list wakes it.
#pragma once

#include <coroutine>

#include "io/waiter.h"

namespace cairn::io {

class WaitIn {
 public:
  // `list` outlives the wait.
  explicit WaitIn(WaiterList& list) : list_(list) {}
  [[nodiscard]] bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    list_.push(waiter_);
  }
  void await_resume() const {}

 private:
  WaiterList& list_;
  Waiter waiter_;
};

}  // namespace cairn::io
