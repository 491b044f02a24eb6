#include "monitor/find_node.h"

#include <algorithm>
#include <cerrno>

namespace cairn::monitor {

Result<std::shared_ptr<block::Node>> find_device_or_node(block::Graph& graph,
                                                         std::string_view device,
                                                         std::string_view node_name) {
  std::shared_ptr<block::Node> node = graph.find(node_name);
  if (node == nullptr) {
    return fail(ENODEV, "Cannot find device='{}' nor node-name='{}'", device, node_name);
  }
  return node;
}

Result<std::shared_ptr<block::Node>> find_root_node(block::Graph& graph, std::string_view name) {
  auto node = find_device_or_node(graph, name, name);
  const bool below = node && std::ranges::any_of((*node)->parents(), [](const block::Edge* user) {
                       return user->parent() != nullptr;
                     });
  if (below) {
    return fail(EINVAL, "Need a root block node");
  }
  return node;
}

Result<void> check_not_backing(const block::Node& node) {
  for (const block::Edge* user : node.parents()) {
    if (user->role() == block::ChildRole::kBacking && user->parent() != nullptr) {
      return fail(EBUSY, "Node '{}' is busy: node is used as backing hd of '{}'", node.name(),
                  user->parent()->name());
    }
  }
  return {};
}

}  // namespace cairn::monitor
