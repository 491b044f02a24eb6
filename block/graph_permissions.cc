// Permissions of the graph: computed from the roots down, checked, applied as one. They follow from
// those of the parents, so that a change at one node concerns that node and what lies below it.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <unordered_map>
#include <unordered_set>

#include "block/graph.h"
#include "block/request_scope.h"

namespace cairn::block {

// The permissions that a change would give every edge, and the leaves that agreed so far.
struct Graph::Proposal {
  std::unordered_map<const Edge*, Permissions> edges;
  std::vector<Driver*> prepared;
};

namespace {

// A node and what lies below it.
std::vector<Node*> with_descendants(Node& top) {
  std::vector<Node*> found = {&top};
  std::unordered_set<const Node*> seen = {&top};
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const auto& edge : found[i]->children()) {
      if (seen.insert(&edge->node()).second) {
        found.push_back(&edge->node());
      }
    }
  }
  return found;
}

// Every node after all of its parents that are among them.
std::vector<Node*> parents_first(const std::vector<Node*>& nodes) {
  const std::unordered_set<const Node*> concerned(nodes.begin(), nodes.end());
  std::unordered_map<const Node*, std::size_t> missing_parents;
  std::vector<Node*> order;
  order.reserve(nodes.size());
  for (Node* node : nodes) {
    const auto inner = std::ranges::count_if(
        node->parents(), [&](const Edge* edge) { return concerned.contains(edge->parent()); });
    missing_parents[node] = static_cast<std::size_t>(inner);
    if (inner == 0) {
      order.push_back(node);
    }
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (const auto& edge : order[i]->children()) {
      if (--missing_parents[&edge->node()] == 0) {
        order.push_back(&edge->node());
      }
    }
  }
  return order;
}

}  // namespace

Result<void> Graph::propose(Node& node, Proposal& proposal) const {
  Permissions together{.used = PermissionSet::none(), .shared = PermissionSet::all()};
  for (const Edge* edge : node.parents()) {
    if (!node.active()) {
      proposal.edges.at(edge) = together;  // nobody has a use for it
    }
  }
  for (const Edge* edge : node.parents()) {
    const Permissions mine = proposal.edges.at(edge);
    for (const Edge* other : node.parents()) {
      const PermissionSet refused = mine.used.without(proposal.edges.at(other).shared);
      if (other != edge && !refused.empty()) {
        return fail(EPERM,
                    "Permission conflict on node '{}': permissions '{}' are both required by {} "
                    "and unshared by {}.",
                    node.name(), refused.to_string(), edge->describe(), other->describe());
      }
    }
    together.used |= mine.used;
    together.shared &= mine.shared;
  }
  const bool changes =
      together.used.has(PermissionSet::kWrite) || together.used.has(PermissionSet::kWriteUnchanged);
  if (changes && node.read_only()) {
    return node.becomes_read_only_
               ? fail(EPERM, "Read-only block node '{}' cannot support read-write users",
                      node.name())
               : fail(EPERM, "Block node is read-only");
  }
  for (const auto& edge : node.children()) {
    if (!node.active()) {
      proposal.edges[edge.get()] = {};
      continue;
    }
    if (!edge->node().active()) {
      return fail(EPERM, "Node '{}' is inactive and can not be used by node '{}', which is active",
                  edge->node().name(), node.name());
    }
    const bool writable = !node.read_only();
    proposal.edges[edge.get()] =
        node.driver_ != nullptr ? node.driver_->child_permissions(edge->role(), together, writable)
                                : default_child_permissions(edge->role(), together, writable);
  }
  if (node.driver_ != nullptr) {
    if (auto ok = node.driver_->prepare_permissions(together); !ok) {
      return ok;
    }
    proposal.prepared.push_back(node.driver_.get());
  }
  return {};
}

Result<void> Graph::refresh_permissions(Node* top, const Edge* root, Permissions proposed) {
  const std::vector<Node*> concerned = top != nullptr ? with_descendants(*top) : nodes_;
  Proposal proposal;
  // What is above them stays; edges within are proposed anew before they are looked at.
  for (const Node* node : concerned) {
    for (const Edge* edge : node->parents()) {
      if (edge->parent() == nullptr) {
        proposal.edges[edge] = edge == root ? proposed : edge->wanted_;
      } else {
        proposal.edges[edge] = edge->permissions();
      }
    }
  }
  Result<void> result;
  for (Node* node : parents_first(concerned)) {
    result = propose(*node, proposal);
    if (!result) {
      break;
    }
  }
  if (!result) {
    for (auto driver = proposal.prepared.rbegin(); driver != proposal.prepared.rend(); ++driver) {
      (*driver)->abort_permissions();
    }
    return result;
  }
  for (Driver* driver : proposal.prepared) {
    driver->commit_permissions();
  }
  for (Node* node : concerned) {
    for (Edge* edge : node->parents_) {
      edge->permissions_ = proposal.edges.at(edge);
      if (edge == root) {
        edge->wanted_ = proposed;
      }
    }
  }
  return {};
}

void Graph::loosen_permissions(Node* top) {
  // Fewer edges need fewer permissions. Should a leaf fail to give one up, it keeps it.
  [[maybe_unused]] const Result<void> result = refresh_permissions(top);
}

io::Task<Result<void>> Graph::settle(std::shared_ptr<Node> top) {
  loosen_permissions(top.get());
  std::vector<std::shared_ptr<Node>> unsettled;
  for (Node* node : top != nullptr ? with_descendants(*top) : nodes_) {
    if (node->driver_ != nullptr && node->driver_->has_leftovers()) {
      unsettled.push_back(node->shared_from_this());
    }
  }
  Result<void> result;
  for (const std::shared_ptr<Node>& node : unsettled) {
    const RequestScope scope(*node);
    Result<void> settled = co_await node->driver_->clear_leftovers();
    if (!settled && result) {
      result = std::move(settled);
    }
  }
  if (!unsettled.empty()) {
    loosen_permissions(top.get());
  }
  co_return result;
}

Result<std::unique_ptr<Edge>> Graph::attach(std::shared_ptr<Node> node, std::string user,
                                            Permissions permissions) {
  auto edge = std::make_unique<Edge>("root", nullptr, std::move(node), ChildRole::kFiltered,
                                     std::move(user));
  edge->pass_ = born_in_drain(edge->node()) ? drain_ : 0;
  if (auto ok = refresh_permissions(&edge->node(), edge.get(), permissions); !ok) {
    return pass(ok);
  }
  return edge;
}

std::unique_ptr<Edge> Graph::hold(std::shared_ptr<Node> node) {
  auto edge =
      std::make_unique<Edge>("root", nullptr, std::move(node), ChildRole::kFiltered, std::string());
  edge->stays_ = true;
  return edge;
}

Result<void> Graph::set_permissions(Edge& root, Permissions permissions) {
  assert(root.parent() == nullptr);
  return refresh_permissions(&root.node(), &root, permissions);
}

Result<Edge*> Graph::connect(Node& parent, std::string name, std::shared_ptr<Node> child,
                             ChildRole role) {
  parent.children_.push_back(
      std::make_unique<Edge>(std::move(name), &parent, std::move(child), role, std::string()));
  Edge* edge = parent.children_.back().get();
  if (auto ok = refresh_permissions(&parent); !ok) {
    parent.children_.pop_back();
    return pass(ok);
  }
  // A window (raw) filters without holes, too, but asks its child about everything.
  const bool filters =
      role == ChildRole::kFiltered && parent.info().kind != DriverInfo::Kind::kFormat;
  if (role == ChildRole::kBacking || filters) {
    parent.backing_ = edge;
  }
  return edge;
}

}  // namespace cairn::block
