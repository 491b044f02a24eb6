// Qcow2Driver: moving an image together, so that its file can be cut. No request is in flight
// meanwhile.
//
// What lies behind the end that the file would have without gaps moves to free clusters before it:
// data, then L2 tables. The copy is written, the entry changes in memory, and a write-out brings
// both to the disk in its usual order, so that the old place is free only when nothing on disk
// refers to it. Refcount blocks that count nothing but themselves are taken out of their table. The
// L1 table, the refcount table and the other blocks stay where they are, and the file is cut behind
// the last cluster that is in use.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "io/buffer.h"

namespace cairn::qcow2 {
namespace {

// Whatever else the image has: compressed data is marked by one bit.
bool marks_compressed(uint64_t entry) { return (entry & kEntryCompressed) != 0; }

}  // namespace

// What is not moved: it is shared, or counts bytes, or depends on its place.
io::Task<Result<void>> Qcow2Driver::check_compact() {
  if (image_.geometry().external_data) {
    co_return fail(ENOTSUP, "its data is in an external data file");
  }
  if (encryption_ != nullptr) {
    co_return fail(ENOTSUP, "it is encrypted");
  }
  if (image_.header().snapshot_count != 0) {
    co_return fail(ENOTSUP, "it has snapshots inside");
  }
  if (image_.header().bitmap_directory()) {
    co_return fail(ENOTSUP, "it keeps dirty bitmaps");
  }
  const Result<bool> compressed = co_await any_entry(marks_compressed);
  if (!compressed) {
    co_return std::unexpected(compressed.error());
  }
  if (*compressed) {
    co_return fail(ENOTSUP, "it has compressed clusters");
  }
  co_return Result<void>{};
}

// A cluster that is in use twice and counted once must not move.
io::Task<Result<void>> Qcow2Driver::check_soundness() {
  block::CheckOptions options{.report = [](const std::string&) {}, .complain = [](const Error&) {}};
  const Result<block::CheckResult> found = co_await check(std::move(options));
  if (!found) {
    co_return std::unexpected(found.error());
  }
  if (found->corruptions != 0 || found->check_errors != 0) {
    co_return fail(EIO, "it is damaged, see what a check tells");
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Qcow2Driver::compact(block::CompactOptions options) {
  Result<void> result = co_await check_compact();
  if (result) {
    result = co_await prepare_write();
  }
  if (result) {
    result = co_await settle();
  }
  if (result) {
    result = co_await check_soundness();
  }
  // What counts the clusters behind the new end is given up with them, which makes room for more.
  uint64_t before = UINT64_MAX;
  while (result && image_.file().length() < before) {
    before = image_.file().length();
    result = co_await compact_once(options);
  }
  co_return result;
}

io::Task<Result<void>> Qcow2Driver::compact_once(const block::CompactOptions& options) {
  const uint64_t cluster_size = image_.cluster_size();
  const Result<uint64_t> used =
      co_await refcounts_.count_used(div_round_up(image_.file().length(), cluster_size));
  if (!used) {
    co_return std::unexpected(used.error());
  }
  const uint64_t limit = *used * cluster_size;
  Result<void> result = co_await move_data(limit, options);
  // Also after a failure: what was moved is in order.
  Result<void> settled = co_await settle();
  result = result ? std::move(settled) : std::move(result);
  for (uint64_t index = 0; result && index < mapping_.l1().size(); ++index) {
    const uint64_t entry = mapping_.l1()[index];
    if ((entry & kEntryCopied) != 0 && (entry & kEntryOffsetMask) >= limit) {
      result = co_await mapping_.move_table(index);
    }
  }
  if (result) {
    result = co_await settle();
  }
  if (result) {
    result = co_await refcounts_.drop_idle_blocks();
  }
  if (result) {
    result = co_await cut_file();
  }
  co_return result;
}

// Moves the data that lies at `limit` or behind it.
io::Task<Result<void>> Qcow2Driver::move_data(uint64_t limit,
                                              const block::CompactOptions& options) {
  Result<io::AlignedBuffer> buffer = io::AlignedBuffer::allocate(image_.cluster_size());
  if (!buffer) {
    co_return pass(buffer);
  }
  const uint64_t end = mapping_.l1().size() * image_.geometry().l2_coverage();
  bool room = true;
  for (uint64_t offset = 0; room && offset < end;) {
    if (options.cancel.cancelled()) {
      co_return fail_errno(ECANCELED, "It was interrupted");
    }
    if (options.progress) {
      options.progress(std::min(offset, length()), length());
    }
    if (!mapping_.has_table(offset)) {
      offset = mapping_.table_end(offset);
      continue;
    }
    Result<void> ready = co_await prepare_write();
    if (!ready) {
      co_return ready;
    }
    Result<PagePin> page = co_await mapping_.writable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    const uint64_t page_end = mapping_.page_end(offset);
    for (; room && offset < page_end; offset += image_.cluster_size()) {
      const uint64_t entry = mapping_.entry(**page, offset);
      if ((entry & kEntryCopied) == 0 || (entry & kEntryOffsetMask) < limit) {
        continue;
      }
      Result<bool> moved = co_await move_cluster(**page, offset, buffer->span());
      if (!moved) {
        co_return pass(moved);
      }
      room = *moved;
    }
  }
  if (options.progress) {
    options.progress(length(), length());
  }
  co_return Result<void>{};
}

// Gives the cluster of a guest offset the first free place; false when that is none before it.
io::Task<Result<bool>> Qcow2Driver::move_cluster(Page& page, uint64_t offset,
                                                 std::span<std::byte> buffer) {
  Result<void> sane = co_await mapping_.validate(page, offset);
  if (!sane) {
    co_return pass(sane);
  }
  const uint64_t entry = mapping_.entry(page, offset);
  const uint64_t old_place = entry & kEntryOffsetMask;
  if (image_.metadata_at(old_place, buffer.size())) {
    co_return std::unexpected(co_await image_.overlap(old_place, buffer.size()));
  }
  const Result<Refcounts::Allocation> space = co_await refcounts_.allocate(1);
  if (!space) {
    co_return std::unexpected(space.error());
  }
  const uint64_t place = space->host_offset;
  if (place > old_place) {
    co_await give_back(place, 1);
    co_return false;
  }
  Result<void> copied = co_await read_metadata(image_.file(), old_place, buffer);
  if (copied) {
    copied = co_await image_.file().write(place, buffer.data(), buffer.size());
  }
  if (!copied) {
    co_await give_back(place, 1);
    co_return pass(copied);
  }
  // The old place can be given up for good even where the file can not be cut.
  free_entry(entry, FreeCause::kRequest);
  mapping_.set_entry(page, offset, (entry & ~kEntryOffsetMask) | place,
                     mapping_.subclusters(page, offset));
  co_return true;
}

}  // namespace cairn::qcow2
