// Event: a flag that coroutines wait for; manual reset.
//
// set() wakes all who wait at that moment, and they go on even when it is reset before they run.
// On one reactor's thread.
#pragma once

#include <cassert>
#include <coroutine>

#include "io/cancel.h"
#include "io/waiter.h"

namespace cairn::io {

class Event {
 public:
  explicit Event(bool set = false) : set_(set) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { assert(waiters_.empty()); }

  class WaitAwaiter final : private CancelHook {
   public:
    WaitAwaiter(Event& event, CancelToken token) : event_(event), token_(token) {}
    [[nodiscard]] bool await_ready() const { return event_.set_; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter_.bind(handle);
      event_.waiters_.push(waiter_);
      arm(token_);
    }
    bool await_resume() {
      disarm();
      return !cancelled_;
    }

   private:
    void on_cancel() override {
      // Not when set() has woken it already.
      if (event_.waiters_.remove(waiter_)) {
        cancelled_ = true;
        waiter_.wake();
      }
    }

    Event& event_;
    CancelToken token_;
    Waiter waiter_;
    bool cancelled_ = false;
  };

  [[nodiscard]] bool is_set() const { return set_; }
  void set() {
    set_ = true;
    waiters_.wake_all();
  }
  void reset() { set_ = false; }

  // `co_await event.wait(token)`: true when the event was set, false when the token was cancelled
  // first. Completes without suspending when the event is set.
  WaitAwaiter wait(CancelToken token = {}) { return {*this, token}; }

 private:
  WaiterList waiters_;
  bool set_;
};

}  // namespace cairn::io
