// Changing an image as a whole: its snapshots, its options, what it names as its backing file. As a
// resize it runs alone: a snapshot makes clusters shared that requests on their way still write in
// place.
#include <algorithm>
#include <utility>

#include "block/engine.h"
#include "block/graph.h"
#include "block/request_scope.h"

namespace cairn::block {

Engine::Outcome Engine::change_image(Edge& edge, PermissionSet needed, Change change) {
  Node& node = *edge.child_;
  if (needed.has(PermissionSet::kWrite)) {
    if (auto ok = check_writable(edge, PermissionSet::kWrite); !ok) {
      co_return ok;
    }
  }
  if (needed.has(PermissionSet::kResize) && !edge.permissions_.used.has(PermissionSet::kResize)) {
    co_return fail(EPERM, "The user of block node '{}' did not ask to resize it", node.name());
  }
  if (auto usable = check_active(edge); !usable) {
    co_return usable;
  }
  if (edge.parent_ != nullptr || node.graph_.has_pass(edge)) {
    co_return co_await change_node(node, std::move(change));
  }
  const auto alone = co_await node.graph_.changes().lock();
  if (must_wait(edge)) {
    co_await admitted(node);
  }
  co_await node.graph_.drain_begin();
  Result<void> result = co_await change_node(node, std::move(change));
  node.graph_.drain_end();
  co_return result;
}

Engine::Outcome Engine::change_node(Node& node, Change change) {
  Result<void> result = co_await change(*node.driver_);
  // What was decoded, or known of the disk's end, may be something else now.
  node.units_.clear();
  ++node.writes_completed_;
  node.limits_ = node.driver_->limits();
  co_return result;
}

}  // namespace cairn::block
