// Zeroing and discarding on translating nodes: whole units by metadata; the ragged ends of a zero
// request as data, those of a discard not at all. What can be zeroed may be smaller than what can
// be allocated; locks are always on allocation units.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/zero_source.h"
#include "io/event.h"

namespace cairn::block {
namespace {

// [begin, end) cut to whole units; the image's last unit counts as whole when it is short.
struct WholeUnits {
  WholeUnits(uint64_t offset, uint64_t length, uint64_t unit, uint64_t image_length)
      : begin(align_up(offset, unit)),
        end(offset + length >= image_length ? offset + length : align_down(offset + length, unit)) {
    if (begin > end) {
      end = begin;
    }
  }
  uint64_t begin;
  uint64_t end;
};

// The units that a range touches, for locking them.
struct AllocationUnits {
  AllocationUnits(uint64_t unit, uint64_t offset, uint64_t bytes)
      : begin(align_down(offset, unit)), length(align_up(offset + bytes, unit) - begin) {}
  uint64_t begin;
  uint64_t length;
};

}  // namespace

// From mappings alone: what would have to be read to know counts as not zero. Data of this node
// does, too, whatever its child says, and so does what lies beyond the child's end: it can be
// written in place while this looks.
io::Task<Result<bool>> Engine::reads_zero(Node& node, uint64_t offset, uint64_t length) {
  const uint64_t end = std::min(offset + length, node.length());
  while (offset < end) {
    const Result<Extent> extent = co_await map(node, offset, end - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (extent->kind == Extent::Kind::kData || extent->in_place) {
      co_return false;
    }
    uint64_t covered = extent->length;
    const uint64_t below = node.backing_ != nullptr ? node.backing_->child_->length() : 0;
    if (extent->kind == Extent::Kind::kHole && offset < below) {
      covered = std::min(covered, below - offset);
      const Result<ChainStatus> behind =
          co_await chain_status(*node.backing_->child_, offset, covered, nullptr);
      if (!behind) {
        co_return std::unexpected(behind.error());
      }
      if (!behind->status.zero) {
        co_return false;
      }
      covered = behind->status.length;
    }
    offset += covered;
  }
  co_return true;
}

// Waits for the writes that go to where the old mappings say. A unit that was zeroed may keep its
// place, and what is written there next must not be overwritten by something older. The caller
// holds the lock of the units it changed, so that nobody allocates them before; writes in place
// wait for no such lock.
io::Task<void> Engine::writes_in_place_ended(Node& node) {
  if (node.in_place_.quiescent()) {
    co_return;
  }
  io::Event ended;
  node.in_place_.defer([&ended] { ended.set(); });
  co_await ended.wait();
}

Engine::Outcome Engine::zero_translated(Node& node, uint64_t offset, uint64_t length,
                                        ZeroFlags flags) {
  const uint64_t unit = node.translating_->zeroing_unit();
  const uint64_t end = offset + length;
  const WholeUnits whole(offset, length, unit, node.length());
  if (whole.begin >= end) {  // within one unit
    co_return co_await zero_partial_unit(node, offset, length, flags);
  }
  if (whole.begin > offset) {
    Result<void> result = co_await zero_partial_unit(node, offset, whole.begin - offset, flags);
    if (!result) {
      co_return result;
    }
  }
  // Parts of allocation units apart from whole ones: they may have to be written out.
  const uint64_t large = node.translating_->allocation_unit();
  for (uint64_t begin = whole.begin; begin < whole.end;) {
    const bool last_units = whole.end >= node.length() || whole.end - begin < large;
    const uint64_t units_end = is_aligned(begin, large)
                                   ? (last_units ? whole.end : align_down(whole.end, large))
                                   : std::min(whole.end, align_up(begin, large));
    Result<void> result = co_await zero_units(node, begin, units_end - begin, flags);
    if (!result) {
      co_return result;
    }
    begin = units_end;
  }
  if (end > whole.end) {
    co_return co_await zero_partial_unit(node, whole.end, end - whole.end, flags);
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::zero_units(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags) {
  Result<void> result;
  {
    const AllocationUnits units(node.translating_->allocation_unit(), offset, length);
    const auto lock = co_await node.allocations_.lock_exclusive(units.begin, units.length);
    result = co_await node.translating_->write_zeroes(offset, length, flags);
    node.units_.clear();
    co_await writes_in_place_ended(node);
  }
  if (result || result.error().code() != ENOTSUP || flags.no_fallback) {
    co_return result;
  }
  co_return co_await zero_by_writing(node, offset, length);
}

// A part of one unit. When the rest of the unit reads as zeroes, too, the whole unit is zeroed.
Engine::Outcome Engine::zero_partial_unit(Node& node, uint64_t offset, uint64_t length,
                                          ZeroFlags flags) {
  const uint64_t unit = node.translating_->zeroing_unit();
  const uint64_t unit_begin = align_down(offset, unit);
  const uint64_t unit_end = std::min(unit_begin + unit, std::max(node.length(), offset + length));
  const uint64_t end = offset + length;
  const Result<bool> before = co_await reads_zero(node, unit_begin, offset - unit_begin);
  if (!before) {
    co_return std::unexpected(before.error());
  }
  bool rest_is_zero = *before;
  if (rest_is_zero && unit_end > end) {
    const Result<bool> after = co_await reads_zero(node, end, unit_end - end);
    if (!after) {
      co_return std::unexpected(after.error());
    }
    rest_is_zero = *after;
  }
  if (rest_is_zero) {
    // Under the lock, so that no write to the rest slips in between looking and zeroing.
    const AllocationUnits units(node.translating_->allocation_unit(), unit_begin, unit);
    const auto lock = co_await node.allocations_.lock_exclusive(units.begin, units.length);
    const Result<bool> still = co_await reads_zero(node, unit_begin, offset - unit_begin);
    const Result<bool> still_after =
        co_await reads_zero(node, end, unit_end > end ? unit_end - end : 0);
    if (still && *still && still_after && *still_after) {
      Result<void> result =
          co_await node.translating_->write_zeroes(unit_begin, unit_end - unit_begin, flags);
      node.units_.clear();
      co_await writes_in_place_ended(node);
      if (result || result.error().code() != ENOTSUP) {
        co_return result;
      }
    }
  }
  if (flags.no_fallback) {
    co_return fail(ENOTSUP, "'{}' can not zero {} bytes at {} without writing them", node.name(),
                   length, offset);
  }
  co_return co_await zero_by_writing(node, offset, length);
}

Engine::Outcome Engine::zero_by_writing(Node& node, uint64_t offset, uint64_t length) {
  while (length > 0) {
    const io::IoVector zeroes = zero_vector(length);
    const uint64_t piece = zeroes.size();
    Result<void> result = co_await write_translated(node, offset, zeroes, WriteFlags{});
    if (!result) {
      co_return result;
    }
    offset += piece;
    length -= piece;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::discard_translated(Node& node, uint64_t offset, uint64_t length) {
  const uint64_t unit = node.translating_->allocation_unit();
  const WholeUnits whole(offset, length, unit, node.length());
  if (whole.begin >= whole.end) {
    co_return Result<void>{};
  }
  const uint64_t whole_length = whole.end - whole.begin;
  const auto lock =
      co_await node.allocations_.lock_exclusive(whole.begin, align_up(whole_length, unit));
  Result<void> result = co_await node.translating_->discard(whole.begin, whole_length);
  node.units_.clear();
  co_await writes_in_place_ended(node);
  if (!result && result.error().code() == ENOTSUP) {
    co_return Result<void>{};
  }
  co_return result;
}

}  // namespace cairn::block
