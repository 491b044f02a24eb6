// Epochs: who may still be using a translation (invariant I2).
//
// Every request pins the current epoch of each node whose translation it relies on, from before the
// translation until its last I/O through it is done. Space that becomes free is handed to defer();
// its action runs when every request that could have seen the old mapping has gone. Entering and
// leaving cost a few instructions; all of it happens on the node's home reactor.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

namespace cairn::block {

class EpochTracker {
 public:
  EpochTracker() = default;
  EpochTracker(const EpochTracker&) = delete;
  EpochTracker& operator=(const EpochTracker&) = delete;
  // No pins may be left. Actions that still wait are dropped: the owner is closing.
  ~EpochTracker();

  // A request's hold on what it translated. Movable, released once.
  class Pin {
   public:
    Pin() = default;
    explicit Pin(EpochTracker& tracker) : tracker_(&tracker), epoch_(tracker.enter()) {}
    Pin(Pin&& other) noexcept
        : tracker_(std::exchange(other.tracker_, nullptr)), epoch_(other.epoch_) {}
    Pin& operator=(Pin&& other) noexcept {
      if (this != &other) {
        release();
        tracker_ = std::exchange(other.tracker_, nullptr);
        epoch_ = other.epoch_;
      }
      return *this;
    }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    ~Pin() { release(); }
    void release() {
      if (tracker_ != nullptr) {
        std::exchange(tracker_, nullptr)->leave(epoch_);
      }
    }

   private:
    EpochTracker* tracker_ = nullptr;
    uint64_t epoch_ = 0;
  };

  [[nodiscard]] Pin pin() { return Pin(*this); }

  // Runs `action` once all pins taken before this call are released: at once when there are none,
  // else from within the release of the last of them. Actions run in the order they were deferred,
  // must not suspend, and may call defer().
  void defer(std::function<void()> action);

  // Actions do not wait for pins any more. This breaks I2 on purpose: the simulator has to notice.
  void break_for_test() { broken_ = true; }

  [[nodiscard]] bool quiescent() const { return pins_ == 0; }

 private:
  struct Epoch {
    uint64_t pins = 0;
    std::function<void()> action;  // set when the epoch was closed
  };

  uint64_t enter();
  void leave(uint64_t epoch);
  void run_finished();

  // epochs_[i] is epoch first_ + i; the last one is open.
  std::deque<Epoch> epochs_{1};
  uint64_t first_ = 0;
  uint64_t pins_ = 0;
  bool running_ = false;
  bool broken_ = false;
};

}  // namespace cairn::block
