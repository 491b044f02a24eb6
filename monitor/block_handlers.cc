// Commands about nodes.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <ranges>
#include <string>
#include <utility>

#include "monitor/handlers.h"
#include "monitor/node_info.h"
#include "monitor/setup.h"

namespace cairn::monitor {

namespace {

// Somebody outside the graph uses it, other than the jobs that keep it.
bool has_other_users(const block::Node& node) {
  return std::ranges::any_of(node.parents(), [](const block::Edge* user) {
    return user->parent() == nullptr && user->name() == "root";
  });
}

}  // namespace

// Nodes are no devices of a virtual machine, and there is no machine.
HandlerResult<commands::QueryBlock> handle(Services&, commands::QueryBlock, schema::NoArguments) {
  co_return std::vector<schema::BlockInfo>();
}

HandlerResult<commands::QueryBlockstats> handle(Services& services, commands::QueryBlockstats,
                                                schema::QueryBlockstatsArguments arguments) {
  std::vector<schema::BlockStats> result;
  if (arguments.query_nodes.value_or(false)) {
    for (const block::Node* node : services.graph.nodes()) {
      result.push_back(describe_statistics(*node));
    }
  }
  co_return result;
}

HandlerResult<commands::QueryNamedBlockNodes> handle(
    Services& services, commands::QueryNamedBlockNodes,
    schema::QueryNamedBlockNodesArguments arguments) {
  const bool flat = arguments.flat.value_or(false);
  // Held, since the graph may change while one of them is being described.
  std::vector<std::shared_ptr<block::Node>> nodes;
  for (block::Node* node : services.graph.nodes() | std::views::reverse) {  // the newest first
    nodes.push_back(node->shared_from_this());
  }
  std::vector<schema::BlockDeviceInfo> result;
  for (const auto& node : nodes) {
    Result<schema::BlockDeviceInfo> info = co_await describe_node(*node, flat);
    if (!info) {
      co_return pass(info);
    }
    result.push_back(std::move(*info));
  }
  co_return result;
}

HandlerResult<commands::XDebugQueryBlockGraph> handle(Services& services,
                                                      commands::XDebugQueryBlockGraph,
                                                      schema::NoArguments) {
  co_return describe_graph(services.graph, services.jobs);
}

HandlerResult<commands::BlockdevAdd> handle(Services& services, commands::BlockdevAdd,
                                            schema::BlockdevOptions options) {
  Result<void> added = co_await add_node(services, options);
  co_return added;
}

HandlerResult<commands::BlockdevDel> handle(Services& services, commands::BlockdevDel,
                                            schema::BlockdevDelArguments arguments) {
  const std::shared_ptr<block::Node> node = services.graph.find(arguments.node_name);
  if (node && !has_other_users(*node)) {
    if (auto free = services.jobs.check_free(*node); !free) {
      co_return free;
    }
  }
  Result<void> removed = co_await services.graph.remove_monitor_node(arguments.node_name);
  co_return removed;
}

HandlerResult<commands::BlockResize> handle(Services& services, commands::BlockResize,
                                            schema::BlockResizeArguments arguments) {
  const std::string device = arguments.device.value_or("");
  const std::string name = arguments.node_name.value_or("");
  // There are no devices here, so that it can only be the name of a node.
  std::shared_ptr<block::Node> node = services.graph.find(name);
  if (!node) {
    co_return fail(ENODEV, "Cannot find device='{}' nor node-name='{}'", device, name);
  }
  if (arguments.size < 0) {
    co_return fail(EINVAL, "Parameter 'size' expects a >0 size");
  }
  if (auto free = services.jobs.check_free(*node); !free) {
    co_return free;
  }
  const bool read_only = node->read_only();
  const block::Permissions wanted{.used = block::PermissionSet::kResize};
  auto root = services.graph.attach(std::move(node), "", wanted);
  if (!root) {
    co_return pass(root);
  }
  block::ResizeOptions options;
  Result<void> resized;
  if (read_only) {
    resized = fail(EACCES, "Image is read-only");
  } else {
    resized = co_await (*root)->resize(static_cast<uint64_t>(arguments.size), options);
  }
  Result<void> detached = co_await services.graph.detach(std::move(*root));
  co_return resized ? std::move(detached) : std::move(resized);
}

HandlerResult<commands::BlockSetWriteThreshold> handle(
    Services& services, commands::BlockSetWriteThreshold,
    schema::BlockSetWriteThresholdArguments arguments) {
  const std::shared_ptr<block::Node> node = services.graph.find(arguments.node_name);
  if (!node) {
    co_return fail(ENODEV, "Device '{}' not found", arguments.node_name);
  }
  node->set_write_threshold(arguments.write_threshold);
  co_return Result<void>();
}

}  // namespace cairn::monitor
