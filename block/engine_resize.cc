// Changing the length of a node. It runs alone: no request of a user is in flight meanwhile.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/engine.h"
#include "block/graph.h"
#include "block/request_scope.h"

namespace cairn::block {

Engine::Outcome Engine::resize(Edge& edge, uint64_t length, ResizeOptions options) {
  Node& node = *edge.child_;
  if (auto ok = check_writable(edge, PermissionSet::kResize); !ok) {
    co_return ok;
  }
  if (!edge.permissions_.used.has(PermissionSet::kResize)) {
    co_return fail(EPERM, "The user of block node '{}' did not ask to resize it", node.name());
  }
  if (length > kLargestOffset) {
    co_return fail(EFBIG, "The new size of '{}' is too large", node.name());
  }
  Result<void> result;
  if (edge.parent_ == nullptr && !node.graph_.has_pass(edge)) {
    const auto alone = co_await node.graph_.changes().lock();
    if (must_wait(edge)) {
      co_await admitted(node);
    }
    co_await node.graph_.drain_begin();
    result = co_await resize_node(node, length, options);
    node.graph_.drain_end();
  } else {
    result = co_await resize_node(node, length, options);
  }
  co_return result;
}

Engine::Outcome Engine::resize_node(Node& node, uint64_t length, ResizeOptions options) {
  const uint64_t old_length = node.length();
  Result<void> result = co_await node.driver_->resize(length, options);
  ++node.writes_completed_;
  node.limits_ = node.driver_->limits();
  if (node.bitmaps_ != nullptr) {
    node.bitmaps_->resize(node.length());
  }
  if (!result || node.translating_ == nullptr || node.length() <= old_length) {
    co_return result;
  }
  uint64_t end = node.length();
  if (options.preallocation != Preallocation::kOff) {
    // What was just allocated reads as zeroes; only the unit that was the last one may not.
    end = std::min(end, align_up(old_length, node.translating_->allocation_unit()));
  }
  {
    const RequestScope scope(node);
    result = co_await clear_new_space(node, old_length, end, options.zero_new_space);
  }
  if (!result) {
    // What can not be cleared must not be shown.
    const Result<void> restored = co_await node.driver_->resize(old_length, ResizeOptions{});
    if (node.bitmaps_ != nullptr) {
      node.bitmaps_->resize(node.length());
    }
    if (!restored) {
      co_return pass(result, "The image has its new size, but the new space is not zeroed: ");
    }
  }
  co_return result;
}

// What a resize adds does not show what was there before: the rest of the unit that was the last
// one, what an interrupted shrink has left mapped and, unless it may be seen, a backing node that
// is longer.
Engine::Outcome Engine::clear_new_space(Node& node, uint64_t offset, uint64_t end,
                                        bool hide_backing) {
  const uint64_t below = node.backing_ != nullptr ? node.backing_->child_->length() : 0;
  while (offset < end) {
    const Result<Extent> extent = co_await map(node, offset, end - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    uint64_t covered = extent->length;
    // Where the child answers for itself, it was for its own resize to add nothing but zeroes.
    bool stale =
        extent->kind == Extent::Kind::kData && extent->child_status != Extent::ChildStatus::kAll;
    if (extent->kind == Extent::Kind::kHole && hide_backing && offset < below) {
      stale = true;
      covered = std::min(covered, below - offset);
    }
    if (stale) {
      const ZeroFlags flags{.may_unmap = true};
      Result<void> cleared = co_await zero_translated(node, offset, covered, flags);
      if (!cleared) {
        co_return cleared;
      }
    }
    offset += covered;
  }
  co_return Result<void>{};
}

}  // namespace cairn::block
