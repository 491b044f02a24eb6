// Creating LUKS volumes.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "block/create_options.h"
#include "block/driver_table.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
class Graph;
class Node;
}  // namespace cairn::block

namespace cairn::luks {

// What `-o` takes, in the order in which it is announced, and what amend takes.
[[nodiscard]] std::span<const block::CreateOptionInfo> create_option_table();
[[nodiscard]] std::span<const block::CreateOptionInfo> amend_option_table();

// Creates a volume in a file, which is created as well: header and disk, or, with the option
// `detached-header`, the header alone. The file is removed again when that fails and it was not
// there before.
[[nodiscard]] io::Task<Result<void>> create_volume(block::Graph& graph, std::string filename,
                                                   const block::CreateOptions& options);
// Creates a volume on nodes: `file` takes the header, and the disk as well unless there is the
// option `detached-header`; then `disk`, if it is not null, takes that. The nodes are closed
// afterwards unless somebody else holds them.
[[nodiscard]] io::Task<Result<void>> create_volume_on(block::Graph& graph,
                                                      std::shared_ptr<block::Node> file,
                                                      std::shared_ptr<block::Node> disk,
                                                      const block::CreateOptions& options);
// DriverInfo::measure: the disk and its header.
[[nodiscard]] io::Task<Result<block::MeasuredSize>> measure_volume(
    const block::CreateOptions& options, block::Edge* source);

}  // namespace cairn::luks
