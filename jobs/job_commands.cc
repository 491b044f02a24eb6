// The commands of JobList.
#include <algorithm>
#include <cerrno>

#include "jobs/block_job.h"
#include "jobs/job_list.h"
#include "jobs/job_verbs.h"

namespace cairn::jobs {
namespace {

Result<void> check_job(const Job* job, Verb verb) {
  return job != nullptr ? check_verb(*job, verb) : fail(ENOENT, "Job not found");
}

}  // namespace

Job* JobList::find(std::string_view id) const {
  const auto found = std::ranges::find_if(jobs_, [id](const auto& job) { return job->id() == id; });
  return found == jobs_.end() ? nullptr : found->get();
}

BlockJob* JobList::find_block_job(std::string_view id) const {
  return dynamic_cast<BlockJob*>(find(id));
}

Result<void> JobList::cancel(std::string_view id, bool force) {
  Job* job = find(id);
  if (auto possible = check_job(job, Verb::kCancel); !possible) {
    return possible;
  }
  // What is being made final is not called off half-way.
  const bool ends = job->group_->settling_ || (!force && job->ready() && job->end_softly());
  if (!ends) {
    cancel_now(*job);
  }
  return {};
}

Result<void> JobList::pause(std::string_view id) {
  Job* job = find(id);
  if (auto possible = check_job(job, Verb::kPause); !possible) {
    return possible;
  }
  if (job->pause_wanted()) {
    return fail(EBUSY, "Job is already paused");
  }
  job->pause_itself();
  job->wake_sleepers();
  return {};
}

Result<void> JobList::resume(std::string_view id) {
  Job* job = find(id);
  if (job != nullptr && !job->pause_wanted()) {
    return fail(EINVAL, "Can't resume a job that was not paused");
  }
  if (auto possible = check_job(job, Verb::kResume); !possible) {
    return possible;
  }
  job->resumed_.set();
  job->on_resume();
  return {};
}

Result<void> JobList::complete(std::string_view id) {
  Job* job = find(id);
  if (auto possible = check_job(job, Verb::kComplete); !possible) {
    return possible;
  }
  return job->complete();
}

Result<void> JobList::finalize(std::string_view id) {
  Job* job = find(id);
  if (auto possible = check_job(job, Verb::kFinalize); !possible) {
    return possible;
  }
  job->group_->finalized_.set();
  return {};
}

Result<void> JobList::dismiss(std::string_view id) {
  Job* job = find(id);
  if (auto possible = check_job(job, Verb::kDismiss); !possible) {
    return possible;
  }
  remove(*job);
  return {};
}

Result<void> JobList::set_speed(std::string_view id, int64_t speed) {
  BlockJob* job = find_block_job(id);
  if (auto possible = check_job(job, Verb::kSetSpeed); !possible) {
    return possible;
  }
  if (speed < 0) {
    return fail(EINVAL, "Parameter 'speed' expects a non-negative value");
  }
  job->set_speed(static_cast<uint64_t>(speed));
  return {};
}

Result<void> JobList::change(const schema::BlockJobChangeOptions& wanted) {
  BlockJob* job = find_block_job(wanted.id);
  if (auto possible = check_job(job, Verb::kChange); !possible) {
    return possible;
  }
  return job->change(wanted);
}

}  // namespace cairn::jobs
