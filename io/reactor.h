// Reactor: one thread's event loop: a queue of coroutines that are ready, timers, work posted from
// other threads, and a back end for the kernel.
//
// Invariants
// - At most one reactor is current on a thread, and a reactor is used on one thread only, but for
//   post() and what is built on it.
// - A coroutine that waits is resumed on the reactor it waited from.
// - Ready coroutines run in the order they were made ready. When there are no more, and after every
//   kReadyBatch of them, the kernel is polled, so that neither starves the other.
#pragma once

#include <atomic>
#include <coroutine>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/backend.h"
#include "io/copy_policy.h"
#include "io/idle_poll.h"
#include "io/task.h"
#include "io/waiter.h"

namespace cairn::io {

enum class BackendKind {
  kAuto,     // io_uring where the kernel offers it, else epoll
  kIoUring,  // or an error
  kEpoll,
};

// Parses the values of --io: "auto", "io_uring", "epoll".
[[nodiscard]] Result<BackendKind> parse_backend_kind(std::string_view text);

// A piece of work handed to a reactor from another thread. Lives in its owner until run() is
// called, on the reactor's thread.
class RemoteWork {
 public:
  RemoteWork() = default;
  RemoteWork(const RemoteWork&) = delete;
  RemoteWork& operator=(const RemoteWork&) = delete;
  virtual ~RemoteWork() = default;
  virtual void run() = 0;

 private:
  friend class Reactor;
  RemoteWork* next_remote_ = nullptr;
};

// A deadline in a reactor's queue; see io/timer.h for the awaitable form.
class TimerEntry {
 public:
  TimerEntry() = default;
  virtual ~TimerEntry() = default;
  TimerEntry(const TimerEntry&) = delete;
  TimerEntry& operator=(const TimerEntry&) = delete;
  virtual void on_expired() = 0;

 private:
  friend class Reactor;
  TimePoint deadline_;
  uint64_t sequence_ = 0;
  std::size_t heap_index_ = SIZE_MAX;
};

class Reactor {
 public:
  // Makes a reactor and, until it is destroyed, the current one of this thread.
  [[nodiscard]] static Result<std::unique_ptr<Reactor>> create(BackendKind kind);
  explicit Reactor(std::unique_ptr<Backend> backend);
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  ~Reactor();

  [[nodiscard]] static Reactor& current();
  [[nodiscard]] static Reactor* current_or_null();

  [[nodiscard]] std::string_view backend_name() const { return backend_->name(); }
  [[nodiscard]] TimePoint now() const { return backend_->now(); }

  // Runs the loop until `task` is done and returns its value.
  template <typename T>
  T block_on(Task<T> task) {
    const auto handle = task.release();
    handle.resume();
    while (!handle.done()) {
      run_once();
    }
    const FrameOwner<typename Task<T>::Handle> owner{handle};
    return handle.promise().take();
  }

  // One turn: asks the kernel, sleeping when nothing is ready, then runs what is.
  void run_once();

  // Queues a coroutine that waits on this reactor. On its thread only.
  void schedule(Waiter& waiter) { ready_.push(waiter); }

  void submit(Operation& operation) {
    ++operations_submitted_;
    backend_->submit(operation);
  }
  void cancel(Operation& operation) { backend_->cancel(operation); }

  // Whether an operation may be done at the co_await, without suspending; counts it.
  [[nodiscard]] bool spend_inline() {
    inline_budget_ -= inline_budget_ >= 0 ? 1 : 0;
    return inline_budget_ >= 0;
  }

  // Whether, and for how long, it looks for work before it sleeps; it does not by default.
  void set_polling(PollSettings settings) { idle_poll_.configure(settings); }

  // Where large copies are made.
  [[nodiscard]] CopyPolicy& copies() { return copies_; }

  // Hands `work` to this reactor from any thread; never blocks.
  void post(RemoteWork& work);

  void add_timer(TimerEntry& timer, TimePoint deadline);
  void remove_timer(TimerEntry& timer);

  // For the request-cost bench.
  [[nodiscard]] uint64_t operations_submitted() const { return operations_submitted_; }

 private:
  template <typename Handle>
  struct FrameOwner {
    Handle handle;
    ~FrameOwner() { handle.destroy(); }
  };

  static constexpr int kReadyBatch = 128;
  // How many operations a turn may be done without suspending, by all coroutines together.
  static constexpr int kInlineBudget = 256;

  [[nodiscard]] std::optional<Duration> time_to_sleep() const;
  void sleep(std::optional<Duration> timeout);
  [[nodiscard]] bool look_for_work(Duration span);
  void run_ready();
  void run_remote();
  void run_timers();
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  [[nodiscard]] static bool earlier(const TimerEntry& a, const TimerEntry& b);

  std::unique_ptr<Backend> backend_;
  WaiterList ready_;
  std::vector<TimerEntry*> timers_;  // a binary heap, the earliest first
  std::atomic<RemoteWork*> remote_{nullptr};
  std::atomic<bool> sleeping_{false};  // or about to; who clears it, wakes
  std::atomic<uint32_t> posters_{0};   // threads that are in post()
  int inline_budget_ = kInlineBudget;
  CopyPolicy copies_;
  IdlePoll idle_poll_;
  uint32_t resumptions_ = 0;  // since there was nothing to do
  uint64_t timer_sequence_ = 0;
  uint64_t operations_submitted_ = 0;
};

}  // namespace cairn::io
