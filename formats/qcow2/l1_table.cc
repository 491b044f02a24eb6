// Mapping: writing L2 and L1 tables out in order, and moving the L1 table.
#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/mapping.h"

namespace cairn::qcow2 {

using block::fault_point;
using block::FaultPoint;

uint64_t Mapping::l1_on_disk(uint64_t index) const {
  const auto pending = l1_pending_.find(index);
  return pending == l1_pending_.end() ? l1_[index] : pending->second;
}

Result<void> Mapping::take(Writeout& out) {
  auto pages = pages_.take_dirty();
  if (!pages) {
    return pass(pages);
  }
  out.pages = std::move(*pages);
  for (const auto& [index, old_entry] : l1_pending_) {
    out.l1.emplace(index, l1_[index]);
  }
  return {};
}

io::Task<Result<void>> Mapping::write_tables(Writeout& out) {
  if (out.pages.empty()) {
    co_return Result<void>{};
  }
  co_return co_await pages_.write(out.pages);
}

// Writes the sectors of the table that hold these entries, as they were when they were taken: one
// that has changed since may lead to a table that the flush before did not cover. Other entries in
// the sectors that are not to be seen yet are written as they are on disk now.
io::Task<Result<void>> Mapping::write_l1(const Writeout& out) {
  constexpr uint64_t kEntries = PageCache::kSector / kL1EntryBytes;
  std::array<std::byte, PageCache::kSector> sector{};
  for (auto next = out.l1.begin(); next != out.l1.end();) {
    const uint64_t begin = align_down(next->first, kEntries);
    // The table may end within its last sector; the rest of its cluster is unused.
    sector.fill(std::byte{0});
    const uint64_t end = std::min<uint64_t>(begin + kEntries, l1_.size());
    for (uint64_t index = begin; index < end; ++index) {
      const auto due = out.l1.find(index);
      store_be<uint64_t>(sector.data() + (index - begin) * kL1EntryBytes,
                         due != out.l1.end() ? due->second : l1_on_disk(index));
    }
    co_await fault_point(image_.file(), FaultPoint::kL1Update);
    Result<void> written = co_await image_.file().write(l1_offset_ + begin * kL1EntryBytes,
                                                        sector.data(), sector.size());
    if (!written) {
      co_return written;
    }
    next = out.l1.lower_bound(begin + kEntries);
  }
  co_return Result<void>{};
}

void Mapping::finish(Writeout& out, bool success) {
  pages_.settle(out.pages, success);
  if (success) {
    for (const auto& [index, written] : out.l1) {
      if (l1_[index] == written) {
        l1_pending_.erase(index);
      } else {
        l1_pending_[index] = written;  // it has changed again, and is the next run's
      }
    }
  }
  out.l1.clear();
}

io::Task<Result<void>> Mapping::grow_l1(uint64_t entries, uint64_t size) {
  const uint64_t bytes = entries * kL1EntryBytes;
  if (bytes > kMaxL1Bytes) {
    co_return fail_errno(EFBIG, "Failed to grow the L1 table");
  }
  if (entries <= l1_.size()) {
    std::function<void(Header&)> change = [size](Header& header) { header.size = size; };
    Result<void> resized = co_await image_.update_header(std::move(change));
    if (!resized) {
      co_return fail_errno(resized.error().code(), "Failed to update the image size");
    }
    co_return resized;
  }
  Result<void> moved = co_await move_l1(entries, size);
  if (!moved) {
    co_return fail_errno(moved.error().code(), "Failed to grow the L1 table");
  }
  co_return moved;
}

io::Task<Result<void>> Mapping::move_l1(uint64_t entries, uint64_t size) {
  const uint64_t clusters = div_round_up(entries * kL1EntryBytes, image_.cluster_size());
  co_await fault_point(image_.file(), FaultPoint::kL1GrowAllocTable);
  Result<uint64_t> allocated = co_await refcounts_.allocate_contiguous(clusters);
  if (!allocated) {
    co_return pass(allocated);
  }
  const uint64_t new_offset = *allocated;
  const uint64_t old_offset = l1_offset_;
  const uint64_t old_clusters = div_round_up(l1_.size() * kL1EntryBytes, image_.cluster_size());
  Result<void> result;
  {
    const auto lock = co_await writeout_.lock();
    // The clusters of the new table must be counted on disk before the header names them.
    Refcounts::Writeout counts;
    result = co_await refcounts_.write_out(counts);
    std::vector<std::byte> raw(clusters << cluster_bits_);
    for (uint64_t i = 0; i < l1_.size(); ++i) {
      store_be<uint64_t>(raw.data() + i * kL1EntryBytes, l1_on_disk(i));
    }
    if (result) {
      co_await fault_point(image_.file(), FaultPoint::kL1GrowWriteTable);
      result = co_await image_.file().write(new_offset, raw.data(), raw.size());
    }
    if (result) {
      result = co_await image_.file().flush();
    }
    refcounts_.finish(counts, result.has_value());
    if (result) {
      std::function<void(Header&)> change = [=](Header& header) {
        header.size = size;
        header.l1_size = static_cast<uint32_t>(entries);
        header.l1_table_offset = new_offset;
      };
      co_await fault_point(image_.file(), FaultPoint::kL1GrowActivateTable);
      result = co_await image_.update_header(std::move(change));
    }
    if (result) {
      l1_offset_ = new_offset;
      l1_.resize(entries);
      pages_.set_table_count(entries);
    }
  }
  const uint64_t unused = result ? old_offset : new_offset;
  const uint64_t unused_clusters = result ? old_clusters : clusters;
  if (result) {
    OverlapGuard& guard = image_.guard();
    guard.protect(MetadataKind::kActiveL1, new_offset, clusters << cluster_bits_);
    guard.unprotect(MetadataKind::kActiveL1, old_offset, old_clusters << cluster_bits_);
  }
  // While either table may be the one that the header on disk names, both stay.
  if (unused != 0 && !image_.header_unknown()) {
    // What can not be given back is a leak, and no reason to fail.
    const Result<void> released = co_await refcounts_.release(unused, unused_clusters);
    static_cast<void>(released);
  }
  co_return result;
}

void Mapping::drop_table(uint64_t index) {
  const uint64_t offset = table_offset(index);
  if (offset == 0) {
    return;
  }
  pages_.drop_table(index);
  l1_pending_.try_emplace(index, l1_[index]);
  l1_[index] = 0;
  image_.guard().unprotect(MetadataKind::kActiveL2, offset, image_.cluster_size());
  reclaim_.queue({.host_offset = offset, .clusters = 1, .cause = FreeCause::kOther});
}

void Mapping::adopt_l1(std::vector<uint64_t> l1, uint64_t offset) {
  assert(!dirty());
  OverlapGuard& guard = image_.guard();
  guard.unprotect(MetadataKind::kActiveL1, l1_offset_, l1_.size() * kL1EntryBytes);
  for (uint64_t i = 0; i < l1_.size(); ++i) {
    const uint64_t old_offset = table_offset(i);
    if (old_offset == 0) {
      continue;
    }
    guard.unprotect(MetadataKind::kActiveL2, old_offset, image_.cluster_size());
    if (i >= l1.size() || (l1[i] & kEntryOffsetMask) != old_offset) {
      pages_.drop_table(i);
    }
  }
  l1_ = std::move(l1);
  l1_offset_ = offset;
  pages_.set_table_count(l1_.size());
  guard.protect(MetadataKind::kActiveL1, l1_offset_, l1_.size() * kL1EntryBytes);
  for (uint64_t i = 0; i < l1_.size(); ++i) {
    if (table_offset(i) != 0) {
      guard.protect(MetadataKind::kActiveL2, table_offset(i), image_.cluster_size());
    }
  }
}

}  // namespace cairn::qcow2
