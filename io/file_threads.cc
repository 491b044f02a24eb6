#include "io/file_threads.h"

#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <system_error>

#include "io/quiet_thread.h"

namespace cairn::io {

void FileThreads::Queue::push(Operation& operation) {
  operation.next = nullptr;
  operation.previous = tail;
  (tail != nullptr ? tail->next : head) = &operation;
  tail = &operation;
}

void FileThreads::Queue::remove(Operation& operation) {
  (operation.previous != nullptr ? operation.previous->next : head) = operation.next;
  (operation.next != nullptr ? operation.next->previous : tail) = operation.previous;
}

FileThreads::~FileThreads() {
  {
    const std::lock_guard lock(mutex_);
    assert(waiting_.head == nullptr);
    stopping_ = true;
  }
  work_available_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void FileThreads::start(Operation& operation) {
  bool grow = false;
  {
    const std::lock_guard lock(mutex_);
    waiting_.push(operation);
    ++waiting_count_;
    grow = waiting_count_ > idle_ && threads_.size() < kMaximum;
  }
  if (!grow) {
    work_available_.notify_one();
    return;
  }
  try {
    threads_.push_back(start_quiet_thread("cairn-file", [this] { run(); }));
  } catch (const std::system_error&) {
    // The system is out of threads. Those that exist take the work; without any, do it here.
    if (threads_.empty() && cancel(operation)) {
      finish(operation, run_file_operation(operation.request));
    }
  }
}

bool FileThreads::cancel(Operation& operation) {
  const std::lock_guard lock(mutex_);
  for (Operation* waiting = waiting_.head; waiting != nullptr; waiting = waiting->next) {
    if (waiting == &operation) {
      waiting_.remove(operation);
      --waiting_count_;
      return true;
    }
  }
  return false;
}

Operation* FileThreads::take_done() {
  if (!any_done()) {
    return nullptr;
  }
  const std::lock_guard lock(mutex_);
  any_done_.store(false, std::memory_order_relaxed);
  Operation* first = done_.head;
  done_ = {};
  return first;
}

void FileThreads::finish(Operation& operation, int64_t result) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    operation.result = result;
    first = done_.head == nullptr;
    done_.push(operation);
    any_done_.store(true, std::memory_order_release);
  }
  // Whoever takes the first takes those that follow it as well.
  if (first) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
  }
}

void FileThreads::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    work_available_.wait(lock, [this] { return stopping_ || waiting_.head != nullptr; });
    --idle_;
    if (stopping_) {
      return;
    }
    Operation& operation = *waiting_.head;
    waiting_.remove(operation);
    --waiting_count_;
    lock.unlock();
    finish(operation, run_file_operation(operation.request));
    lock.lock();
  }
}

}  // namespace cairn::io
