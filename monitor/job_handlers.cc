// Commands about jobs.
#include <cerrno>
#include <memory>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "jobs/amend_job.h"
#include "jobs/block_job.h"
#include "jobs/create_job.h"
#include "jobs/job_list.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

auto newest_first(const Services& services) { return std::views::reverse(services.jobs.jobs()); }

schema::BlockJobInfo describe(const jobs::BlockJob& job) {
  schema::BlockJobInfo info;
  info.type = job.type();
  info.device = job.id();
  info.len = static_cast<int64_t>(job.total());
  info.offset = static_cast<int64_t>(job.done());
  info.busy = job.busy();
  info.paused = job.pause_wanted();
  info.speed = static_cast<int64_t>(job.speed());
  info.io_status = job.io_status();
  info.ready = job.ready();
  info.status = job.status();
  info.auto_finalize = job.settings().auto_finalize;
  info.auto_dismiss = job.settings().auto_dismiss;
  if (job.error()) {
    info.error = job.error()->message();
  }
  if (job.type() == schema::JobType::kMirror) {
    info.branch = schema::BlockJobInfoMirror{.actively_synced = job.actively_synced()};
  }
  return info;
}

Result<void> check_block_job(const Services& services, std::string_view id) {
  if (services.jobs.find_block_job(id) == nullptr) {
    Error error(ESRCH, fmt::format("Block job '{}' not found", id), ErrorClass::kDeviceNotActive);
    return std::unexpected(std::move(error));
  }
  return {};
}

}  // namespace

HandlerResult<commands::QueryJobs> handle(Services& services, commands::QueryJobs,
                                          schema::NoArguments) {
  std::vector<schema::JobInfo> answer;
  for (const auto& job : newest_first(services)) {
    schema::JobInfo info;
    info.id = job->id();
    info.type = job->type();
    info.status = job->status();
    info.current_progress = static_cast<int64_t>(job->done());
    info.total_progress = static_cast<int64_t>(job->total());
    if (job->error()) {
      info.error = job->error()->message();
    }
    answer.push_back(std::move(info));
  }
  co_return answer;
}

HandlerResult<commands::QueryBlockJobs> handle(Services& services, commands::QueryBlockJobs,
                                               schema::NoArguments) {
  std::vector<schema::BlockJobInfo> answer;
  for (const auto& job : newest_first(services)) {
    if (const auto* block_job = dynamic_cast<const jobs::BlockJob*>(job.get())) {
      answer.push_back(describe(*block_job));
    }
  }
  co_return answer;
}

HandlerResult<commands::JobPause> handle(Services& services, commands::JobPause,
                                         schema::JobPauseArguments arguments) {
  co_return services.jobs.pause(arguments.id);
}

HandlerResult<commands::JobResume> handle(Services& services, commands::JobResume,
                                          schema::JobResumeArguments arguments) {
  co_return services.jobs.resume(arguments.id);
}

HandlerResult<commands::JobCancel> handle(Services& services, commands::JobCancel,
                                          schema::JobCancelArguments arguments) {
  co_return services.jobs.cancel(arguments.id);
}

HandlerResult<commands::JobComplete> handle(Services& services, commands::JobComplete,
                                            schema::JobCompleteArguments arguments) {
  co_return services.jobs.complete(arguments.id);
}

HandlerResult<commands::JobDismiss> handle(Services& services, commands::JobDismiss,
                                           schema::JobDismissArguments arguments) {
  co_return services.jobs.dismiss(arguments.id);
}

HandlerResult<commands::JobFinalize> handle(Services& services, commands::JobFinalize,
                                            schema::JobFinalizeArguments arguments) {
  co_return services.jobs.finalize(arguments.id);
}

HandlerResult<commands::BlockdevCreate> handle(Services& services, commands::BlockdevCreate,
                                               schema::BlockdevCreateArguments arguments) {
  Result<void> possible = jobs::CreateJob::check_driver(services.graph, arguments.options.driver);
  if (possible) {
    possible = services.jobs.check_id(arguments.job_id);
  }
  if (!possible) {
    co_return possible;
  }
  jobs::JobSettings settings{
      .id = std::move(arguments.job_id), .type = schema::JobType::kCreate, .auto_dismiss = false};
  services.jobs.start(std::make_unique<jobs::CreateJob>(std::move(settings), services.graph,
                                                        std::move(arguments.options)));
  co_return Result<void>{};
}

HandlerResult<commands::XBlockdevAmend> handle(Services& services, commands::XBlockdevAmend,
                                               schema::XBlockdevAmendArguments arguments) {
  const std::shared_ptr<block::Node> node = services.graph.find(arguments.node_name);
  if (!node) {
    co_return fail(ENODEV, "Cannot find device='' nor node-name='{}'", arguments.node_name);
  }
  if (schema::to_string(arguments.options.driver) != node->info().name) {
    co_return fail(ENOTSUP, "x-blockdev-amend doesn't support changing the block driver");
  }
  if (!jobs::AmendJob::possible(arguments.options)) {
    co_return fail(ENOTSUP, "Driver does not support x-blockdev-amend");
  }
  if (Result<void> possible = services.jobs.check_id(arguments.job_id); !possible) {
    co_return possible;
  }
  jobs::JobSettings settings{
      .id = std::move(arguments.job_id), .type = schema::JobType::kAmend, .auto_dismiss = false};
  services.jobs.start(std::make_unique<jobs::AmendJob>(std::move(settings), services.graph, node,
                                                       std::move(arguments.options),
                                                       arguments.force.value_or(false)));
  co_return Result<void>{};
}

// The older commands, for jobs that work on block devices alone.

HandlerResult<commands::BlockJobSetSpeed> handle(Services& services, commands::BlockJobSetSpeed,
                                                 schema::BlockJobSetSpeedArguments arguments) {
  if (auto found = check_block_job(services, arguments.device); !found) {
    co_return found;
  }
  co_return services.jobs.set_speed(arguments.device, arguments.speed);
}

HandlerResult<commands::BlockJobCancel> handle(Services& services, commands::BlockJobCancel,
                                               schema::BlockJobCancelArguments arguments) {
  if (auto found = check_block_job(services, arguments.device); !found) {
    co_return found;
  }
  const bool force = arguments.force.value_or(false);
  if (services.jobs.find(arguments.device)->pause_wanted() && !force) {
    co_return fail(EBUSY, "The block job for device '{}' is currently paused", arguments.device);
  }
  co_return services.jobs.cancel(arguments.device, force);
}

HandlerResult<commands::BlockJobPause> handle(Services& services, commands::BlockJobPause,
                                              schema::BlockJobPauseArguments arguments) {
  Result<void> found = check_block_job(services, arguments.device);
  co_return found ? services.jobs.pause(arguments.device) : std::move(found);
}

HandlerResult<commands::BlockJobResume> handle(Services& services, commands::BlockJobResume,
                                               schema::BlockJobResumeArguments arguments) {
  Result<void> found = check_block_job(services, arguments.device);
  co_return found ? services.jobs.resume(arguments.device) : std::move(found);
}

HandlerResult<commands::BlockJobComplete> handle(Services& services, commands::BlockJobComplete,
                                                 schema::BlockJobCompleteArguments arguments) {
  Result<void> found = check_block_job(services, arguments.device);
  co_return found ? services.jobs.complete(arguments.device) : std::move(found);
}

HandlerResult<commands::BlockJobDismiss> handle(Services& services, commands::BlockJobDismiss,
                                                schema::BlockJobDismissArguments arguments) {
  Result<void> found = check_block_job(services, arguments.id);
  co_return found ? services.jobs.dismiss(arguments.id) : std::move(found);
}

HandlerResult<commands::BlockJobFinalize> handle(Services& services, commands::BlockJobFinalize,
                                                 schema::BlockJobFinalizeArguments arguments) {
  Result<void> found = check_block_job(services, arguments.id);
  co_return found ? services.jobs.finalize(arguments.id) : std::move(found);
}

HandlerResult<commands::BlockJobChange> handle(Services& services, commands::BlockJobChange,
                                               schema::BlockJobChangeOptions options) {
  Result<void> found = check_block_job(services, options.id);
  co_return found ? services.jobs.change(options) : std::move(found);
}

}  // namespace cairn::monitor
