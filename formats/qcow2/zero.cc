// Qcow2Driver: zeroing and discarding whole clusters by their L2 entries.
//
// A raw external data file has to hold the zeroes itself: there, clusters with data stay so, and it
// is the data file that is zeroed.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

// The entry that makes a cluster read as zeroes. Without `may_unmap` a cluster keeps its space.
uint64_t Qcow2Driver::zeroed_entry(uint64_t entry, bool may_unmap) const {
  switch (image_.geometry().classify(entry)) {
    case ClusterKind::kData:
      if (image_.data_is_raw()) {
        return entry;
      }
      [[fallthrough]];
    case ClusterKind::kZeroAllocated:
      return may_unmap ? kEntryZero : entry | kEntryZero;
    case ClusterKind::kUnallocated:
    case ClusterKind::kZeroPlain:
    case ClusterKind::kCompressed:
      break;
  }
  return kEntryZero;
}

// The same for subclusters: those of the cluster at `offset` up to `end`, which may lie behind it.
Qcow2Driver::Entry Qcow2Driver::zeroed(Page& page, uint64_t offset, uint64_t end,
                                       bool may_unmap) const {
  const Geometry& geometry = image_.geometry();
  const uint64_t value = mapping_.entry(page, offset);
  if (!geometry.extended_l2()) {
    return {.value = zeroed_entry(value, may_unmap), .subclusters = {}};
  }
  const uint64_t cluster = align_down(offset, geometry.cluster_size());
  const auto index = [&](uint64_t at) {
    return static_cast<uint32_t>(div_round_up(at - cluster, geometry.subcluster_size()));
  };
  const uint32_t mask = SubclusterBitmap::range(
      index(offset), index(std::min(end, cluster + geometry.cluster_size())));
  const SubclusterBitmap old = mapping_.subclusters(page, offset);
  const uint32_t stays = image_.data_is_raw() ? old.data() : 0;
  const bool keep =
      (value & kEntryCompressed) == 0 && (!may_unmap || mask != kAllSubclusters || stays != 0);
  Entry entry{.value = keep ? value : 0, .subclusters = old};
  entry.subclusters.set_zero(mask & ~stays);
  return entry;
}

// Gives what the old entry refers to back unless the new one does.
void Qcow2Driver::replace_entry(Page& page, uint64_t offset, const Entry& entry, FreeCause cause) {
  const uint64_t old = mapping_.entry(page, offset);
  if (entry.value == old && entry.subclusters == mapping_.subclusters(page, offset)) {
    return;
  }
  if ((entry.value & kEntryOffsetMask) == 0) {
    free_entry(old, cause);
  }
  mapping_.set_entry(page, offset, entry.value, entry.subclusters);
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
  const uint64_t begin = offset;
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
    for (; offset < page_end; offset = align_down(offset, cluster_size) + cluster_size) {
      const bool whole = is_aligned(offset, cluster_size) &&
                         (end - offset >= cluster_size || end >= this->length());
      if (!whole && (mapping_.entry(**page, offset) & kEntryCompressed) != 0) {
        co_return fail(ENOTSUP, "Compressed clusters have no subclusters");
      }
      replace_entry(**page, offset, zeroed(**page, offset, end, flags.may_unmap),
                    FreeCause::kRequest);
    }
  }
  co_return co_await clear_data(begin, end, flags);
}

// The entry of a discarded cluster. It reads as zeroes afterwards, or, in version 2 without a
// backing file, is unallocated, which is the same.
uint64_t Qcow2Driver::discarded_entry(uint64_t entry) const {
  const bool has_zero_flag = image_.header().version >= 3;
  switch (image_.geometry().classify(entry)) {
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

// The same with subclusters.
Qcow2Driver::Entry Qcow2Driver::discarded(Page& page, uint64_t offset) const {
  const uint64_t value = mapping_.entry(page, offset);
  if (image_.data_is_raw()) {
    return {.value = value, .subclusters = mapping_.subclusters(page, offset)};
  }
  if (!image_.geometry().extended_l2()) {
    return {.value = discarded_entry(value), .subclusters = {}};
  }
  if (value == 0 && !hides_backing()) {
    return {.value = value, .subclusters = mapping_.subclusters(page, offset)};
  }
  const bool keep =
      discard_no_unref_ && image_.geometry().has_place(value) && (value & kEntryCopied) != 0;
  return {.value = keep ? value : 0, .subclusters = SubclusterBitmap::all_zero()};
}

io::Task<Result<void>> Qcow2Driver::discard(uint64_t offset, uint64_t length) {
  if (image_.header().version < 3 && hides_backing()) {
    // The backing file's old data would show again.
    co_return fail(ENOTSUP, "qcow2 version 2 can not discard over a backing file");
  }
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t begin = offset;
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
      replace_entry(**page, offset, discarded(**page, offset), FreeCause::kRequest);
    }
  }
  const block::ZeroFlags flags{.may_unmap = !discard_no_unref_, .no_fallback = true};
  Result<void> cleared = co_await clear_data(begin, end, flags);
  if (!cleared && cleared.error().code() == ENOTSUP) {
    cleared = {};  // it was advice
  }
  co_return cleared;
}

// What it means for an external data file that [begin, end) is zeroed, or discarded. Requests that
// could put something new there wait until this is done, so it must not be left for later.
//
// A power cut may leave the data file zeroed with the mapping as it was: it reads as zeroes, too.
io::Task<Result<void>> Qcow2Driver::clear_data(uint64_t begin, uint64_t end,
                                               block::ZeroFlags flags) {
  if (!image_.geometry().external_data) {
    co_return Result<void>{};
  }
  end = std::min(end, this->length());
  if (image_.data_is_raw()) {
    co_return co_await image_.data().write_zeroes(begin, end - begin, flags);
  }
  if (flags.may_unmap && reclaim_.punches(FreeCause::kRequest)) {
    const uint64_t cluster_size = image_.cluster_size();
    begin = align_up(begin, cluster_size);
    end = end == this->length() ? end : align_down(end, cluster_size);
    co_await discard_data(begin, end);
  }
  co_return Result<void>{};
}

// Nothing refers to [begin, end) of the external data file.
io::Task<void> Qcow2Driver::discard_data(uint64_t begin, uint64_t end) {
  end = std::min(end, image_.data().length());
  if (begin < end) {
    const Result<void> discarded = co_await image_.data().discard(begin, end - begin);
    static_cast<void>(discarded);  // it was advice
  }
}

}  // namespace cairn::qcow2
