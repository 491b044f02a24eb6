// WorkerPool: threads for CPU work (codecs, checksums) and for system calls that block (open,
// getaddrinfo). `co_await pool.run(callable)` runs the callable on a thread and goes on where it
// was, on its own reactor.
//
// Threads start when work finds none idle and end when they have been idle for a while, so that an
// idle process has none. A pool of 0 threads runs everything inline, at the co_await, which is what
// a simulator needs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/backend.h"
#include "io/reactor.h"
#include "io/waiter.h"

namespace cairn::io {

// One piece of work in a pool; lives in its awaiter.
class WorkItem : private RemoteWork {
 public:
  WorkItem() = default;
  ~WorkItem() override = default;

 protected:
  virtual void execute() noexcept = 0;  // on a thread of the pool
  Waiter waiter_;

 private:
  friend class WorkerPool;
  void run() override { waiter_.wake(); }
  WorkItem* next_ = nullptr;
};

class WorkerPool {
 public:
  static constexpr Duration kIdleTime = std::chrono::seconds(5);

  explicit WorkerPool(std::size_t maximum_threads, Duration idle_time = kIdleTime)
      : maximum_(maximum_threads), idle_time_(idle_time) {}
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // No work may be queued or running.
  ~WorkerPool();

  // The process's pool, bounded by the number of processors. Usable from any thread.
  [[nodiscard]] static WorkerPool& shared();
  // Has that pool run everything at once on the caller's thread, for simulations that have to be
  // repeatable, from now on.
  static void keep_shared_work_inline();

  template <typename F>
  class RunAwaiter;

  // `auto value = co_await pool.run(callable);`. The callable runs once, must not throw, and must
  // not touch what belongs to the reactor's thread; what it captures by reference outlives the
  // co_await.
  template <typename F>
  [[nodiscard]] RunAwaiter<F> run(F callable) {
    return RunAwaiter<F>(*this, std::move(callable));
  }

  [[nodiscard]] std::size_t maximum_threads() const { return maximum_; }
  // How many threads there are now.
  [[nodiscard]] std::size_t thread_count();

 private:
  // False when there is no thread and none can be started: then it is for the caller to run.
  [[nodiscard]] bool enqueue(WorkItem& item);
  [[nodiscard]] bool start_thread();
  void work();
  void retire();

  const std::size_t maximum_;
  const Duration idle_time_;
  std::mutex mutex_;
  std::condition_variable work_available_;
  WorkItem* oldest_ = nullptr;
  WorkItem* newest_ = nullptr;
  std::size_t queued_ = 0;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
  std::vector<std::thread> retired_;  // at their end, to be joined
};

template <typename F>
class WorkerPool::RunAwaiter final : private WorkItem {
 public:
  using Value = std::invoke_result_t<F&>;

  RunAwaiter(WorkerPool& pool, F callable) : pool_(pool), callable_(std::move(callable)) {}
  [[nodiscard]] bool await_ready() {
    if (pool_.maximum_ != 0) {
      return false;
    }
    execute();
    return true;
  }
  bool await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    // Once it is queued a thread may be done with it at any time; this reactor, which alone can
    // resume the coroutine, is busy here.
    if (pool_.enqueue(*this)) {
      return true;
    }
    execute();
    return false;
  }
  Value await_resume() {
    if constexpr (!std::is_void_v<Value>) {
      return std::move(*value_);
    }
  }

 private:
  void execute() noexcept override {
    if constexpr (std::is_void_v<Value>) {
      callable_();
    } else {
      value_.emplace(callable_());
    }
  }

  struct Nothing {};
  WorkerPool& pool_;
  F callable_;
  std::conditional_t<std::is_void_v<Value>, Nothing, std::optional<Value>> value_;
};

}  // namespace cairn::io
