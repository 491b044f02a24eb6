// "Creating" an image in an export: the server has made the space, and nothing here makes more.
#pragma once

#include <string>

#include "base/result.h"
#include "block/create_options.h"
#include "io/task.h"

namespace cairn::block {
class Graph;
}

namespace cairn::nbd::client {

// Makes the export at `filename` ready for a new image of `size` bytes at most: its first 512 bytes
// become zeroes, so that nothing takes it for what it was. The rest keeps what it holds. ENOTSUP
// where it is smaller and for a preallocation; else what opening or writing it fails with.
[[nodiscard]] io::Task<Result<void>> create_in_export(block::Graph& graph, std::string filename,
                                                      const block::CreateOptions& options);

}  // namespace cairn::nbd::client
