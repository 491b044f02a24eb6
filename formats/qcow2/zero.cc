// Qcow2Driver: zeroing and discarding whole clusters by their L2 entries.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

// The entry that makes a cluster read as zeroes. Without `may_unmap` a cluster keeps its space.
uint64_t Qcow2Driver::zeroed_entry(uint64_t entry, bool may_unmap) const {
  switch (classify(entry)) {
    case ClusterKind::kData:
    case ClusterKind::kZeroAllocated:
      return may_unmap ? kEntryZero : entry | kEntryZero;
    case ClusterKind::kUnallocated:
    case ClusterKind::kZeroPlain:
    case ClusterKind::kCompressed:
      break;
  }
  return kEntryZero;
}

io::Task<Result<void>> Qcow2Driver::write_zeroes(uint64_t offset, uint64_t length,
                                                 block::ZeroFlags flags) {
  if (image_.header().version < 3) {
    // Version 2 has no zero clusters. Without a backing file, unallocated clusters read so.
    if (hides_backing()) {
      co_return fail(ENOTSUP, "qcow2 version 2 has no zero clusters");
    }
    co_return co_await discard(offset, length);
  }
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t end = offset + length;
  while (offset < end) {
    Result<void> ready = co_await prepare_write();
    if (!ready) {
      co_return ready;
    }
    Result<PagePin> page = co_await mapping_.writable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    const uint64_t page_end = std::min(end, mapping_.page_end(offset));
    for (; offset < page_end; offset += cluster_size) {
      const uint64_t entry = mapping_.entry(**page, offset);
      const uint64_t zeroed = zeroed_entry(entry, flags.may_unmap);
      if (zeroed == entry) {
        continue;
      }
      if ((zeroed & kEntryOffsetMask) == 0) {
        free_entry(entry, FreeCause::kRequest);
      }
      mapping_.set_entry(**page, offset, zeroed);
    }
  }
  co_return Result<void>{};
}

// The entry of a discarded cluster. It reads as zeroes afterwards, or, in version 2 without a
// backing file, is unallocated, which is the same.
uint64_t Qcow2Driver::discarded_entry(uint64_t entry) const {
  const bool has_zero_flag = image_.header().version >= 3;
  switch (classify(entry)) {
    case ClusterKind::kUnallocated:
      return hides_backing() && has_zero_flag ? kEntryZero : entry;
    case ClusterKind::kZeroPlain:
      return entry;
    case ClusterKind::kData:
    case ClusterKind::kZeroAllocated:
      if (discard_no_unref_ && has_zero_flag && (entry & kEntryCopied) != 0) {
        return entry | kEntryZero;
      }
      break;
    case ClusterKind::kCompressed:
      break;
  }
  return has_zero_flag ? kEntryZero : 0;
}

io::Task<Result<void>> Qcow2Driver::discard(uint64_t offset, uint64_t length) {
  if (image_.header().version < 3 && hides_backing()) {
    // The backing file's old data would show again.
    co_return fail(ENOTSUP, "qcow2 version 2 can not discard over a backing file");
  }
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t end = offset + length;
  while (offset < end) {
    if (!mapping_.has_table(offset) && !hides_backing()) {
      offset = std::min(end, mapping_.table_end(offset));
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
    const uint64_t page_end = std::min(end, mapping_.page_end(offset));
    for (; offset < page_end; offset += cluster_size) {
      const uint64_t entry = mapping_.entry(**page, offset);
      const uint64_t discarded = discarded_entry(entry);
      if (discarded == entry) {
        continue;
      }
      if ((discarded & kEntryOffsetMask) == 0) {
        free_entry(entry, FreeCause::kRequest);
      }
      mapping_.set_entry(**page, offset, discarded);
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::qcow2
