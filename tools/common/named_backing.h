// Options for the backing file that an image names itself: a user says what is to be different
// about it ("backing.encrypt.key-secret=…"), and its name and format come from the image.
#pragma once

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/json.h"

namespace cairn::tools {

// `image` with the options of its backing file made whole: what they leave open of the file and of
// its format is what the image says. Options that describe another file are left as they are. The
// driver and the file of `image` are complete. EINVAL when the image names no backing file, and
// they do not describe one either.
[[nodiscard]] io::Task<Result<schema::JsonObject>> complete_backing(block::Graph& graph,
                                                                    schema::JsonObject image);

}  // namespace cairn::tools
