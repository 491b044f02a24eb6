// call_on: runs a task on another reactor, and goes on where it was with what the task returns.
//
// The call lives in its awaiter. What it allocates is the frame of the task and one that drives it,
// both from the pool of the thread that runs them. Of many calls that are made while the other
// reactor is awake, or still in a turn, none costs a system call.
//
// Invariants
// - Everything that make() returns and refers to was done by the other reactor's thread when the
//   co_await returns, and nothing of the call is left there.
// - The other reactor runs until then: whoever owns it waits for the calls first.
// - Cancelling the token cancels the one that make() was given, on the other thread and soon. The
//   call ends when the task does, whatever that makes of it. A task that takes no token can not be
//   given up.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "io/cancel.h"
#include "io/frame_pool.h"
#include "io/reactor.h"
#include "io/task.h"
#include "io/waiter.h"

namespace cairn::io {

namespace detail {

// A call on its way, whatever it brings back.
class RemoteCall : private CancelHook {
 public:
  // Called by the driver on the other thread, as the last thing.
  void finished();

  ~RemoteCall() override = default;

 protected:
  RemoteCall(Reactor& target, CancelToken token) : target_(target), token_(token) {}

  // Of the awaiter. False: it is over already.
  [[nodiscard]] bool begin(std::coroutine_handle<> caller);
  void end() { disarm(); }

  // Runs the driver, on the other thread.
  virtual void start() = 0;
  // What the task is to end by.
  [[nodiscard]] CancelToken token_there() { return there_.token(); }

 private:
  // Runs `act` on the other reactor, then comes back.
  class Message final : public RemoteWork {
   public:
    using Act = void (RemoteCall::*)();
    Message(RemoteCall& call, Act act) : call_(call), act_(act) {}
    void run() override { arrived_ ? call_.returned() : arrive(); }
    void go_back();

   private:
    void arrive();
    RemoteCall& call_;
    const Act act_;
    bool arrived_ = false;
  };

  void on_cancel() override;
  void cancel_there();
  void returned();
  [[nodiscard]] bool is_here() const { return &target_ == caller_.reactor(); }

  Reactor& target_;
  const CancelToken token_;
  Waiter caller_;
  Message request_{*this, &RemoteCall::start};
  Message cancellation_{*this, &RemoteCall::cancel_there};
  CancelSource there_;     // used on the other thread
  int expected_ = 0;       // messages that have not come back
  bool starting_ = false;  // on this reactor, from the caller's own stack
};

// The coroutine that awaits the task. It destroys itself and then tells its call.
class CallDriver {
 public:
  class promise_type {
   public:
    explicit promise_type(RemoteCall& call) : call_(call) {}
    static void* operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { free_frame(frame, size); }

    CallDriver get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    struct FinalAwaiter {
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        RemoteCall& call = self.promise().call_;
        self.destroy();
        call.finished();
      }
      void await_resume() noexcept {}
    };
    FinalAwaiter final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }

   private:
    RemoteCall& call_;
  };
};

template <typename Made>
struct TaskValue;
template <typename T>
struct TaskValue<Task<T>> {
  using Type = T;
};

template <typename Make>
auto make_task(Make& make, CancelToken token) {
  if constexpr (std::is_invocable_v<Make&, CancelToken>) {
    return make(token);
  } else {
    return make();
  }
}

}  // namespace detail

template <typename Make>
class CallOn final : private detail::RemoteCall {
 public:
  using Value = typename detail::TaskValue<decltype(detail::make_task(
      std::declval<Make&>(), std::declval<CancelToken>()))>::Type;

  CallOn(Reactor& target, Make make, CancelToken token)
      : RemoteCall(target, token), make_(std::move(make)) {}

  [[nodiscard]] bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller) { return begin(caller); }
  Value await_resume() {
    end();
    if constexpr (!std::is_void_v<Value>) {
      return std::move(*value_);
    }
  }

 private:
  struct Nothing {};

  void start() override { drive(*this); }

  // A parameter of the base's type, for the promise.
  static detail::CallDriver drive(detail::RemoteCall& base) {
    auto& call = static_cast<CallOn&>(base);
    auto task = detail::make_task(call.make_, call.token_there());
    if constexpr (std::is_void_v<Value>) {
      co_await std::move(task);
    } else {
      call.value_.emplace(co_await std::move(task));
    }
  }

  Make make_;
  std::conditional_t<std::is_void_v<Value>, Nothing, std::optional<Value>> value_;
};

// `auto value = co_await call_on(reactor, make, token);` where make() or make(CancelToken) returns
// the Task. It is called once, on the other reactor's thread; what it refers to outlives the
// co_await. On the reactor that is current already the task runs at once.
template <typename Make>
[[nodiscard]] CallOn<Make> call_on(Reactor& target, Make make, CancelToken token = {}) {
  return CallOn<Make>(target, std::move(make), token);
}

}  // namespace cairn::io
