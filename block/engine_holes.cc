// Copying up: requests that go only where a node has nothing of its own.
//
// Whoever makes them has read what is behind the holes. Looking and writing happen under the lock
// of the allocation units, so that what somebody else wrote meanwhile is never overwritten.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"

namespace cairn::block {
namespace {

// The child answers for this range: a window's holes are those of its file.
bool asks_child(const Extent& extent) {
  return extent.kind == Extent::Kind::kData && extent.child_status == Extent::ChildStatus::kAll;
}

}  // namespace

Engine::Outcome Engine::write_holes(Node& node, uint64_t offset, io::IoVector data,
                                    WriteFlags flags) {
  const uint64_t unit = node.translating_->allocation_unit();
  const uint64_t begin = align_down(offset, unit);
  const uint64_t end = align_up(offset + data.size(), unit);
  const auto lock = co_await node.allocations_.lock_exclusive(begin, end - begin);
  uint64_t done = 0;
  while (done < data.size()) {
    const uint64_t at = offset + done;
    const Result<Extent> extent = co_await map(node, at, data.size() - done);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    uint64_t covered = extent->length;
    Result<void> result;
    if (asks_child(*extent)) {
      io::IoVector piece = data.slice(done, covered);
      result = co_await write(*extent->child, extent->host_offset, std::move(piece), flags);
    } else if (extent->kind == Extent::Kind::kHole) {
      Result<WritePlan> plan = co_await node.translating_->begin_write(at, covered);
      if (!plan) {
        co_return std::unexpected(std::move(plan.error()));
      }
      covered = plan->length;
      io::IoVector piece = data.slice(done, covered);
      result = co_await write_planned(node, *plan, at, std::move(piece));
    }
    if (!result) {
      co_return result;
    }
    done += covered;
  }
  co_return Result<void>{};
}

// By metadata alone, or ENOTSUP.
Engine::Outcome Engine::zero_holes(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags) {
  const uint64_t unit = node.translating_->allocation_unit();
  const uint64_t zeroing_unit = node.translating_->zeroing_unit();
  const uint64_t end = offset + length;
  const uint64_t begin = align_down(offset, unit);
  const auto lock = co_await node.allocations_.lock_exclusive(begin, align_up(end, unit) - begin);
  for (uint64_t at = offset; at < end;) {
    const Result<Extent> extent = co_await map(node, at, end - at);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    const uint64_t piece_end = at + extent->length;
    Result<void> result;
    if (asks_child(*extent)) {
      result = co_await write_zeroes(*extent->child, extent->host_offset, extent->length, flags);
    } else if (extent->kind == Extent::Kind::kHole) {
      const bool whole = is_aligned(at, zeroing_unit) &&
                         (is_aligned(piece_end, zeroing_unit) || piece_end >= node.length());
      if (!whole) {
        co_return fail(ENOTSUP, "'{}' can not zero {} bytes at {} without writing them",
                       node.name(), extent->length, at);
      }
      result = co_await node.translating_->write_zeroes(at, extent->length, flags);
      node.units_.clear();
    }
    if (!result) {
      co_return result;
    }
    at = piece_end;
  }
  co_return Result<void>{};
}

}  // namespace cairn::block
