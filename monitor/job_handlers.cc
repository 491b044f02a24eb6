// Commands about jobs.
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

}  // namespace cairn::monitor
