// Changing the snapshots inside an image. As a resize it runs alone: a snapshot makes clusters
// shared that requests on their way still write in place.
#include <cerrno>

#include "block/dirty_bitmap.h"
#include "block/engine.h"
#include "block/graph.h"

namespace cairn::block {

Engine::Outcome Engine::snapshot(Edge& edge, SnapshotChange change) {
  Node& node = *edge.child_;
  if (auto ok = check_writable(edge, PermissionSet::kWrite); !ok) {
    co_return ok;
  }
  if (change.kind == SnapshotChange::Kind::kApply &&
      !edge.permissions_.used.has(PermissionSet::kResize)) {
    co_return fail(EPERM, "The user of block node '{}' did not ask to resize it", node.name());
  }
  if (edge.parent_ != nullptr) {
    co_return co_await snapshot_node(node, std::move(change));
  }
  const auto alone = co_await node.graph_.resizes().lock();
  if (must_wait(edge)) {
    co_await admitted(node);
  }
  co_await node.graph_.drain_begin();
  Result<void> result = co_await snapshot_node(node, std::move(change));
  node.graph_.drain_end();
  co_return result;
}

Engine::Outcome Engine::snapshot_node(Node& node, SnapshotChange change) {
  Result<void> result;
  switch (change.kind) {
    case SnapshotChange::Kind::kCreate:
      result = co_await node.driver_->create_snapshot(std::move(change.snapshot));
      break;
    case SnapshotChange::Kind::kApply:
      // What changes then no bitmap could tell.
      if (node.bitmaps_ != nullptr && !node.bitmaps_->empty()) {
        co_return fail(EBUSY, "Device has active dirty bitmaps");
      }
      result = co_await node.driver_->apply_snapshot(std::move(change.snapshot.id));
      break;
    case SnapshotChange::Kind::kDelete:
      result = co_await node.driver_->delete_snapshot(std::move(change.snapshot.id));
      break;
  }
  // What was decoded, or known of the disk's end, may be something else now.
  node.units_.clear();
  ++node.writes_completed_;
  node.limits_ = node.driver_->limits();
  co_return result;
}

}  // namespace cairn::block
