#include "io/worker_pool.h"

#include <algorithm>
#include <cassert>
#include <system_error>
#include <utility>

#include "io/quiet_thread.h"

namespace cairn::io {

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    assert(oldest_ == nullptr && "work outlives its pool");
    stopping_ = true;
  }
  work_available_.notify_all();
  // Nobody adds or retires threads any more.
  for (std::vector<std::thread>* threads : {&threads_, &retired_}) {
    for (std::thread& thread : *threads) {
      thread.join();
    }
  }
}

namespace {

bool shared_work_inline = false;

}  // namespace

WorkerPool& WorkerPool::shared() {
  static WorkerPool pool(std::max(1U, std::thread::hardware_concurrency()));
  static WorkerPool nobody(0);
  return shared_work_inline ? nobody : pool;
}

void WorkerPool::keep_shared_work_inline() { shared_work_inline = true; }

std::size_t WorkerPool::thread_count() {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

// With mutex_ held. False when the system has no thread for us.
bool WorkerPool::start_thread() {
  // They need no lock any more, so joining them does not wait for anything.
  for (std::thread& thread : retired_) {
    thread.join();
  }
  retired_.clear();
  try {
    threads_.push_back(start_quiet_thread("cairn-worker", [this] { work(); }));
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

bool WorkerPool::enqueue(WorkItem& item) {
  {
    const std::lock_guard lock(mutex_);
    const bool grow = queued_ >= idle_ && threads_.size() < maximum_;
    if (grow && !start_thread() && threads_.empty()) {
      return false;
    }
    item.next_ = nullptr;
    (newest_ != nullptr ? newest_->next_ : oldest_) = &item;
    newest_ = &item;
    ++queued_;
  }
  work_available_.notify_one();
  return true;
}

// With mutex_ held, as the last thing a thread does with the pool.
void WorkerPool::retire() {
  const auto self = std::ranges::find(threads_, std::this_thread::get_id(), &std::thread::get_id);
  retired_.push_back(std::move(*self));
  threads_.erase(self);
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    const bool in_time = work_available_.wait_for(
        lock, idle_time_, [this] { return stopping_ || oldest_ != nullptr; });
    --idle_;
    if (stopping_) {
      return;
    }
    if (!in_time) {
      retire();
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
