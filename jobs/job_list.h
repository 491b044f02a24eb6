// JobList: owns the jobs, leads each through its states, and carries out the commands that steer
// them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/task.h"
#include "io/task_group.h"
#include "jobs/job.h"
#include "jobs/job_group.h"
#include "schema/types_job.h"

namespace cairn::block {
class Node;
}

namespace cairn::jobs {

class BlockJob;

// Who hears of what happens to jobs. Nothing is to be done to the jobs from here.
struct JobEvents {
  std::function<void(const Job& job)> status;   // each change of a state
  std::function<void(const Job& job)> ready;    // can be completed, after the status
  std::function<void(const Job& job)> pending;  // waits to be finalized, after the status
  // Has done what it could, and failed if it has an error; before it is concluded.
  std::function<void(const Job& job)> ended;
  std::function<void(const BlockJob& job, schema::IoOperationType operation,
                     schema::BlockErrorAction action)>
      error;
};

class JobList {
 public:
  JobList() = default;
  JobList(const JobList&) = delete;
  JobList& operator=(const JobList&) = delete;
  // close() first.
  ~JobList();

  // Nobody hears anything by default; members may be empty.
  void set_events(JobEvents events) { events_ = std::move(events); }
  [[nodiscard]] const JobEvents& events() const { return events_; }

  // Whether a new job can have this name: EINVAL when it is not well-formed, EEXIST when it is
  // taken.
  [[nodiscard]] Result<void> check_id(std::string_view id) const;
  // Whether no job keeps the node in use; EBUSY.
  [[nodiscard]] Result<void> check_free(const block::Node& node) const;
  // Whether a job relies on `above` standing on `below`.
  [[nodiscard]] bool freezes(const block::Node& above, const block::Node& below) const;

  // Has a job that is being made take its name, with the errors of check_id(), and tells that it is
  // there: before what it needs is looked for, as clients expect. Then either add() takes it, or
  // withdraw(), which is for any job that does not come about, tells that it is gone.
  [[nodiscard]] Result<void> announce(Job& job);
  void withdraw(Job& job);
  // Takes a job, which was announced or has passed check_id(), and does nothing with it yet:
  // start() or discard() it. Without a group it ends on its own.
  Job& add(std::unique_ptr<Job> job, std::shared_ptr<JobGroup> group = nullptr);
  // Runs it in the background.
  void start(Job& job);
  void start(std::unique_ptr<Job> job) { start(add(std::move(job))); }
  // Drops a job that was not started, inside a drain or not.
  [[nodiscard]] io::Task<void> discard(Job& job, InDrain drain);

  // Oldest first.
  [[nodiscard]] const std::vector<std::unique_ptr<Job>>& jobs() const { return jobs_; }
  // Null when there is none.
  [[nodiscard]] Job* find(std::string_view id) const;
  [[nodiscard]] BlockJob* find_block_job(std::string_view id) const;

  // The commands: ENOENT when there is no such job, EPERM when its state forbids it. Without force
  // a job that is ready may come to a good end instead of being cancelled.
  [[nodiscard]] Result<void> cancel(std::string_view id, bool force = true);
  [[nodiscard]] Result<void> pause(std::string_view id);
  [[nodiscard]] Result<void> resume(std::string_view id);
  [[nodiscard]] Result<void> complete(std::string_view id);
  // The whole group's.
  [[nodiscard]] Result<void> finalize(std::string_view id);
  [[nodiscard]] Result<void> dismiss(std::string_view id);
  // Of block jobs alone.
  [[nodiscard]] Result<void> set_speed(std::string_view id, int64_t speed);
  [[nodiscard]] Result<void> change(const schema::BlockJobChangeOptions& wanted);

  // Cancels all jobs and waits for their ends. Jobs that are started later end at once.
  [[nodiscard]] io::Task<void> close();

 private:
  friend class Job;

  [[nodiscard]] io::Task<void> lead(Job& job);
  [[nodiscard]] io::Task<void> settle(JobGroup& group);
  [[nodiscard]] io::Task<void> end(Job& job, bool well);
  void cancel_now(Job& job);
  void fail_job(Job& job, Error error);
  void change_status(Job& job, schema::JobStatus status);
  void become_ready(Job& job);
  void remove(const Job& job);

  JobEvents events_;
  std::vector<std::unique_ptr<Job>> jobs_;
  std::vector<const Job*> announced_;  // and not added yet
  bool closing_ = false;
  io::TaskGroup running_;
};

}  // namespace cairn::jobs
