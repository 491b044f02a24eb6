// Options of encrypted images that tools fill in for people.
#pragma once

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/json.h"

namespace cairn::tools {

// Of a qcow2 image, `options` may name the secret alone: how it is encrypted is read from the image
// that they describe. When it is not encrypted at all, the secret is left out. EINVAL for a way of
// encryption that there is none of.
[[nodiscard]] io::Task<Result<schema::JsonObject>> complete_encryption(block::Graph& graph,
                                                                       schema::JsonObject options);

}  // namespace cairn::tools
