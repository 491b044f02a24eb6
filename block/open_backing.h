// Opens the backing child of a format's node.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/types_block_options.h"

namespace cairn::block {

// The backing image that options want, or else the one that the image itself names; `filename` is
// empty when it names none. Null for none. `wanted` outlives the task.
[[nodiscard]] io::Task<Result<Edge*>> open_backing(
    OpenContext& context, const std::optional<schema::BlockdevRefOrNull>& wanted,
    std::string filename, std::string format);

}  // namespace cairn::block
