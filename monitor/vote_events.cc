#include "monitor/vote_events.h"

#include "schema/commands.h"

namespace cairn::monitor {

namespace {

schema::QuorumOpType type_of(block::VoteReport::Request request) {
  switch (request) {
    case block::VoteReport::Request::kRead:
      return schema::QuorumOpType::kRead;
    case block::VoteReport::Request::kWrite:
      return schema::QuorumOpType::kWrite;
    case block::VoteReport::Request::kFlush:
      break;
  }
  return schema::QuorumOpType::kFlush;
}

}  // namespace

void raise(EventHub& events, const block::VoteReport& report) {
  if (!report.about_child) {
    schema::QuorumFailureEvent data;
    data.reference = report.node_name;
    data.sector_num = static_cast<int64_t>(report.first_sector);
    data.sectors_count = static_cast<int64_t>(report.sectors);
    events.raise<schema::events::QuorumFailure>(data);
    return;
  }
  schema::QuorumReportBadEvent data;
  data.type = type_of(report.request);
  if (!report.error.empty()) {
    data.error = report.error;
  }
  data.node_name = report.node_name;
  data.sector_num = static_cast<int64_t>(report.first_sector);
  data.sectors_count = static_cast<int64_t>(report.sectors);
  events.raise<schema::events::QuorumReportBad>(data);
}

}  // namespace cairn::monitor
