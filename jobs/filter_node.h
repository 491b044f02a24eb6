// Filters that jobs put into the graph for as long as they run.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/driver_table.h"
#include "block/graph.h"
#include "block/graph_edit.h"
#include "block/node.h"
#include "io/task.h"
#include "jobs/job.h"

namespace cairn::jobs {

// Puts a filter between a node and its users. Whoever is to keep it attaches to it at once: it goes
// with its last user. Nothing has changed after a failure.
[[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> insert_filter(
    block::Graph& graph, std::shared_ptr<block::Node> below, block::NewFilter wanted,
    InDrain drain = InDrain::kNo);

// Takes it away again: its users, but for those that keep it for a job, use the node below it.
[[nodiscard]] io::Task<Result<void>> bypass_filter(block::Graph& graph,
                                                   std::shared_ptr<block::Node> filter,
                                                   InDrain drain = InDrain::kNo);

}  // namespace cairn::jobs
