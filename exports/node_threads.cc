#include "exports/node_threads.h"

#include <algorithm>
#include <cerrno>
#include <ranges>

namespace cairn::exports {

NodeThreads::Nodes NodeThreads::connected(const block::Node& node) {
  Nodes found{&node};
  std::vector<const block::Node*> to_look_at{&node};
  const auto reach = [&](const block::Node* other) {
    if (other != nullptr && found.insert(other).second) {
      to_look_at.push_back(other);
    }
  };
  while (!to_look_at.empty()) {
    const block::Node& next = *to_look_at.back();
    to_look_at.pop_back();
    for (const auto& child : next.children()) {
      reach(&child->node());
    }
    for (const block::Edge* parent : next.parents()) {
      reach(parent->parent());
    }
  }
  return found;
}

Thread NodeThreads::of(const Nodes& nodes) const {
  for (const Place& place : places_ | std::views::reverse) {
    const std::shared_ptr<block::Node> node = place.node.lock();
    if (node != nullptr && nodes.contains(node.get())) {
      return place.thread.lock();
    }
  }
  return nullptr;
}

bool NodeThreads::pinned(const Nodes& nodes) const {
  return std::ranges::any_of(
      pins_, [&nodes](const block::Edge* root) { return nodes.contains(&root->node()); });
}

Thread NodeThreads::of(const block::Node& node) const {
  return places_.empty() ? nullptr : of(connected(node));
}

Result<void> NodeThreads::move(const std::shared_ptr<block::Node>& node, const Thread& thread) {
  const Nodes nodes = connected(*node);
  if (of(nodes) == thread) {
    return {};
  }
  if (pinned(nodes)) {
    return fail(EPERM, "Cannot change iothread of active block backend");
  }
  std::erase_if(places_, [&nodes](const Place& place) {
    const std::shared_ptr<block::Node> other = place.node.lock();
    return other == nullptr || nodes.contains(other.get());
  });
  if (thread != nullptr) {
    places_.push_back({node, thread});
  }
  return {};
}

void NodeThreads::released(const std::shared_ptr<block::Node>& node) {
  // One that is pinned stays where it is.
  static_cast<void>(move(node, nullptr));
}

}  // namespace cairn::exports
