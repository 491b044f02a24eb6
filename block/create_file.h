// Creating the file that takes a new image.
#pragma once

#include <string>

#include "base/result.h"
#include "block/create_options.h"
#include "block/graph.h"
#include "io/task.h"

namespace cairn::block {

// Makes the file, empty. Of the image's options only those that concern the file system are its
// own: size and preallocation are the format's affair. ENOTSUP where there is no driver for files.
[[nodiscard]] io::Task<Result<void>> create_file(Graph& graph, std::string filename,
                                                 const CreateOptions& options);

}  // namespace cairn::block
