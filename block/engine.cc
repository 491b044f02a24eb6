// The choke point: what every request passes, whatever its node does with it.
#include "block/engine.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/bitmap_store.h"
#include "block/dirty_bitmap.h"
#include "block/driver_table.h"
#include "block/fault_point.h"
#include "block/graph.h"
#include "block/largest_length.h"
#include "block/request_scope.h"
#include "io/reactor.h"
#include "io/wait_in.h"

namespace cairn::block {

bool Engine::must_wait(const Edge& edge) {
  const Graph& graph = edge.child_->graph_;
  return edge.parent_ == nullptr && graph.draining() && !graph.has_pass(edge);
}

io::Task<void> Engine::admitted(Graph& graph) {
  while (graph.draining()) {
    co_await io::WaitIn(graph.drain_waiters());
  }
}

// Nodes that are being opened, or made active, read through edges that are not root edges.
Result<void> Engine::check_active(const Edge& edge) {
  if (edge.parent_ == nullptr && !edge.child_->active()) [[unlikely]] {
    return fail(EPERM, "Block node '{}' is inactive", edge.child_->name());
  }
  return {};
}

Result<void> Engine::check_range(const Edge& edge, uint64_t offset, uint64_t length,
                                 bool may_grow) {
  const Node& node = *edge.child_;
  if (auto usable = check_active(edge); !usable) [[unlikely]] {
    return usable;
  }
  if (length > kLargestLength || offset > kLargestLength - length) {
    return fail(EIO, "Request of {} bytes at {} is out of bounds", length, offset);
  }
  if (offset + length <= node.length()) {
    return {};
  }
  // A format grows the file below it by writing. Whoever uses a whole image resizes it first.
  if (may_grow && edge.parent_ != nullptr && edge.permissions_.used.has(PermissionSet::kResize)) {
    return {};
  }
  return fail(EIO, "Request of {} bytes at {} goes beyond the end of '{}' ({} bytes)", length,
              offset, node.name(), node.length());
}

Result<void> Engine::check_writable(const Edge& edge, PermissionSet::Bit needed) {
  const Node& node = *edge.child_;
  if (auto usable = check_active(edge); !usable) [[unlikely]] {
    return usable;
  }
  if (node.options_.read_only) {
    return fail(EACCES, "Block node '{}' is read-only", node.name());
  }
  const PermissionSet used = edge.permissions_.used;
  if (!used.has(needed) && !used.has(PermissionSet::kWrite)) {
    return fail(EPERM, "The user of block node '{}' did not ask to {} it", node.name(),
                needed == PermissionSet::kResize ? "resize" : "write to");
  }
  return {};
}

// What is asked of every request that may change a range, with a permission that goes for it.
Result<void> Engine::check_change(const Edge& edge, uint64_t offset, uint64_t length,
                                  PermissionSet::Bit needed, bool may_grow) {
  auto ok = check_writable(edge, needed);
  return ok ? check_range(edge, offset, length, may_grow) : ok;
}

// The leaf that a request for exactly this plain extent can go to as it is; null when there is more
// to do.
Node* Engine::plain_leaf(const Extent& extent, const io::IoVector& data) {
  if (extent.kind != Extent::Kind::kData || extent.codec != nullptr || extent.sectors != nullptr) {
    return nullptr;
  }
  Node& child = *extent.child->child_;
  const bool direct = child.request_ != nullptr && !child.observed() &&
                      fits(child, extent.host_offset, data) &&
                      extent.host_offset + extent.length <= child.length();
  return direct ? &child : nullptr;
}

// A request may change, or has changed, a range: see dirty_bitmap.h for why both are marked.
void Engine::mark_bitmaps(Node& node, uint64_t offset, uint64_t length) {
  if (node.bitmaps_ != nullptr) {
    node.bitmaps_->mark(offset, length, node.length());
  }
}

// A request that may change a range is let in. One that goes into holes changes nothing that
// anybody sees. Who has to be told first, because bitmaps are kept there; null: nobody.
BitmapStore* Engine::begin_change(Node& node, uint64_t offset, uint64_t length, bool into_holes) {
  if (!node.observed() || into_holes) {
    return nullptr;
  }
  mark_bitmaps(node, offset, length);
  const uint64_t threshold = node.write_threshold_;
  if (threshold != 0 && offset + length > threshold) {
    node.set_write_threshold(0);
    node.graph_.report_write_threshold(node, threshold, offset + length - threshold);
  }
  if (node.bitmaps_ == nullptr || node.bitmaps_->empty()) {
    return nullptr;
  }
  BitmapStore* const store = node.driver_->bitmap_store();
  return store != nullptr && !store->covers(offset, length) ? store : nullptr;
}

// How long a request takes. It is done when that is asked for first; a node and the leaf below that
// carried it out at once look at the clock together.
class Engine::Stopwatch {
 public:
  [[nodiscard]] io::TimePoint begin() const { return begin_; }
  [[nodiscard]] io::TimePoint end() {
    if (end_ == io::TimePoint()) {
      end_ = io::Reactor::current().now();
    }
    return end_;
  }

 private:
  io::TimePoint begin_ = io::Reactor::current().now();
  io::TimePoint end_;
};

// A request of one kind is done.
void Engine::account(Node& node, RequestCounters Statistics::* kind, uint64_t length,
                     bool succeeded, Stopwatch& watch) {
  (node.statistics_.*kind).count(length, succeeded, watch.begin(), watch.end());
  node.statistics_.last_access = watch.end();
}

void Engine::account_write(Node& node, uint64_t offset, uint64_t length, bool succeeded,
                           Stopwatch& watch) {
  ++node.writes_completed_;
  account(node, &Statistics::writes, length, succeeded, watch);
  node.statistics_.write_highest_offset =
      std::max(node.statistics_.write_highest_offset, offset + length);
}

Engine::Outcome Engine::read(Edge& edge, uint64_t offset, io::IoVector data) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  const uint64_t length = data.size();
  Node& node = *edge.child_;
  if (auto ok = check_range(edge, offset, length, false); !ok || length == 0) {
    node.statistics_.reads.invalid += ok ? 0 : 1;
    co_return ok;
  }
  const RequestScope scope(node);
  Stopwatch watch;
  Result<void> result;
  Extent extent;
  if (node.translating_ == nullptr) {
    if (fits(node, offset, data)) {
      result = co_await node.request_->read(offset, std::move(data));
    } else {
      result = co_await read_leaf(node, offset, std::move(data));
    }
  } else if (node.translating_->try_map(offset, length, extent) && extent.length == length) {
    // The usual case: one plain extent on a leaf, answered without another coroutine in between.
    if (Node* leaf = plain_leaf(extent, data)) {
      const RequestScope leaf_scope(*leaf);
      result = co_await leaf->request_->read(extent.host_offset, std::move(data));
      account(*leaf, &Statistics::reads, length, result.has_value(), watch);
    } else {
      result = co_await read_extent(node, extent, offset, std::move(data));
    }
  } else {
    result = co_await read_translated(node, offset, std::move(data));
  }
  account(node, &Statistics::reads, length, result.has_value(), watch);
  co_return result;
}

Engine::Outcome Engine::write(Edge& edge, uint64_t offset, io::IoVector data, WriteFlags flags) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  const uint64_t length = data.size();
  const auto needed = flags.unchanged ? PermissionSet::kWriteUnchanged : PermissionSet::kWrite;
  Node& node = *edge.child_;
  if (auto ok = check_change(edge, offset, length, needed, true); !ok || length == 0) {
    node.statistics_.writes.invalid += ok ? 0 : 1;
    co_return ok&& flags.compressed ? check_compression(node) : ok;
  }
  if (node.options_.detect_zeroes != NodeOptions::DetectZeroes::kOff && data.is_zero()) {
    const ZeroFlags zero_flags{
        .fua = flags.fua,
        .may_unmap = node.options_.detect_zeroes == NodeOptions::DetectZeroes::kUnmap,
        .unchanged = flags.unchanged,
        .into_holes = flags.into_holes};
    co_return co_await write_zeroes(edge, offset, length, zero_flags);
  }
  const RequestScope scope(node);
  BitmapStore* const store = begin_change(node, offset, length, flags.into_holes);
  Stopwatch watch;
  Result<void> result;
  if (store != nullptr) [[unlikely]] {
    result = co_await store->cover(offset, length);
  }
  if (!result) [[unlikely]] {
    // Nothing has been written.
  } else if (flags.compressed && node.info_.kind != DriverInfo::Kind::kFilter) {
    result = co_await write_compressed(node, offset, std::move(data), flags);
  } else if (node.translating_ == nullptr) {
    WriteFlags leaf_flags = flags;
    leaf_flags.fua = flags.fua && node.limits_.native_fua && !node.options_.no_flush;
    result = co_await write_leaf(node, offset, std::move(data), leaf_flags);
  } else {
    Extent extent;
    Node* leaf = nullptr;
    if (!flags.fua && !flags.into_holes && node.translating_->try_map(offset, length, extent) &&
        extent.length == length && extent.in_place &&
        check_writable(*extent.child, PermissionSet::kWrite)) {
      leaf = plain_leaf(extent, data);
    }
    if (leaf != nullptr && leaf->limits_.request_alignment == 1) {
      const RequestScope leaf_scope(*leaf);
      const auto in_place = node.in_place_.pin();
      result = co_await leaf->request_->write(extent.host_offset, std::move(data), WriteFlags{});
      mark_bitmaps(*leaf, extent.host_offset, length);
      account_write(*leaf, extent.host_offset, length, result.has_value(), watch);
    } else {
      result = co_await write_translated(node, offset, std::move(data), flags);
    }
  }
  if (!flags.into_holes) {
    mark_bitmaps(node, offset, length);
  }
  account_write(node, offset, length, result.has_value(), watch);
  // Translating nodes see to it themselves: they know whether their metadata is durable.
  if (result && flags.fua && node.translating_ == nullptr && !node.limits_.native_fua) {
    result = co_await flush_node(node);
  }
  co_return result;
}

Engine::Outcome Engine::write_zeroes(Edge& edge, uint64_t offset, uint64_t length,
                                     ZeroFlags flags) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  Node& node = *edge.child_;
  const auto needed = flags.unchanged ? PermissionSet::kWriteUnchanged : PermissionSet::kWrite;
  if (auto ok = check_change(edge, offset, length, needed, true); !ok || length == 0) {
    node.statistics_.writes.invalid += ok ? 0 : 1;
    co_return ok;
  }
  flags.may_unmap = flags.may_unmap && node.options_.discard_unmap;
  const RequestScope scope(node);
  BitmapStore* const store = begin_change(node, offset, length, flags.into_holes);
  Stopwatch watch;
  Result<void> result;
  if (store != nullptr) [[unlikely]] {
    result = co_await store->cover(offset, length);
  }
  if (!result) [[unlikely]] {
    // Nothing has been written.
  } else if (node.translating_ == nullptr) {
    result = co_await zero_leaf(node, offset, length, flags);
  } else if (flags.into_holes) {
    result = co_await zero_holes(node, offset, length, flags);
  } else {
    result = co_await zero_translated(node, offset, length, flags);
  }
  if (!flags.into_holes) {
    mark_bitmaps(node, offset, length);
  }
  account_write(node, offset, length, result.has_value(), watch);
  if (result && flags.fua) {
    result = co_await flush_node(node);
  }
  co_return result;
}

Engine::Outcome Engine::discard(Edge& edge, uint64_t offset, uint64_t length) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  Node& node = *edge.child_;
  if (auto ok = check_change(edge, offset, length, PermissionSet::kWrite, false);
      !ok || length == 0) {
    node.statistics_.unmaps.invalid += ok ? 0 : 1;
    co_return ok;
  }
  if (!node.options_.discard_unmap) {
    co_return Result<void>{};
  }
  const RequestScope scope(node);
  BitmapStore* const store = begin_change(node, offset, length, false);
  Stopwatch watch;
  Result<void> result;
  if (store != nullptr) [[unlikely]] {
    result = co_await store->cover(offset, length);
  }
  if (!result) [[unlikely]] {
    // Nothing has been discarded.
  } else if (node.translating_ != nullptr) {
    result = co_await discard_translated(node, offset, length);
  } else {
    result = co_await discard_leaf(node, offset, length);
  }
  mark_bitmaps(node, offset, length);
  ++node.writes_completed_;
  account(node, &Statistics::unmaps, length, result.has_value(), watch);
  co_return result;
}

Engine::Outcome Engine::flush(Edge& edge) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  if (auto usable = check_active(edge); !usable) {
    co_return usable;
  }
  const RequestScope scope(*edge.child_);
  co_return co_await flush_node(*edge.child_);
}

// What a node's own work is done on: the child with its image, or the one below a filter.
const Edge* Engine::primary_child(const Node& node) {
  const auto found = std::ranges::find_if(node.children_, [](const auto& edge) {
    return edge->role() == ChildRole::kImage || edge->role() == ChildRole::kFiltered;
  });
  return found == node.children_.end() ? nullptr : found->get();
}

Engine::Outcome Engine::flush_node(Node& node, bool of_write) {
  Stopwatch watch;
  const Edge* file = primary_child(node);
  if (file != nullptr) {
    co_await fault_point(*file, FaultPoint::kFlushToOs);
  }
  const uint64_t covered = node.writes_completed_;
  const bool ignored = node.options_.no_flush && node.request_ != nullptr;
  Result<void> result;
  // What is below a filter may have been written to before the filter was there.
  const bool needed =
      covered != node.writes_flushed_ || node.info_.kind == DriverInfo::Kind::kFilter;
  if (!ignored && needed) {
    if (file != nullptr && !of_write) {
      co_await fault_point(*file, FaultPoint::kFlushToDisk);
    }
    result = co_await node.driver_->flush();
    if (result) {
      node.writes_flushed_ = std::max(node.writes_flushed_, covered);
    }
  }
  account(node, &Statistics::flushes, 0, result.has_value(), watch);
  co_return result;
}

}  // namespace cairn::block
