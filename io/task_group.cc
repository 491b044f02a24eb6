#include "io/task_group.h"

#include <cassert>

namespace cairn::io {

TaskGroup::~TaskGroup() { assert(running_ == 0 && "a TaskGroup must be joined"); }

void TaskGroup::spawn(Task<void> task) {
  ++running_;
  const auto handle = task.release();
  handle.promise().set_group(*this);
  handle.resume();
}

class TaskGroup::EmptyAwaiter {
 public:
  explicit EmptyAwaiter(TaskGroup& group) : group_(group) {}
  [[nodiscard]] bool await_ready() const { return group_.running_ == 0; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    group_.joiners_.push(waiter_);
  }
  void await_resume() const {}

 private:
  TaskGroup& group_;
  Waiter waiter_;
};

Task<void> TaskGroup::join() {
  while (running_ != 0) {
    co_await EmptyAwaiter(*this);
  }
}

void detail::task_group_finished(TaskGroup& group) noexcept {
  if (--group.running_ == 0) {
    group.joiners_.wake_all();
  }
}

}  // namespace cairn::io
