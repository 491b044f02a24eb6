// Gate: admits work until it is closed, then waits for what is inside.
//
// On one reactor's thread. Invariant: once close() has completed, nothing is inside until open().
#pragma once

#include <cassert>
#include <cstddef>
#include <optional>
#include <utility>

#include "io/task.h"
#include "io/waiter.h"

namespace cairn::io {

class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { assert(inside_ == 0 && waiters_.empty()); }

  // Someone who is inside, until it is destroyed or leave() is called.
  class [[nodiscard]] Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&& other) noexcept {
      if (this != &other) {
        leave();
        gate_ = std::exchange(other.gate_, nullptr);
      }
      return *this;
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() { leave(); }

    void leave() {
      if (gate_ != nullptr) {
        std::exchange(gate_, nullptr)->leave();
      }
    }

   private:
    friend class Gate;
    explicit Pass(Gate& gate) : gate_(&gate) {}
    Gate* gate_ = nullptr;
  };

  // Nothing when the gate is closed (also while close() still waits).
  [[nodiscard]] std::optional<Pass> enter() {
    if (closed_) {
      return std::nullopt;
    }
    ++inside_;
    return Pass(*this);
  }

  // Closes at once (when the task is started) and completes when nobody is inside. May be called
  // any number of times.
  Task<void> close();

  // Closes without waiting.
  void shut() { closed_ = true; }

  // Admits again. Those who still wait in close() go on waiting until the gate is empty.
  void open() { closed_ = false; }

  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] std::size_t inside() const { return inside_; }

 private:
  class EmptyAwaiter;

  void leave() {
    if (--inside_ == 0) {
      waiters_.wake_all();
    }
  }

  WaiterList waiters_;
  std::size_t inside_ = 0;
  bool closed_ = false;
};

}  // namespace cairn::io
