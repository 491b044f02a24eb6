#include "monitor/job_events.h"

#include <cstdint>

#include "jobs/block_job.h"
#include "schema/commands.h"

namespace cairn::monitor {

namespace {

// What the events of block jobs have in common.
template <typename Event>
typename Event::Data describe_progress(const jobs::BlockJob& job) {
  typename Event::Data data;
  data.type = job.type();
  data.device = job.id();
  data.len = static_cast<int64_t>(job.total());
  data.offset = static_cast<int64_t>(job.done());
  data.speed = static_cast<int64_t>(job.speed());
  return data;
}

const jobs::BlockJob* as_block_job(const jobs::Job& job) {
  return dynamic_cast<const jobs::BlockJob*>(&job);
}

void tell_end(EventHub& events, const jobs::BlockJob& job) {
  if (job.cancelled()) {
    events.raise<schema::events::BlockJobCancelled>(
        describe_progress<schema::events::BlockJobCancelled>(job));
    return;
  }
  auto data = describe_progress<schema::events::BlockJobCompleted>(job);
  if (job.error()) {
    data.error = job.error()->message();
  }
  events.raise<schema::events::BlockJobCompleted>(data);
}

}  // namespace

jobs::JobEvents make_job_events(EventHub& events) {
  jobs::JobEvents result;
  result.status = [&events](const jobs::Job& job) {
    schema::JobStatusChangeEvent data;
    data.id = job.id();
    data.status = job.status();
    events.raise<schema::events::JobStatusChange>(data);
  };
  result.ready = [&events](const jobs::Job& job) {
    if (const auto* block_job = as_block_job(job)) {
      events.raise<schema::events::BlockJobReady>(
          describe_progress<schema::events::BlockJobReady>(*block_job));
    }
  };
  result.pending = [&events](const jobs::Job& job) {
    if (as_block_job(job) != nullptr) {
      schema::BlockJobPendingEvent data;
      data.type = job.type();
      data.id = job.id();
      events.raise<schema::events::BlockJobPending>(data);
    }
  };
  result.ended = [&events](const jobs::Job& job) {
    if (const auto* block_job = as_block_job(job)) {
      tell_end(events, *block_job);
    }
  };
  result.error = [&events](const jobs::BlockJob& job, schema::IoOperationType operation,
                           schema::BlockErrorAction action) {
    schema::BlockJobErrorEvent data;
    data.device = job.id();
    data.operation = operation;
    data.action = action;
    events.raise<schema::events::BlockJobError>(data);
  };
  return result;
}

}  // namespace cairn::monitor
