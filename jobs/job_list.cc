#include "jobs/job_list.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/identifier.h"

namespace cairn::jobs {
namespace {

using schema::JobStatus;

struct VerbRule {
  Verb verb;
  std::string_view name;
  std::initializer_list<JobStatus> allowed;
};

// Which state takes which command.
const VerbRule& rule_of(Verb verb) {
  static const VerbRule kRules[] = {
      {Verb::kCancel,
       "cancel",
       {JobStatus::kCreated, JobStatus::kRunning, JobStatus::kPaused, JobStatus::kReady,
        JobStatus::kStandby, JobStatus::kWaiting, JobStatus::kPending}},
      {Verb::kPause,
       "pause",
       {JobStatus::kCreated, JobStatus::kRunning, JobStatus::kPaused, JobStatus::kReady,
        JobStatus::kStandby}},
      {Verb::kResume,
       "resume",
       {JobStatus::kCreated, JobStatus::kRunning, JobStatus::kPaused, JobStatus::kReady,
        JobStatus::kStandby}},
      {Verb::kComplete, "complete", {JobStatus::kReady}},
      {Verb::kFinalize, "finalize", {JobStatus::kPending}},
      {Verb::kDismiss, "dismiss", {JobStatus::kConcluded}},
  };
  return *std::ranges::find(kRules, verb, &VerbRule::verb);
}

}  // namespace

JobList::~JobList() { assert(running_.running() == 0 && "close() first"); }

Result<void> JobList::check_id(std::string_view id) const {
  if (!is_identifier(id)) {
    return fail(EINVAL, "Invalid job ID '{}'", id);
  }
  if (std::ranges::any_of(jobs_, [id](const auto& job) { return job->id() == id; })) {
    return fail(EEXIST, "Job ID '{}' already in use", id);
  }
  return {};
}

void JobList::start(std::unique_ptr<Job> job) {
  assert(check_id(job->id()));
  job->list_ = this;
  jobs_.push_back(std::move(job));
  running_.spawn(lead(*jobs_.back()));
}

void JobList::change_status(Job& job, JobStatus status) {
  job.status_ = status;
  if (on_status_) {
    on_status_(job);
  }
}

io::Task<void> JobList::lead(Job& job) {
  change_status(job, JobStatus::kCreated);
  change_status(job, JobStatus::kRunning);
  Result<void> result = co_await job.run();
  if (result && !job.cancelled()) {
    change_status(job, JobStatus::kWaiting);
    change_status(job, JobStatus::kPending);
    if (!job.settings_.auto_finalize) {
      static_cast<void>(co_await job.finalized_.wait(job.cancel_.token()));
    }
    if (!job.cancelled()) {
      result = co_await job.commit();
    }
  }
  if (result && job.cancelled()) {
    result = std::unexpected(Error::from_errno(ECANCELED));
  }
  if (!result) {
    job.error_ = result.error();
    change_status(job, JobStatus::kAborting);
    co_await job.abort();
  }
  change_status(job, JobStatus::kConcluded);
  if (job.settings_.auto_dismiss) {
    remove(job);
  }
}

void JobList::remove(const Job& job) {
  const auto found = std::ranges::find(jobs_, &job, &std::unique_ptr<Job>::get);
  change_status(**found, JobStatus::kNull);
  jobs_.erase(found);
}

Result<Job*> JobList::find(std::string_view id, Verb verb) const {
  const auto found = std::ranges::find_if(jobs_, [id](const auto& job) { return job->id() == id; });
  if (found == jobs_.end()) {
    return fail(ENOENT, "Job not found");
  }
  Job& job = **found;
  const VerbRule& rule = rule_of(verb);
  if (std::ranges::find(rule.allowed, job.status()) == rule.allowed.end()) {
    return fail(EPERM, "Job '{}' in state '{}' cannot accept command verb '{}'", id,
                schema::to_string(job.status()), rule.name);
  }
  return &job;
}

Result<void> JobList::cancel(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kCancel);
  if (!job) {
    return std::unexpected(job.error());
  }
  (*job)->cancel_.cancel();
  return {};
}

Result<void> JobList::pause(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kPause);
  if (!job) {
    return std::unexpected(job.error());
  }
  if (!(*job)->resumed_.is_set()) {
    return fail(EBUSY, "Job is already paused");
  }
  (*job)->resumed_.reset();
  return {};
}

Result<void> JobList::resume(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kResume);
  if (!job) {
    return std::unexpected(job.error());
  }
  if ((*job)->resumed_.is_set()) {
    return fail(EINVAL, "Can't resume a job that was not paused");
  }
  (*job)->resumed_.set();
  return {};
}

Result<void> JobList::complete(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kComplete);
  if (!job) {
    return std::unexpected(job.error());
  }
  return (*job)->complete();
}

Result<void> JobList::finalize(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kFinalize);
  if (!job) {
    return std::unexpected(job.error());
  }
  (*job)->finalized_.set();
  return {};
}

Result<void> JobList::dismiss(std::string_view id) {
  const Result<Job*> job = find(id, Verb::kDismiss);
  if (!job) {
    return std::unexpected(job.error());
  }
  remove(**job);
  return {};
}

io::Task<void> JobList::close() {
  for (const auto& job : jobs_) {
    job->cancel_.cancel();
  }
  co_await running_.join();
  while (!jobs_.empty()) {
    remove(*jobs_.front());
  }
}

}  // namespace cairn::jobs
