// Overlays that take what is written to an image and vanish with the program.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/types_block_options.h"

namespace cairn::tools {

// Opens a new qcow2 image over `base`. Its file lies in $TMPDIR, or in /var/tmp, and has no name
// any more.
[[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_overlay(
    block::Graph& graph, std::shared_ptr<block::Node> base,
    schema::BlockdevDetectZeroesOptions detect_zeroes = schema::BlockdevDetectZeroesOptions::kOff);

}  // namespace cairn::tools
