// Copying what lies below a node into it.
//
// It takes what an allocating write takes, the lock of the allocation units that it touches, and
// looks at the mappings again once it has it: a write that came first has allocated its units, and
// they are left alone; one that comes later waits, and then writes in place. Data is read under the
// lock, from below, where nothing changes that still shows here.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/request_scope.h"

namespace cairn::block {
namespace {

// Locks are held for about this many bytes at a time, so that others get in between.
constexpr uint64_t kCopyUpPiece = 1 << 20;

}  // namespace

Engine::Outcome Engine::copy_up(Edge& edge, uint64_t offset, uint64_t length) {
  if (must_wait(edge)) {
    co_await admitted(edge.child_->graph_);
  }
  Node& node = *edge.child_;
  if (auto ok = check_change(edge, offset, length, PermissionSet::kWriteUnchanged, false);
      !ok || length == 0 || node.translating_ == nullptr) {
    co_return ok;  // what is not translated is all there
  }
  const RequestScope scope(node);
  const uint64_t unit = node.translating_->allocation_unit();
  const uint64_t end = offset + length;
  Result<void> result;
  while (result && offset < end) {
    const uint64_t piece_end = std::min(end, align_up(offset + kCopyUpPiece, unit));
    const uint64_t begin = align_down(offset, unit);
    const uint64_t locked = align_up(piece_end, unit) - begin;
    const auto lock = co_await node.allocations_.lock_exclusive(begin, locked);
    result = co_await copy_holes(node, offset, piece_end - offset);
    offset = piece_end;
  }
  ++node.writes_completed_;
  co_return result;
}

// The caller holds the lock of all units that the range touches.
Engine::Outcome Engine::copy_holes(Node& node, uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  while (offset < end) {
    const Result<Extent> extent = co_await map(node, offset, end - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (extent->kind == Extent::Kind::kHole) {
      Result<void> copied = co_await copy_hole(node, offset, extent->length);
      if (!copied) {
        co_return copied;
      }
    }
    offset += extent->length;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::copy_hole(Node& node, uint64_t offset, uint64_t length) {
  auto buffer = io::AlignedBuffer::allocate(length);
  if (!buffer) {
    co_return pass(buffer);
  }
  io::IoVector data(buffer->data(), length);
  Result<void> read = co_await read_hole(node, offset, data);
  if (!read) {
    co_return read;
  }
  const uint64_t unit = node.translating_->zeroing_unit();
  const bool whole =
      is_aligned(offset, unit) && (is_aligned(length, unit) || offset + length >= node.length());
  if (whole && data.is_zero()) {
    Result<void> zeroed = co_await node.translating_->write_zeroes(offset, length, ZeroFlags{});
    node.units_.clear();
    if (zeroed || zeroed.error().code() != ENOTSUP) {
      co_return zeroed;
    }
  }
  co_return co_await write_in_units(node, offset, std::move(data));
}

}  // namespace cairn::block
