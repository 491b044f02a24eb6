// Commands that change how nodes are used, or how they are connected.
#include <cerrno>
#include <memory>
#include <utility>

#include "block/activation.h"
#include "block/reopen.h"
#include "block/reopen_options.h"
#include "monitor/find_node.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

// A job may rely on what is behind an image.
Result<void> check_frozen(const Services& services, const schema::BlockdevOptions& options) {
  const auto node = services.graph.find(options.node_name.value_or(""));
  const block::Edge* backing = node != nullptr ? node->child("backing") : nullptr;
  if (backing == nullptr || !services.jobs.freezes(*node, backing->node())) {
    return {};
  }
  using Kind = block::ChildWish::Kind;
  const block::ChildWish wish = block::child_wish(options, "backing");
  const bool changes = wish.kind == Kind::kNull ||
                       (wish.kind == Kind::kName && *wish.name != backing->node().name());
  if (changes) {
    return fail(EPERM, "Cannot change frozen 'backing' link from '{}' to '{}'", node->name(),
                backing->node().name());
  }
  return {};
}

}  // namespace

HandlerResult<commands::BlockdevReopen> handle(Services& services, commands::BlockdevReopen,
                                               schema::BlockdevReopenArguments arguments) {
  const auto alone = co_await services.graph.alone();
  for (const schema::BlockdevOptions& options : arguments.options) {
    if (auto free = check_frozen(services, options); !free) {
      co_return free;
    }
  }
  co_return co_await block::reopen(services.graph, std::move(arguments.options));
}

HandlerResult<commands::BlockdevSetActive> handle(Services& services, commands::BlockdevSetActive,
                                                  schema::BlockdevSetActiveArguments arguments) {
  const auto alone = co_await services.graph.alone();
  block::Graph& graph = services.graph;
  Result<void> done;
  if (!arguments.node_name) {
    auto changing = arguments.active ? block::activate_all(graph) : block::inactivate_all(graph);
    done = co_await std::move(changing);
    co_return done;
  }
  std::shared_ptr<block::Node> node = graph.find(*arguments.node_name);
  if (node == nullptr) {
    co_return fail(ENOENT, "Failed to find node with node-name='{}'", *arguments.node_name);
  }
  auto changing = arguments.active ? block::activate(node) : block::inactivate(node);
  done = co_await std::move(changing);
  co_return done;
}

// No driver here has children that come and go.
HandlerResult<commands::XBlockdevChange> handle(Services& services, commands::XBlockdevChange,
                                                schema::XBlockdevChangeArguments arguments) {
  const auto parent = find_device_or_node(services.graph, arguments.parent, arguments.parent);
  if (!parent) {
    co_return std::unexpected(parent.error());
  }
  if (arguments.child.has_value() == arguments.node.has_value()) {
    co_return arguments.child ? fail(EINVAL, "The parameters child and node are in conflict")
                              : fail(EINVAL, "Either child or node must be specified");
  }
  if (arguments.child) {
    if ((*parent)->child(*arguments.child) == nullptr) {
      co_return fail(ENOENT, "Node '{}' does not have child '{}'", arguments.parent,
                     *arguments.child);
    }
    co_return fail(ENOTSUP, "The node {} does not support removing a child", arguments.parent);
  }
  if (services.graph.find(*arguments.node) == nullptr) {
    co_return fail(ENOENT, "Node '{}' not found", *arguments.node);
  }
  co_return fail(ENOTSUP, "The node {} does not support adding a child", arguments.parent);
}

}  // namespace cairn::monitor
