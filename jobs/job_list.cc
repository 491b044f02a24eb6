#include "jobs/job_list.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/identifier.h"
#include "jobs/block_job.h"
#include "jobs/job_verbs.h"

namespace cairn::jobs {

using schema::JobStatus;

JobList::~JobList() { assert(running_.running() == 0 && "close() first"); }

Result<void> JobList::check_id(std::string_view id) const {
  if (!is_identifier(id)) {
    return fail(EINVAL, "Invalid job ID '{}'", id);
  }
  const bool announced = std::ranges::find(announced_, id, &Job::id) != announced_.end();
  if (announced || find(id) != nullptr) {
    return fail(EEXIST, "Job ID '{}' already in use", id);
  }
  return {};
}

Result<void> JobList::check_free(const block::Node& node) const {
  for (const auto& job : jobs_) {
    const auto* user = dynamic_cast<const BlockJob*>(job.get());
    if (user != nullptr && user->blocks(node)) {
      return fail(EBUSY, "Node '{}' is busy: block device is in use by block job: {}", node.name(),
                  schema::to_string(user->type()));
    }
  }
  return {};
}

bool JobList::freezes(const block::Node& above, const block::Node& below) const {
  return std::ranges::any_of(jobs_, [&](const auto& job) {
    const auto* user = dynamic_cast<const BlockJob*>(job.get());
    return user != nullptr && user->blocks(above) && user->blocks(below);
  });
}

Result<void> JobList::announce(Job& job) {
  Result<void> good = check_id(job.id());
  if (good) {
    announced_.push_back(&job);
    change_status(job, JobStatus::kCreated);
  }
  return good;
}

void JobList::withdraw(Job& job) {
  if (std::erase(announced_, &job) != 0) {
    change_status(job, JobStatus::kNull);
  }
}

Job& JobList::add(std::unique_ptr<Job> job, std::shared_ptr<JobGroup> group) {
  const bool told = std::erase(announced_, job.get()) != 0;
  assert(check_id(job->id()));
  job->list_ = this;
  job->group_ = group != nullptr ? std::move(group) : std::make_shared<JobGroup>();
  job->group_->members_.push_back(job.get());
  ++job->group_->at_work_;
  jobs_.push_back(std::move(job));
  Job& added = *jobs_.back();
  if (!told) {
    change_status(added, JobStatus::kCreated);
  }
  return added;
}

void JobList::start(Job& job) {
  if (closing_) {
    cancel_now(job);
  }
  running_.spawn(lead(job));
}

io::Task<void> JobList::discard(Job& job, InDrain drain) {
  assert(job.status() == JobStatus::kCreated);
  job.drain_ = drain;
  std::erase(job.group_->members_, &job);
  --job.group_->at_work_;
  change_status(job, JobStatus::kAborting);
  co_await job.abort();
  co_await job.clean();
  change_status(job, JobStatus::kConcluded);
  remove(job);
}

io::Task<void> JobList::lead(Job& job) {
  const std::shared_ptr<JobGroup> group = job.group_;
  Result<void> result;
  if (!job.cancelled()) {
    change_status(job, JobStatus::kRunning);
    result = co_await job.run();
  }
  job.ran_ = true;
  if (result && !job.cancelled()) {
    change_status(job, JobStatus::kWaiting);
  } else {
    fail_job(job, result ? Error::from_errno(ECANCELED) : std::move(result.error()));
  }
  if (--group->at_work_ == 0) {
    co_await settle(*group);
  }
}

// The end of a group, when all of its members have done their work, or failed.
io::Task<void> JobList::settle(JobGroup& group) {
  if (!group.failed_) {
    bool waits = false;
    for (Job* job : group.members_) {
      change_status(*job, JobStatus::kPending);
      if (!job->settings_.auto_finalize) {
        waits = true;
        if (events_.pending) {
          events_.pending(*job);
        }
      }
    }
    if (waits) {
      static_cast<void>(co_await group.finalized_.wait(group.given_up_.token()));
    }
  }
  group.settling_ = true;
  const std::vector<Job*> members = std::exchange(group.members_, {});
  for (Job* job : members) {
    if (!group.failed_) {
      Result<void> prepared = co_await job->prepare();
      if (!prepared) {
        group.members_ = members;
        fail_job(*job, std::move(prepared.error()));
        group.members_.clear();
      }
    }
  }
  for (Job* job : members) {
    co_await end(*job, !group.failed_);
  }
}

io::Task<void> JobList::end(Job& job, bool well) {
  if (well) {
    co_await job.commit();
  } else {
    co_await job.abort();
  }
  co_await job.clean();
  if (events_.ended) {
    events_.ended(job);
  }
  change_status(job, JobStatus::kConcluded);
  if (job.settings_.auto_dismiss) {
    remove(job);
  }
}

// Whatever it comes from: the whole group fails.
void JobList::fail_job(Job& job, Error error) {
  if (!job.error_) {
    job.error_ = std::move(error);
    change_status(job, JobStatus::kAborting);
  }
  JobGroup& group = *job.group_;
  if (std::exchange(group.failed_, true)) {
    return;
  }
  group.given_up_.cancel();
  for (Job* other : group.members_) {
    if (other != &job) {
      cancel_now(*other);
    }
  }
}

void JobList::cancel_now(Job& job) {
  job.cancel_.cancel();
  job.wake_sleepers();
  if (job.ran_) {
    fail_job(job, Error::from_errno(ECANCELED));
  }
}

void JobList::change_status(Job& job, JobStatus status) {
  job.status_ = status;
  if (events_.status) {
    events_.status(job);
  }
}

void JobList::become_ready(Job& job) {
  change_status(job, JobStatus::kReady);
  if (events_.ready) {
    events_.ready(job);
  }
}

void JobList::remove(const Job& job) {
  const auto found = std::ranges::find(jobs_, &job, &std::unique_ptr<Job>::get);
  change_status(**found, JobStatus::kNull);
  jobs_.erase(found);
}

io::Task<void> JobList::close() {
  closing_ = true;
  for (const auto& job : jobs_) {
    const bool over = job->status_ == JobStatus::kConcluded || job->group_->settling_;
    if (!over && job->status_ != JobStatus::kCreated) {
      cancel_now(*job);
    }
  }
  co_await running_.join();
  // A job that was not started yet is its maker's.
  for (size_t i = jobs_.size(); i-- > 0;) {
    if (jobs_[i]->status_ == JobStatus::kConcluded) {
      remove(*jobs_[i]);
    }
  }
}

}  // namespace cairn::jobs
