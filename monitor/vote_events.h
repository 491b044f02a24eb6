// What quorum nodes report, as events.
#pragma once

#include "block/vote_report.h"
#include "monitor/events.h"

namespace cairn::monitor {

void raise(EventHub& events, const block::VoteReport& report);

}  // namespace cairn::monitor
