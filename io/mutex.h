// AsyncMutex: mutual exclusion between coroutines of one reactor.
//
// Unlocking hands the mutex to the one that has waited longest, so no later comer can overtake it.
// Locking a free mutex does not suspend.
#pragma once

#include <cassert>
#include <coroutine>
#include <optional>
#include <utility>

#include "io/waiter.h"

namespace cairn::io {

class AsyncMutex {
 public:
  AsyncMutex() = default;
  AsyncMutex(const AsyncMutex&) = delete;
  AsyncMutex& operator=(const AsyncMutex&) = delete;
  ~AsyncMutex() { assert(!locked_ && waiters_.empty()); }

  // Holds the mutex until it is destroyed or unlock() is called.
  class [[nodiscard]] Guard {
   public:
    Guard() = default;
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      if (this != &other) {
        unlock();
        mutex_ = std::exchange(other.mutex_, nullptr);
      }
      return *this;
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() { unlock(); }

    [[nodiscard]] bool owns_lock() const { return mutex_ != nullptr; }
    void unlock() {
      if (mutex_ != nullptr) {
        std::exchange(mutex_, nullptr)->unlock();
      }
    }

   private:
    friend class AsyncMutex;
    explicit Guard(AsyncMutex& mutex) : mutex_(&mutex) {}
    AsyncMutex* mutex_ = nullptr;
  };

  class LockAwaiter {
   public:
    explicit LockAwaiter(AsyncMutex& mutex) : mutex_(mutex) {}
    [[nodiscard]] bool await_ready() { return !std::exchange(mutex_.locked_, true); }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter_.bind(handle);
      mutex_.waiters_.push(waiter_);
    }
    Guard await_resume() { return Guard(mutex_); }

   private:
    AsyncMutex& mutex_;
    Waiter waiter_;
  };

  // `auto guard = co_await mutex.lock();`
  LockAwaiter lock() { return LockAwaiter(*this); }

  [[nodiscard]] std::optional<Guard> try_lock() {
    if (std::exchange(locked_, true)) {
      return std::nullopt;
    }
    return Guard(*this);
  }

  [[nodiscard]] bool locked() const { return locked_; }

 private:
  void unlock() {
    // With someone waiting, it stays locked and is theirs.
    locked_ = waiters_.wake_one();
  }

  WaiterList waiters_;
  bool locked_ = false;
};

}  // namespace cairn::io
