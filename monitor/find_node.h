// Finding the nodes that commands name, with the field's words for those that are not there.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/graph.h"

namespace cairn::monitor {

// There are no devices, so that `node_name` has to be it; messages name both.
[[nodiscard]] Result<std::shared_ptr<block::Node>> find_device_or_node(block::Graph& graph,
                                                                       std::string_view device,
                                                                       std::string_view node_name);

// A node that no other node uses, by a name that may be a device's or a node's.
[[nodiscard]] Result<std::shared_ptr<block::Node>> find_root_node(block::Graph& graph,
                                                                  std::string_view name);

// EBUSY when an image has the node as its backing file.
[[nodiscard]] Result<void> check_not_backing(const block::Node& node);

}  // namespace cairn::monitor
