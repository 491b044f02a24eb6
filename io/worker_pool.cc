#include "io/worker_pool.h"

#include <algorithm>
#include <cassert>
#include <system_error>

#include "io/quiet_thread.h"

namespace cairn::io {

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    assert(oldest_ == nullptr && "work outlives its pool");
    stopping_ = true;
  }
  work_available_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

WorkerPool& WorkerPool::shared() {
  static WorkerPool pool(std::max(1U, std::thread::hardware_concurrency()));
  return pool;
}

bool WorkerPool::enqueue(WorkItem& item) {
  {
    const std::lock_guard lock(mutex_);
    const bool grow = queued_ >= idle_ && threads_.size() < maximum_;
    if (grow) {
      try {
        threads_.push_back(start_quiet_thread("cairn-worker", [this] { work(); }));
      } catch (const std::system_error&) {
        // The system is out of threads: those that exist have to do.
        if (threads_.empty()) {
          return false;
        }
      }
    }
    item.next_ = nullptr;
    (newest_ != nullptr ? newest_->next_ : oldest_) = &item;
    newest_ = &item;
    ++queued_;
  }
  work_available_.notify_one();
  return true;
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    work_available_.wait(lock, [this] { return stopping_ || oldest_ != nullptr; });
    --idle_;
    if (stopping_) {
      return;
    }
    WorkItem& item = *oldest_;
    oldest_ = item.next_;
    if (oldest_ == nullptr) {
      newest_ = nullptr;
    }
    --queued_;
    lock.unlock();
    item.execute();
    item.waiter_.reactor()->post(item);
    lock.lock();
  }
}

}  // namespace cairn::io
