// Writes to translating nodes.
//
// A write whose extents are in place goes straight to the child. Everything else runs under a lock
// on the allocation units it touches, so that two writes never allocate the same unit, and no
// zeroing or discard changes a mapping in between. Those take effect while writes in place are on
// their way, and wait for them before they let go of the units.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/fault_point.h"
#include "block/request_scope.h"

namespace cairn::block {

Engine::Outcome Engine::write_translated(Node& node, uint64_t offset, io::IoVector data,
                                         WriteFlags flags) {
  if (flags.into_holes) {
    co_return co_await write_holes(node, offset, std::move(data), flags);
  }
  if (node.translating_->encoding() == TranslatingDriver::Encoding::kAlways) {
    co_return co_await write_compressed(node, offset, std::move(data), flags);
  }
  WriteFlags child_flags = flags;
  // Metadata that is still only in memory needs a flush of the node; data alone, FUA of the data.
  bool flush_after = false;
  uint64_t done = 0;
  while (done < data.size()) {
    const uint64_t at = offset + done;
    auto in_place = node.in_place_.pin();
    const Result<Extent> extent = co_await map(node, at, data.size() - done);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    io::IoVector piece = data.slice(done, extent->length);
    Result<void> result;
    if (extent->in_place) {
      // Who listens is to hear of a flush.
      child_flags.fua = flags.fua && node.translating_->metadata_durable() &&
                        extent->child->node().fault_listener() == nullptr;
      flush_after |= flags.fua && !child_flags.fua;
      co_await fault_point(*extent->child, FaultPoint::kWriteAio);
      result = co_await write_in_place(node, *extent, at, std::move(piece), child_flags);
    } else {
      in_place.release();  // those who wait for it hold the lock that comes next
      flush_after |= flags.fua;
      result = co_await write_allocating(node, at, std::move(piece));
    }
    if (!result) {
      co_return result;
    }
    done += extent->length;
  }
  if (flush_after) {
    ++node.writes_completed_;
    co_return co_await flush_node(node, true);
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::write_allocating(Node& node, uint64_t offset, io::IoVector data) {
  const uint64_t unit = node.translating_->allocation_unit();
  const uint64_t begin = align_down(offset, unit);
  const uint64_t end = align_up(offset + data.size(), unit);
  const auto lock = co_await node.allocations_.lock_exclusive(begin, end - begin);
  co_return co_await write_in_units(node, offset, std::move(data));
}

// The caller holds the lock of all units that the range touches.
Engine::Outcome Engine::write_in_units(Node& node, uint64_t offset, io::IoVector data) {
  uint64_t done = 0;
  while (done < data.size()) {
    const uint64_t at = offset + done;
    // Another write may have allocated it while this one waited for the lock.
    const Result<Extent> extent = co_await map(node, at, data.size() - done);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    uint64_t covered = extent->length;
    Result<void> result;
    if (extent->in_place) {
      io::IoVector piece = data.slice(done, covered);
      co_await fault_point(*extent->child, FaultPoint::kWriteAio);
      result = co_await write_in_place(node, *extent, at, std::move(piece), WriteFlags{});
    } else {
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

// The old contents of [offset, offset + length), or, in `zero`, that they need not be written.
io::Task<Result<io::AlignedBuffer>> Engine::read_around(Node& node, const WritePlan& plan,
                                                        uint64_t offset, uint64_t length,
                                                        bool& zero) {
  zero = length == 0;
  if (length != 0 && plan.host_reads_zero && plan.sectors == nullptr) {
    const Result<bool> reads = co_await reads_zero(node, offset, length);
    if (!reads) {
      co_return std::unexpected(reads.error());
    }
    zero = *reads;
  }
  if (zero) {
    co_return io::AlignedBuffer();
  }
  auto buffer = io::AlignedBuffer::allocate(length);
  if (!buffer) {
    co_return pass(buffer);
  }
  // The guest's image may end within the unit; what lies behind its end is written as zeroes.
  const uint64_t in_image = offset < node.length() ? std::min(length, node.length() - offset) : 0;
  std::fill(buffer->data() + in_image, buffer->data() + length, std::byte{0});
  if (in_image > 0) {
    io::IoVector present(buffer->data(), in_image);
    co_await fault_point(*plan.child, FaultPoint::kCowRead);
    Result<void> read = co_await read_translated(node, offset, std::move(present));
    if (!read) {
      co_return pass(read);
    }
  }
  co_return std::move(*buffer);
}

Engine::Outcome Engine::write_planned(Node& node, WritePlan plan, uint64_t offset,
                                      io::IoVector data) {
  if (plan.sectors != nullptr && plan.ticket == 0) {
    // The space has its place already, and what is around the request stays.
    const Extent extent{.length = plan.length,
                        .kind = Extent::Kind::kData,
                        .host_offset = plan.host_offset,
                        .child = plan.child,
                        .sectors = plan.sectors};
    co_return co_await write_encrypted(node, extent, offset, std::move(data), WriteFlags{});
  }
  bool head_zero = false;
  bool tail_zero = false;
  Result<void> result;
  Result<io::AlignedBuffer> head =
      co_await read_around(node, plan, offset - plan.head, plan.head, head_zero);
  Result<io::AlignedBuffer> tail = io::AlignedBuffer();
  if (!head) {
    result = pass(head);
  } else {
    tail = co_await read_around(node, plan, offset + plan.length, plan.tail, tail_zero);
    if (!tail) {
      result = pass(tail);
    }
  }
  if (result) {
    io::IoVector all;
    uint64_t host = plan.host_offset;
    if (!head_zero) {
      all.append(head->data(), plan.head);
      host -= plan.head;
    }
    all.append(data);
    if (!tail_zero) {
      all.append(tail->data(), plan.tail);
    }
    if (all.size() != plan.length) {
      co_await fault_point(*plan.child, FaultPoint::kCowWrite);
    }
    if (all.size() != plan.head + plan.length + plan.tail) {
      co_await fault_point(*plan.child, FaultPoint::kClusterAllocSpace);
    }
    co_await fault_point(*plan.child, FaultPoint::kWriteAio);
    if (plan.sectors != nullptr) {
      const CodecPosition position{.guest_offset = offset - plan.head, .host_offset = host};
      result = co_await write_new_sectors(plan, position, std::move(all));
    } else {
      result = co_await write(*plan.child, host, std::move(all), WriteFlags{});
    }
  }
  if (plan.ticket == 0) {
    co_return result;
  }
  Result<void> settled = co_await node.translating_->end_write(plan, offset, result.has_value());
  node.units_.clear();
  // The first failure is the one that tells the cause.
  co_return result ? settled : result;
}

}  // namespace cairn::block
