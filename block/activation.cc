#include "block/activation.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "block/reopening.h"

namespace cairn::block {

namespace {

using Nodes = std::vector<std::shared_ptr<Node>>;

bool holds(const Nodes& nodes, const Node& node) {
  return std::ranges::any_of(nodes, [&node](const auto& one) { return one.get() == &node; });
}

bool refuses(const Edge& user) { return user.parent() == nullptr && !user.allows_inactive(); }

// The active nodes below `node` that only nodes of the set use, with it.
void add_given_up(Nodes& nodes, Node& node) {
  nodes.push_back(node.shared_from_this());
  for (const auto& edge : node.children()) {
    Node& child = edge->node();
    const bool ours = std::ranges::all_of(child.parents(), [&nodes](const Edge* user) {
      return user->parent() == nullptr ? user->allows_inactive()
                                       : !user->parent()->active() || holds(nodes, *user->parent());
    });
    if (child.active() && ours && !holds(nodes, child)) {
      add_given_up(nodes, child);
    }
  }
}

void add_taken_back(Nodes& nodes, Node& node) {
  if (node.active() || holds(nodes, node)) {
    return;
  }
  for (const auto& edge : node.children()) {
    add_taken_back(nodes, edge->node());
  }
  nodes.push_back(node.shared_from_this());
}

io::Task<Result<void>> set_active(Graph& graph, Nodes nodes, bool active) {
  using NewDriver = Reopening::NewDriver;
  Reopening reopening(graph);
  for (std::shared_ptr<Node>& node : nodes) {
    NodeOptions common = node->options();
    common.active = active;
    reopening.add({.node = node,
                   .options = node->opened_with(),
                   .common = common,
                   .driver = active ? NewDriver::kNewContent : NewDriver::kNever,
                   .takes_bitmaps = !active});
  }
  co_return co_await reopening.run();
}

}  // namespace

io::Task<Result<void>> inactivate(std::shared_ptr<Node> node) {
  if (!node->active()) {
    co_return Result<void>{};
  }
  for (const Edge* user : node->parents()) {
    if (user->parent() != nullptr && user->parent()->active()) {
      co_return fail(EPERM, "Node has active parent node");
    }
    if (refuses(*user)) {
      co_return fail_errno(EPERM, "Failed to inactivate node");
    }
  }
  Nodes nodes;
  add_given_up(nodes, *node);
  co_return co_await set_active(node->graph(), std::move(nodes), false);
}

io::Task<Result<void>> activate(std::shared_ptr<Node> node) {
  Nodes nodes;
  add_taken_back(nodes, *node);
  co_return co_await set_active(node->graph(), std::move(nodes), true);
}

io::Task<Result<void>> inactivate_all(Graph& graph) {
  Nodes nodes;
  for (Node* node : graph.nodes()) {
    if (std::ranges::any_of(node->parents(), [](const Edge* user) { return refuses(*user); })) {
      co_return fail_errno(EPERM, "Failed to inactivate all nodes");
    }
    if (node->active() && graph.find(node->name()) != nullptr) {
      nodes.push_back(node->shared_from_this());
    }
  }
  co_return co_await set_active(graph, std::move(nodes), false);
}

io::Task<Result<void>> activate_all(Graph& graph) {
  Nodes nodes;
  for (Node* node : graph.nodes()) {
    add_taken_back(nodes, *node);
  }
  co_return co_await set_active(graph, std::move(nodes), true);
}

}  // namespace cairn::block
