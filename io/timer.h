// Time: sleeping, and deadlines that cancel. All by the reactor's clock, which a simulator may own.
#pragma once

#include <coroutine>

#include "io/backend.h"
#include "io/cancel.h"
#include "io/reactor.h"
#include "io/waiter.h"

namespace cairn::io {

class SleepAwaiter final : private TimerEntry, private CancelHook {
 public:
  SleepAwaiter(TimePoint deadline, CancelToken token) : deadline_(deadline), token_(token) {}
  [[nodiscard]] bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle);
  bool await_resume() {
    disarm();
    return !cancelled_;
  }

 private:
  void on_expired() override;
  void on_cancel() override;

  TimePoint deadline_;
  CancelToken token_;
  Waiter waiter_;
  bool waiting_ = false;
  bool cancelled_ = false;
};

// `co_await sleep_until(deadline, token)`: true when the time has come, false when the token was
// cancelled first. Always lets the reactor run, also when the deadline has passed.
[[nodiscard]] SleepAwaiter sleep_until(TimePoint deadline, CancelToken token = {});
[[nodiscard]] SleepAwaiter sleep_for(Duration duration, CancelToken token = {});

// Cancels `source` when the time has come, unless it is destroyed before. On one reactor's thread.
class Deadline final : private TimerEntry {
 public:
  // `source` must outlive the deadline.
  Deadline(CancelSource& source, TimePoint when);
  Deadline(CancelSource& source, Duration from_now);
  ~Deadline() override { Reactor::current().remove_timer(*this); }

  [[nodiscard]] bool expired() const { return expired_; }
  // Calls it off.
  void disarm() { Reactor::current().remove_timer(*this); }

 private:
  void on_expired() override;

  CancelSource& source_;
  bool expired_ = false;
};

// `co_await yield_now()`: lets everything else that is ready run first.
class YieldAwaiter {
 public:
  [[nodiscard]] bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    waiter_.wake();
  }
  void await_resume() const {}

 private:
  Waiter waiter_;
};
[[nodiscard]] inline YieldAwaiter yield_now() { return {}; }

}  // namespace cairn::io
