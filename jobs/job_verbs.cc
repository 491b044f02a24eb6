#include "jobs/job_verbs.h"

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <string_view>

namespace cairn::jobs {
namespace {

using schema::JobStatus;

constexpr std::initializer_list<JobStatus> kAlive = {JobStatus::kCreated, JobStatus::kRunning,
                                                     JobStatus::kPaused, JobStatus::kReady,
                                                     JobStatus::kStandby};

struct VerbRule {
  Verb verb;
  std::string_view name;
  std::initializer_list<JobStatus> allowed;
};

constexpr VerbRule kRules[] = {
    {Verb::kCancel,
     "cancel",
     {JobStatus::kCreated, JobStatus::kRunning, JobStatus::kPaused, JobStatus::kReady,
      JobStatus::kStandby, JobStatus::kWaiting, JobStatus::kPending}},
    {Verb::kPause, "pause", kAlive},
    {Verb::kResume, "resume", kAlive},
    {Verb::kSetSpeed, "set-speed", kAlive},
    {Verb::kComplete, "complete", {JobStatus::kReady, JobStatus::kStandby}},
    {Verb::kFinalize, "finalize", {JobStatus::kPending}},
    {Verb::kDismiss, "dismiss", {JobStatus::kConcluded}},
    {Verb::kChange, "change", kAlive},
};

}  // namespace

Result<void> check_verb(const Job& job, Verb verb) {
  const VerbRule& rule = *std::ranges::find(kRules, verb, &VerbRule::verb);
  if (std::ranges::find(rule.allowed, job.status()) == rule.allowed.end()) {
    return fail(EPERM, "Job '{}' in state '{}' cannot accept command verb '{}'", job.id(),
                schema::to_string(job.status()), rule.name);
  }
  return {};
}

}  // namespace cairn::jobs
