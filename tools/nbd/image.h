// The node that cairn-nbd serves: an image, or what the options make of it.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "tools/nbd/options.h"

namespace cairn::tools {

// Opens the image, a snapshot of it, an overlay over it, or a part of it. Others may do to the
// image what they like, but change its size. `options` outlives the task.
[[nodiscard]] io::Task<Result<std::unique_ptr<block::Edge>>> open_served(block::Graph& graph,
                                                                         const NbdOptions& options);

}  // namespace cairn::tools
