#include "io/timer.h"

namespace cairn::io {

void SleepAwaiter::await_suspend(std::coroutine_handle<> handle) {
  waiter_.bind(handle);
  waiting_ = true;
  waiter_.reactor()->add_timer(*this, deadline_);
  arm(token_);
}

void SleepAwaiter::on_expired() {
  waiting_ = false;
  waiter_.wake();
}

void SleepAwaiter::on_cancel() {
  if (!waiting_) {
    return;  // its time had come before
  }
  waiting_ = false;
  cancelled_ = true;
  waiter_.reactor()->remove_timer(*this);
  waiter_.wake();
}

SleepAwaiter sleep_until(TimePoint deadline, CancelToken token) { return {deadline, token}; }

SleepAwaiter sleep_for(Duration duration, CancelToken token) {
  const TimePoint now = Reactor::current().now();
  // A wait beyond the end of time, as "for ever" may be written, ends there.
  const bool fits = duration < TimePoint::max() - now;
  return {fits ? now + duration : TimePoint::max(), token};
}

Deadline::Deadline(CancelSource& source, TimePoint when) : source_(source) {
  Reactor::current().add_timer(*this, when);
}

Deadline::Deadline(CancelSource& source, Duration from_now)
    : Deadline(source, Reactor::current().now() + from_now) {}

void Deadline::on_expired() {
  expired_ = true;
  source_.cancel();
}

}  // namespace cairn::io
