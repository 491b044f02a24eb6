// Creating the file, or taking the export, that a new image is made in.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "block/create_options.h"
#include "block/graph.h"
#include "io/task.h"

namespace cairn::block {

// The driver of what a new image at `filename` lies in: "nbd" for the names of exports
// (block/nbd_filename.h), and "file" for all others, which are paths.
[[nodiscard]] std::string_view creation_protocol(std::string_view filename);

// Makes the file, empty, or looks whether the export can take an image. Of the image's options only
// those that concern the file system are its own: size and preallocation are the format's affair.
// ENOTSUP where there is no driver for it.
[[nodiscard]] io::Task<Result<void>> create_file(Graph& graph, std::string filename,
                                                 const CreateOptions& options);

}  // namespace cairn::block
