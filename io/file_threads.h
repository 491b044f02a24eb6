// FileThreads: threads that run file operations which may wait for a device, for the epoll back
// end.
//
// Threads start when work finds none idle, up to kMaximum, and stay until the pool is destroyed.
// start(), cancel() and take_done() are called on the reactor's thread; the pool owns an operation
// from start() until take_done() returns it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/operation.h"

namespace cairn::io {

class FileThreads {
 public:
  // `wake_fd` is an event descriptor that is written when operations become done.
  explicit FileThreads(int wake_fd) : wake_fd_(wake_fd) {}
  FileThreads(const FileThreads&) = delete;
  FileThreads& operator=(const FileThreads&) = delete;
  // No operation may be in flight.
  ~FileThreads();

  void start(Operation& operation);

  // Takes back an operation that no thread has begun; false when it is too late.
  [[nodiscard]] bool cancel(Operation& operation);

  // The operations that are done, linked by `next`, oldest first; null when there are none.
  [[nodiscard]] Operation* take_done();

  // May become true at any time, and false only by take_done().
  [[nodiscard]] bool any_done() const { return any_done_.load(std::memory_order_acquire); }

 private:
  static constexpr std::size_t kMaximum = 16;

  struct Queue {
    Operation* head = nullptr;
    Operation* tail = nullptr;
    void push(Operation& operation);
    void remove(Operation& operation);
  };

  void run();
  void finish(Operation& operation, int64_t result);

  const int wake_fd_;
  std::mutex mutex_;
  std::condition_variable work_available_;
  Queue waiting_;
  Queue done_;
  std::size_t waiting_count_ = 0;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::atomic<bool> any_done_{false};
  std::vector<std::thread> threads_;
};

}  // namespace cairn::io
