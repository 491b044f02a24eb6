// TaskGroup: the owner of background tasks. There are no detached coroutines: every one that nobody
// awaits belongs to a group, and a group is joined before it is destroyed.
#pragma once

#include <cstddef>

#include "io/task.h"
#include "io/waiter.h"

namespace cairn::io {

class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  // The group must be empty: join() first.
  ~TaskGroup();

  // Starts `task` at once; it runs on the caller's stack until it first suspends.
  void spawn(Task<void> task);

  [[nodiscard]] std::size_t running() const { return running_; }

  // Completes when no task runs. Tasks spawned while a join waits are waited for, too.
  Task<void> join();

 private:
  friend void detail::task_group_finished(TaskGroup& group) noexcept;

  class EmptyAwaiter;

  std::size_t running_ = 0;
  WaiterList joiners_;
};

}  // namespace cairn::io
