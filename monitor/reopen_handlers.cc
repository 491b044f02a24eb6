// Commands that change how nodes are used, or how they are connected.
#include <cerrno>
#include <memory>
#include <utility>

#include "block/activation.h"
#include "block/graph_edit.h"
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

namespace {

// Carries out an edit of the children of `parent`, which outlives the task.
io::Task<Result<void>> settle_children(block::GraphEdit& edit, block::Node& parent) {
  if (auto prepared = edit.prepare(); !prepared) {
    co_return prepared;
  }
  Result<void> done = co_await edit.commit();
  parent.driver().children_changed();
  co_return done;
}

}  // namespace

HandlerResult<commands::XBlockdevChange> handle(Services& services, commands::XBlockdevChange,
                                                schema::XBlockdevChangeArguments arguments) {
  const auto alone = co_await services.graph.alone();
  const auto parent = find_device_or_node(services.graph, arguments.parent, arguments.parent);
  if (!parent) {
    co_return std::unexpected(parent.error());
  }
  if (arguments.child.has_value() == arguments.node.has_value()) {
    co_return arguments.child ? fail(EINVAL, "The parameters child and node are in conflict")
                              : fail(EINVAL, "Either child or node must be specified");
  }
  const std::shared_ptr<block::Node> node = *parent;
  block::GraphEdit edit(services.graph);
  Result<void> done;
  if (arguments.child) {
    block::Edge* const child = node->child(*arguments.child);
    if (child == nullptr) {
      co_return fail(ENOENT, "Node '{}' does not have child '{}'", arguments.parent,
                     *arguments.child);
    }
    if (auto allowed = node->driver().may_remove_child(*child); !allowed) {
      co_return allowed;
    }
    edit.remove_child(*child);
    done = co_await settle_children(edit, *node);
    co_return done;
  }
  std::shared_ptr<block::Node> added = services.graph.find(*arguments.node);
  if (added == nullptr) {
    co_return fail(ENOENT, "Node '{}' not found", *arguments.node);
  }
  Result<std::string> name = node->driver().name_new_child();
  if (!name) {
    co_return pass(name);
  }
  if (!added->parents().empty()) {
    co_return fail(EINVAL, "The node {} already has a parent", *arguments.node);
  }
  done = edit.add_child(*node, std::move(*name), std::move(added), block::ChildRole::kData);
  if (done) {
    done = co_await settle_children(edit, *node);
  }
  co_return done;
}

}  // namespace cairn::monitor
