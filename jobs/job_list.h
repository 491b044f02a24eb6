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
#include "schema/types_job.h"

namespace cairn::jobs {

class JobList {
 public:
  JobList() = default;
  JobList(const JobList&) = delete;
  JobList& operator=(const JobList&) = delete;
  // close() first.
  ~JobList();

  // Who is to hear of every change of a state; nobody by default.
  using StatusCallback = std::function<void(const Job& job)>;
  void set_on_status(StatusCallback callback) { on_status_ = std::move(callback); }

  // Whether a new job can have this name: EINVAL when it is not well-formed, EEXIST when it is
  // taken.
  [[nodiscard]] Result<void> check_id(std::string_view id) const;
  // Runs a job, which has passed check_id(), in the background.
  void start(std::unique_ptr<Job> job);

  // Oldest first.
  [[nodiscard]] const std::vector<std::unique_ptr<Job>>& jobs() const { return jobs_; }

  // The commands: ENOENT when there is no such job, EPERM when its state forbids it.
  [[nodiscard]] Result<void> cancel(std::string_view id);
  [[nodiscard]] Result<void> pause(std::string_view id);
  [[nodiscard]] Result<void> resume(std::string_view id);
  [[nodiscard]] Result<void> complete(std::string_view id);
  [[nodiscard]] Result<void> finalize(std::string_view id);
  [[nodiscard]] Result<void> dismiss(std::string_view id);

  // Cancels all jobs and waits for their ends.
  [[nodiscard]] io::Task<void> close();

 private:
  friend class Job;

  [[nodiscard]] Result<Job*> find(std::string_view id, Verb verb) const;
  [[nodiscard]] io::Task<void> lead(Job& job);
  void change_status(Job& job, schema::JobStatus status);
  void remove(const Job& job);

  StatusCallback on_status_;
  std::vector<std::unique_ptr<Job>> jobs_;
  io::TaskGroup running_;
};

}  // namespace cairn::jobs
