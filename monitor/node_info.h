// What the monitor tells about nodes and the graph.
#pragma once

#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "io/task.h"
#include "schema/types_block_core.h"
#include "schema/types_block_info.h"
#include "schema/types_block_stats.h"

namespace cairn::jobs {
class JobList;
}

namespace cairn::monitor {

// `node`, which outlives the task, for query-named-block-nodes; `flat` leaves out the backing
// chain.
[[nodiscard]] io::Task<Result<schema::BlockDeviceInfo>> describe_node(const block::Node& node,
                                                                      bool flat);

// Counters of `node` and of what lies below it.
[[nodiscard]] schema::BlockStats describe_statistics(const block::Node& node);

[[nodiscard]] schema::XDbgBlockGraph describe_graph(const block::Graph& graph,
                                                    const jobs::JobList& jobs);

}  // namespace cairn::monitor
