#include "io/gate.h"

#include <coroutine>

namespace cairn::io {

class Gate::EmptyAwaiter {
 public:
  explicit EmptyAwaiter(Gate& gate) : gate_(gate) {}
  [[nodiscard]] bool await_ready() const { return gate_.inside_ == 0; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    gate_.waiters_.push(waiter_);
  }
  void await_resume() const {}

 private:
  Gate& gate_;
  Waiter waiter_;
};

Task<void> Gate::close() {
  closed_ = true;
  co_await EmptyAwaiter(*this);
}

}  // namespace cairn::io
