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
  if (needed.has(PermissionSet::kWrite)) {
    if (auto ok = check_writable(edge, PermissionSet::kWrite); !ok) {
      co_return ok;
    }
  }
  if (needed.has(PermissionSet::kResize) && !edge.permissions_.used.has(PermissionSet::kResize)) {
    co_return fail(EPERM, "The user of block node '{}' did not ask to resize it",
                   edge.child_->name());
  }
  if (auto usable = check_active(edge); !usable) {
    co_return usable;
  }
  Graph& graph = edge.child_->graph_;
  if (edge.parent_ != nullptr || graph.has_pass(edge)) {
    co_return co_await change_node(*edge.child_, std::move(change));
  }
  const auto alone = co_await graph.changes().lock();
  if (must_wait(edge)) {
    co_await admitted(graph);
  }
  co_await graph.drain_begin();
  Result<void> result = co_await change_node(*edge.child_, std::move(change));
  graph.drain_end();
  graph.report_length_change();
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
