// Opening the images of a copy past the host's cache (direct I/O), where what waits there could get
// this process killed.
#pragma once

#include <memory>

#include "block/graph.h"
#include "tools/common/image.h"
#include "tools/img/convert.h"

namespace cairn::tools {

// Whether a conversion goes past the cache as far as its user left the cache modes open: memory is
// limited for this process, and no bound for the cache was asked for.
[[nodiscard]] bool avoids_cache(const ConvertRequest& request);

// Opens an image that nobody else may write to meanwhile; if `past_cache`, with direct I/O, unless
// its files can not have that. The graph outlives the edge.
[[nodiscard]] io::Task<Result<std::unique_ptr<block::Edge>>> open_for_copy(block::Graph& graph,
                                                                           ImageName name,
                                                                           block::OpenFlags flags,
                                                                           bool past_cache);

}  // namespace cairn::tools
