#include "io/call_on.h"

namespace cairn::io::detail {

bool RemoteCall::begin(std::coroutine_handle<> caller) {
  caller_.bind(caller);
  expected_ = 1;
  if (token_.cancelled()) {
    there_.cancel();  // nobody there knows of it yet
  } else {
    arm(token_);
  }
  if (!is_here()) {
    // From here on the other thread may be done at any time; but only this reactor, which is busy
    // here, can resume the caller.
    target_.post(request_);
    return true;
  }
  starting_ = true;
  start();
  starting_ = false;
  return expected_ != 0;
}

void RemoteCall::finished() {
  if (is_here()) {
    returned();
  } else {
    request_.go_back();
  }
}

void RemoteCall::Message::arrive() {
  arrived_ = true;
  const bool answers_itself = act_ == &RemoteCall::cancel_there;
  (call_.*act_)();
  // A request goes back when its driver has finished, which may have happened by now.
  if (answers_itself) {
    go_back();
  }
}

void RemoteCall::Message::go_back() { call_.caller_.reactor()->post(*this); }

// On the caller's thread.
void RemoteCall::returned() {
  if (--expected_ == 0 && !starting_) {
    caller_.wake();
  }
}

void RemoteCall::on_cancel() {
  if (expected_ == 0) {
    return;  // it is over, and the caller about to go on
  }
  if (is_here()) {
    cancel_there();
    return;
  }
  ++expected_;
  target_.post(cancellation_);
}

void RemoteCall::cancel_there() { there_.cancel(); }

}  // namespace cairn::io::detail
