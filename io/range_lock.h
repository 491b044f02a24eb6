// RangeLock: shared and exclusive locks on byte ranges, for coroutines of one reactor.
//
// Two ranges conflict when they overlap and at least one is exclusive. First come, first served
// among those that conflict: a request waits for every earlier one that it conflicts with, held or
// waiting itself, and for nothing else. So nobody starves, and neither do disjoint ranges wait for
// each other. A range of length 0 conflicts with nothing.
//
// Locking costs one pass over the ranges that are held or waited for, and less when all are shared;
// unlocking costs one when somebody waits. Neither allocates.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "io/waiter.h"

namespace cairn::io {

class RangeLock {
 public:
  enum class Mode : uint8_t { kShared, kExclusive };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() { assert(oldest_ == nullptr && "a range is still locked or waited for"); }

  class LockAwaiter;

 private:
  // A range that is held or waited for: in the list of its RangeLock, in order of arrival.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class RangeLock;
    RangeLock* owner_ = nullptr;  // null when not in a list
    Entry* older_ = nullptr;
    Entry* newer_ = nullptr;
    uint64_t begin_ = 0;
    uint64_t end_ = 0;
    uint64_t blockers_ = 0;     // how many older entries conflict with this one
    Waiter* waiter_ = nullptr;  // who waits for blockers_ to become 0
    Mode mode_ = Mode::kShared;
  };

 public:
  // Holds a range until it is destroyed or unlock() is called.
  class [[nodiscard]] Guard {
   public:
    Guard() = default;
    Guard(Guard&& other) noexcept { take(other.entry_); }
    Guard& operator=(Guard&& other) noexcept {
      if (this != &other) {
        unlock();
        take(other.entry_);
      }
      return *this;
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() { unlock(); }

    [[nodiscard]] bool owns_lock() const { return entry_.owner_ != nullptr; }
    void unlock() {
      if (entry_.owner_ != nullptr) {
        entry_.owner_->leave(entry_);
      }
    }

   private:
    friend class RangeLock;
    void take(Entry& from) {
      if (from.owner_ != nullptr) {
        from.owner_->move(from, entry_);
      }
    }
    Entry entry_;
  };

  class LockAwaiter {
   public:
    LockAwaiter(RangeLock& lock, Mode mode, uint64_t offset, uint64_t length)
        : lock_(lock), offset_(offset), length_(length), mode_(mode) {}
    [[nodiscard]] bool await_ready() { return lock_.enter(entry_, mode_, offset_, length_); }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter_.bind(handle);
      entry_.waiter_ = &waiter_;
    }
    Guard await_resume() {
      Guard guard;
      lock_.move(entry_, guard.entry_);
      return guard;
    }

   private:
    RangeLock& lock_;
    uint64_t offset_;
    uint64_t length_;
    Mode mode_;
    Entry entry_;
    Waiter waiter_;
  };

  // `auto guard = co_await locks.lock_exclusive(offset, length);`, in bytes. A range that reaches
  // beyond 2^64 ends there.
  LockAwaiter lock(Mode mode, uint64_t offset, uint64_t length) {
    return {*this, mode, offset, length};
  }
  LockAwaiter lock_exclusive(uint64_t offset, uint64_t length) {
    return {*this, Mode::kExclusive, offset, length};
  }
  LockAwaiter lock_shared(uint64_t offset, uint64_t length) {
    return {*this, Mode::kShared, offset, length};
  }

  // Nothing when the range would have to be waited for.
  [[nodiscard]] std::optional<Guard> try_lock(Mode mode, uint64_t offset, uint64_t length);

  // True when no range is held or waited for.
  [[nodiscard]] bool idle() const { return oldest_ == nullptr; }

 private:
  [[nodiscard]] static bool conflict(const Entry& a, const Entry& b);
  // Adds an entry; true when it holds its range at once.
  bool enter(Entry& entry, Mode mode, uint64_t offset, uint64_t length);
  // Removes an entry and wakes those that waited for it alone.
  void leave(Entry& entry);
  void wake_those_behind(const Entry& left, Entry* newer);
  // Puts `to` in the place of `from`, which holds its range.
  void move(Entry& from, Entry& to);
  void unlink(Entry& entry);

  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  std::size_t exclusive_count_ = 0;  // of entries, held and waiting
  std::size_t waiting_count_ = 0;
};

}  // namespace cairn::io
