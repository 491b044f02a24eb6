// Semaphore: a number of units that coroutines of one reactor share.
//
// First come, first served: a large request that waits is not overtaken by small ones. A request
// for more units than there will ever be waits for ever; callers bound what they ask for.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include "io/waiter.h"

namespace cairn::io {

class Semaphore {
 public:
  explicit Semaphore(std::size_t units) : available_(units) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;
  ~Semaphore() { assert(waiters_.empty()); }

  // Holds units until it is destroyed or release() is called.
  class [[nodiscard]] Units {
   public:
    Units() = default;
    Units(Units&& other) noexcept
        : semaphore_(other.semaphore_), count_(std::exchange(other.count_, 0)) {}
    Units& operator=(Units&& other) noexcept {
      if (this != &other) {
        release();
        semaphore_ = other.semaphore_;
        count_ = std::exchange(other.count_, 0);
      }
      return *this;
    }
    Units(const Units&) = delete;
    Units& operator=(const Units&) = delete;
    ~Units() { release(); }

    [[nodiscard]] std::size_t count() const { return count_; }
    void release() {
      if (count_ != 0) {
        semaphore_->add(std::exchange(count_, 0));
      }
    }

   private:
    friend class Semaphore;
    Units(Semaphore& semaphore, std::size_t count) : semaphore_(&semaphore), count_(count) {}
    Semaphore* semaphore_ = nullptr;
    std::size_t count_ = 0;
  };

  class AcquireAwaiter : private Waiter {
   public:
    AcquireAwaiter(Semaphore& semaphore, std::size_t count)
        : semaphore_(semaphore), count_(count) {}
    [[nodiscard]] bool await_ready() { return semaphore_.take(count_); }
    void await_suspend(std::coroutine_handle<> handle) {
      bind(handle);
      semaphore_.waiters_.push(*this);
    }
    Units await_resume() { return Units(semaphore_, count_); }

   private:
    friend class Semaphore;
    Semaphore& semaphore_;
    std::size_t count_;
  };

  // `auto units = co_await semaphore.acquire(n);`
  AcquireAwaiter acquire(std::size_t count = 1) { return {*this, count}; }

  [[nodiscard]] std::optional<Units> try_acquire(std::size_t count = 1) {
    if (!take(count)) {
      return std::nullopt;
    }
    return Units(*this, count);
  }

  // Puts units in, those that were acquired or new ones.
  void add(std::size_t count) {
    available_ += count;
    while (Waiter* waiter = waiters_.front()) {
      const std::size_t wanted = static_cast<AcquireAwaiter*>(waiter)->count_;
      if (wanted > available_) {
        return;
      }
      available_ -= wanted;
      waiters_.wake_one();
    }
  }

  [[nodiscard]] std::size_t available() const { return available_; }

 private:
  bool take(std::size_t count) {
    if (!waiters_.empty() || count > available_) {
      return false;
    }
    available_ -= count;
    return true;
  }

  WaiterList waiters_;
  std::size_t available_;
};

}  // namespace cairn::io
