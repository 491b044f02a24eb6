// Commands about jobs.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jobs/amend_job.h"
#include "jobs/create_job.h"
#include "jobs/job_list.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

HandlerResult<commands::QueryJobs> handle(Services& services, commands::QueryJobs,
                                          schema::NoArguments) {
  std::vector<schema::JobInfo> answer;
  for (const auto& job : services.jobs.jobs()) {
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

// None of the jobs there are so far works on a device that somebody uses.
HandlerResult<commands::QueryBlockJobs> handle(Services&, commands::QueryBlockJobs,
                                               schema::NoArguments) {
  co_return std::vector<schema::BlockJobInfo>();
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

// The commands for jobs that work on a block device, of which there are none to find yet.
namespace {

std::unexpected<Error> no_block_job(std::string_view id) {
  Error error(ESRCH, fmt::format("Block job '{}' not found", id), ErrorClass::kDeviceNotActive);
  return std::unexpected(std::move(error));
}

}  // namespace

HandlerResult<commands::BlockJobSetSpeed> handle(Services&, commands::BlockJobSetSpeed,
                                                 schema::BlockJobSetSpeedArguments arguments) {
  co_return no_block_job(arguments.device);
}

HandlerResult<commands::BlockJobCancel> handle(Services&, commands::BlockJobCancel,
                                               schema::BlockJobCancelArguments arguments) {
  co_return no_block_job(arguments.device);
}

HandlerResult<commands::BlockJobPause> handle(Services&, commands::BlockJobPause,
                                              schema::BlockJobPauseArguments arguments) {
  co_return no_block_job(arguments.device);
}

HandlerResult<commands::BlockJobResume> handle(Services&, commands::BlockJobResume,
                                               schema::BlockJobResumeArguments arguments) {
  co_return no_block_job(arguments.device);
}

HandlerResult<commands::BlockJobComplete> handle(Services&, commands::BlockJobComplete,
                                                 schema::BlockJobCompleteArguments arguments) {
  co_return no_block_job(arguments.device);
}

HandlerResult<commands::BlockJobDismiss> handle(Services&, commands::BlockJobDismiss,
                                                schema::BlockJobDismissArguments arguments) {
  co_return no_block_job(arguments.id);
}

HandlerResult<commands::BlockJobFinalize> handle(Services&, commands::BlockJobFinalize,
                                                 schema::BlockJobFinalizeArguments arguments) {
  co_return no_block_job(arguments.id);
}

}  // namespace cairn::monitor
