// What a program does with an image before it goes on with what another one has left of it.
#pragma once

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "tools/common/image.h"

namespace cairn::tools {

// Checks the image, as far as its format can be checked, and frees what is in use by nothing. EIO
// when it is damaged. Opens it for this alone: a repair is no state to go on from.
[[nodiscard]] io::Task<Result<void>> repair_leaks(block::Graph& graph, ImageName name,
                                                  block::OpenFlags flags);

}  // namespace cairn::tools
