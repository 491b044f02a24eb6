// Task<T>: a lazy coroutine with one owner.
//
// A Task starts when it is awaited (or spawned into a TaskGroup, or given to Reactor::block_on) and
// runs until its first real suspension on the stack of whoever started it. One that completes
// without suspending costs a frame from the pool and no trip through the reactor.
//
// Invariants
// - I1: a loop of any number of co_awaits that complete synchronously runs in bounded stack. The
//   awaiter runs the child to its first suspension and says by await_suspend's bool whether it is
//   still running; nothing relies on tail calls, which g++ does not make at -O0.
// - A Task runs on one thread, that of the reactor it was started on, for its whole life: every
//   primitive in io/ resumes a waiter on the reactor it waited from. So the hand-over between child
//   and parent needs no atomics.
// - Nothing throws across a coroutine boundary; an exception that reaches one ends the program.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "io/frame_pool.h"

namespace cairn::io {

template <typename T>
class Task;
class TaskGroup;

namespace detail {

// What the end of a task in a TaskGroup calls; defined in io/task_group.cc.
void task_group_finished(TaskGroup& group) noexcept;

class PromiseBase {
 public:
  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { free_frame(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      if (promise.continuation_) {
        // The parent may destroy this frame before resume() returns; nothing is touched after it.
        promise.continuation_.resume();
      } else if (promise.group_ != nullptr) {
        TaskGroup& group = *promise.group_;
        self.destroy();
        task_group_finished(group);
      }
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

  void unhandled_exception() noexcept { std::terminate(); }

  void set_continuation(std::coroutine_handle<> continuation) noexcept {
    continuation_ = continuation;
  }
  void set_group(TaskGroup& group) noexcept { group_ = &group; }

 private:
  std::coroutine_handle<> continuation_;
  TaskGroup* group_ = nullptr;
};

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object() noexcept;

  template <typename U>
    requires std::is_constructible_v<T, U&&>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }

  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) noexcept : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { destroy(); }

  [[nodiscard]] bool valid() const noexcept { return handle_ != nullptr; }

  struct Awaiter {
    Handle child;
    bool await_ready() const noexcept { return false; }
    // True when the child is still running and will resume `parent` at its end.
    bool await_suspend(std::coroutine_handle<> parent) noexcept {
      child.resume();
      if (child.done()) {
        return false;
      }
      child.promise().set_continuation(parent);
      return true;
    }
    T await_resume() { return child.promise().take(); }
  };
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

  // For TaskGroup and Reactor: gives up ownership of the coroutine, which has not started.
  [[nodiscard]] Handle release() noexcept { return std::exchange(handle_, nullptr); }

 private:
  void destroy() noexcept {
    if (handle_) {
      handle_.destroy();
      handle_ = nullptr;
    }
  }

  Handle handle_;
};

namespace detail {

template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}

inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace detail
}  // namespace cairn::io
