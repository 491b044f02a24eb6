#include "jobs/job.h"

#include <cerrno>

#include "jobs/job_list.h"

namespace cairn::jobs {

io::Task<Result<void>> Job::commit() { co_return Result<void>(); }

Result<void> Job::complete() { return fail(ENOTSUP, "Job '{}' can not be completed", id()); }

io::Task<void> Job::abort() { co_return; }

io::Task<void> Job::pause_point() {
  if (resumed_.is_set() || cancelled()) {
    co_return;
  }
  const schema::JobStatus before = status_;
  list_->change_status(*this, before == schema::JobStatus::kReady ? schema::JobStatus::kStandby
                                                                  : schema::JobStatus::kPaused);
  static_cast<void>(co_await resumed_.wait(cancel_.token()));
  list_->change_status(*this, before);
}

}  // namespace cairn::jobs
