// The events that tell of jobs.
#pragma once

#include "jobs/job_list.h"
#include "monitor/events.h"

namespace cairn::monitor {

// `events` outlives the list that they are given to.
[[nodiscard]] jobs::JobEvents make_job_events(EventHub& events);

}  // namespace cairn::monitor
