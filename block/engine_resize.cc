// Changing the length of a node. It runs alone: no request of a user is in flight meanwhile.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/engine.h"
#include "block/graph.h"
#include "block/largest_length.h"
#include "block/request_scope.h"

namespace cairn::block {

Engine::Outcome Engine::resize(Edge& edge, uint64_t length, ResizeOptions options) {
  if (auto ok = check_writable(edge, PermissionSet::kResize); !ok) {
    co_return ok;
  }
  if (!edge.permissions_.used.has(PermissionSet::kResize)) {
    co_return fail(EPERM, "The user of block node '{}' did not ask to resize it",
                   edge.child_->name());
  }
  if (length > kLargestLength) {
    co_return fail(EFBIG, "offset({}) exceeds maximum({})", length, kLargestLength);
  }
  Result<void> result;
  Graph& graph = edge.child_->graph_;
  if (edge.parent_ == nullptr && !graph.has_pass(edge)) {
    const auto alone = co_await graph.changes().lock();
    if (must_wait(edge)) {
      co_await admitted(graph);
    }
    co_await graph.drain_begin();
    result = co_await resize_node(*edge.child_, length, options);
    graph.drain_end();
  } else {
    result = co_await resize_node(*edge.child_, length, options);
  }
  graph.report_length_change();
  co_return result;
}

Engine::Outcome Engine::resize_node(Node& node, uint64_t length, ResizeOptions options) {
  const uint64_t old_length = node.length();
  const bool grows = node.translating_ != nullptr && length > old_length;
  Result<void> result;
  if (grows) {
    result = co_await clear_before_growth(node, length, options);
  }
  if (result) {
    result = co_await node.driver_->resize(length, options);
  }
  ++node.writes_completed_;
  node.limits_ = node.driver_->limits();
  if (node.bitmaps_ != nullptr) {
    node.bitmaps_->resize(node.length());
  }
  if (!result || !grows || node.length() <= old_length) {
    co_return result;
  }
  uint64_t end = node.length();
  if (options.preallocation != Preallocation::kOff) {
    // What was just allocated reads as zeroes; only the unit that was the last one may not.
    end = std::min(end, align_up(old_length, node.translating_->allocation_unit()));
  }
  Result<bool> cleared;
  {
    const RequestScope scope(node);
    cleared = co_await clear_new_space(node, old_length, end, options.zero_new_space);
  }
  if (!cleared) {
    // What can not be cleared must not be shown.
    const Result<void> restored = co_await node.driver_->resize(old_length, ResizeOptions{});
    if (node.bitmaps_ != nullptr) {
      node.bitmaps_->resize(node.length());
    }
    if (!restored) {
      co_return pass(cleared, "The image has its new size, but the new space is not zeroed: ");
    }
    co_return pass(cleared);
  }
  co_return result;
}

// What lies behind the end, and must never be seen, is gone for good before the end moves: a power
// cut may come as soon as it has.
Engine::Outcome Engine::clear_before_growth(Node& node, uint64_t length, ResizeOptions options) {
  const uint64_t old_length = node.length();
  Result<bool> clears = co_await node.driver_->prepare_growth(length);
  if (!clears) {
    co_return pass(clears);
  }
  if (!*clears) {
    co_return Result<void>{};
  }
  const RequestScope scope(node);
  const uint64_t unit = node.translating_->allocation_unit();
  const bool preallocates = options.preallocation != Preallocation::kOff;
  if (preallocates && node.backing_ != nullptr && !is_aligned(old_length, unit)) {
    // The driver allocates whole units without a look at what they show.
    Result<void> copied =
        co_await zero_by_writing(node, old_length, align_up(old_length, unit) - old_length);
    if (!copied) {
      co_return copied;
    }
  }
  Result<bool> changed = co_await clear_new_space(node, old_length, align_up(length, unit),
                                                  options.zero_new_space && !preallocates);
  if (!changed) {
    co_return pass(changed);
  }
  Result<void> result;
  if (*changed || preallocates) {
    result = co_await node.driver_->flush();
  }
  co_return result;
}

// What a resize adds does not show what was there before: the rest of the unit that was the last
// one, what an interrupted shrink has left mapped and, unless it may be seen, a backing node that
// is longer. True: something was cleared.
io::Task<Result<bool>> Engine::clear_new_space(Node& node, uint64_t offset, uint64_t end,
                                               bool hide_backing) {
  const uint64_t below = node.backing_ != nullptr ? node.backing_->child_->length() : 0;
  bool changed = false;
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
      changed = true;
      const ZeroFlags flags{.may_unmap = true};
      Result<void> cleared = co_await zero_translated(node, offset, covered, flags);
      if (!cleared) {
        co_return pass(cleared);
      }
    }
    offset += covered;
  }
  co_return changed;
}

}  // namespace cairn::block
