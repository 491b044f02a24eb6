// NodeThreads: which I/O thread each node belongs to. Nodes that are connected belong together, as
// with the peer. Nodes themselves stay at home: it is exports without a thread of their own that
// are served on their node's.
//
// Invariants
// - A node belongs to one thread, or to home; one whose thread has gone belongs to home.
// - While an export has pinned a node, it and all that is connected to it stay with their thread.
#pragma once

#include <memory>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "block/node.h"
#include "io/reactor.h"

namespace cairn::exports {

// Null: home.
using Thread = std::shared_ptr<io::Reactor>;

class NodeThreads {
 public:
  [[nodiscard]] Thread of(const block::Node& node) const;

  // Fails when the node belongs to another thread and is pinned.
  [[nodiscard]] Result<void> move(const std::shared_ptr<block::Node>& node, const Thread& thread);

  // From the one to the other the node behind the edge does not move.
  void pin(const block::Edge& root) { pins_.push_back(&root); }
  void unpin(const block::Edge& root) { std::erase(pins_, &root); }

  // An export does not use the node any more: it goes home, if it may.
  void released(const std::shared_ptr<block::Node>& node);

 private:
  using Nodes = std::unordered_set<const block::Node*>;

  // One of the connected nodes that belong to a thread.
  struct Place {
    std::weak_ptr<block::Node> node;
    std::weak_ptr<io::Reactor> thread;
  };

  [[nodiscard]] static Nodes connected(const block::Node& node);
  [[nodiscard]] Thread of(const Nodes& nodes) const;
  [[nodiscard]] bool pinned(const Nodes& nodes) const;

  std::vector<Place> places_;  // the youngest last
  std::vector<const block::Edge*> pins_;
};

}  // namespace cairn::exports
