// Refcounts: new refcount blocks, a larger refcount table, and writing both out in order.
#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {

using block::fault_point;
using block::FaultPoint;

// New space behind everything that is counted: first the refcount blocks that count the region
// itself, then the clusters asked for, then, if need be, a larger refcount table.
struct Refcounts::Region {
  uint64_t first_block = 0;  // table index of the first new block
  uint64_t blocks = 0;
  uint64_t clusters = 0;
  uint64_t table_clusters = 0;  // 0: the table is large enough
};

Result<Refcounts::Region> Refcounts::plan_region(uint64_t clusters) const {
  Region region{.clusters = clusters};
  const auto last = std::find_if(table_.rbegin(), table_.rend(), [](uint64_t e) { return e != 0; });
  region.first_block = static_cast<uint64_t>(table_.rend() - last);
  const uint64_t entries_per_cluster = geometry_.cluster_size() / kRefcountTableEntryBytes;
  const uint64_t most = kMaxRefcountTableBytes / kRefcountTableEntryBytes;
  // Each of the two counts depends on the other; both only grow, so this ends.
  for (;;) {
    const uint64_t total = region.blocks + clusters + region.table_clusters;
    const uint64_t blocks = std::max<uint64_t>(1, div_round_up(total, block_entries_));
    const uint64_t entries = region.first_block + blocks;
    uint64_t table_clusters = region.table_clusters;
    if (entries > most) {
      return fail(EFBIG, "qcow2: the refcount table of '{}' can not grow any more",
                  image_.node().name());
    }
    if (entries > table_.size()) {
      // Half as much again, so that moving the table stays rare.
      const uint64_t roomy = std::min(most, std::max(entries, table_.size() * 3 / 2));
      table_clusters = std::max(table_clusters, div_round_up(roomy, entries_per_cluster));
    }
    if (blocks == region.blocks && table_clusters == region.table_clusters) {
      break;
    }
    region.blocks = blocks;
    region.table_clusters = table_clusters;
  }
  const uint64_t end = (region.first_block + region.blocks) * block_entries_;
  if (end > kMaxHostOffset >> geometry_.cluster_bits) {
    return fail(EFBIG, "qcow2: the image file can not grow beyond 2^56 bytes");
  }
  return region;
}

// Makes blocks of which the first clusters they count are the blocks themselves.
io::Task<Result<void>> Refcounts::add_blocks(uint64_t block, uint64_t count) {
  const uint64_t first = block * block_entries_;
  const uint64_t offset = first << geometry_.cluster_bits;
  const uint64_t length = count << geometry_.cluster_bits;
  if (offset + length > kMaxHostOffset) {
    co_return fail(EFBIG, "qcow2: the image file can not grow beyond 2^56 bytes");
  }
  if (image_.guard().protects(offset, length)) {
    co_return std::unexpected(
        co_await image_.overlap(offset, length, MetadataKind::kRefcountBlock));
  }
  // The table gets an entry for each.
  Result<void> clear =
      co_await image_.may_write(MetadataKind::kRefcountTable, table_offset_, table_length());
  if (!clear) {
    co_return clear;
  }
  co_await fault_point(image_.file(), FaultPoint::kRefblockAllocWrite);
  Result<void> zeroed = co_await image_.file().write_zeroes(offset, length);
  if (!zeroed) {
    co_return zeroed;
  }
  for (uint64_t i = 0; i < count; ++i) {
    table_[block + i] = offset + (i << geometry_.cluster_bits);
    unlinked_[block + i] = false;
  }
  image_.guard().protect(MetadataKind::kRefcountBlock, offset, length);
  Result<void> set = co_await set_used(first, count);
  if (!set) {
    // A write-out holds on to the pages that it writes.
    const auto lock = co_await writeout_.lock();
    forget_blocks(block, count);
    co_return set;
  }
  for (uint64_t i = 0; i < count; ++i) {
    unlinked_[block + i] = true;
  }
  taken(first, count);
  co_return Result<void>{};
}

// Goes back to a table of `entries` after it could not be moved. Only blocks that the table on disk
// has no room for go: others are complete and may be linked already. What they count of the failed
// attempt is leaked.
void Refcounts::drop_unreachable_blocks(std::size_t entries) {
  for (std::size_t block = entries; block < table_.size(); ++block) {
    if (table_[block] != 0) {
      forget_blocks(block, 1);
    }
  }
  table_.resize(entries);
  pages_.set_table_count(entries);
}

// Undoes add_blocks() for blocks that are not linked and count nothing that is in use.
void Refcounts::forget_blocks(uint64_t block, uint64_t count) {
  for (uint64_t i = block; i < block + count; ++i) {
    image_.guard().unprotect(MetadataKind::kRefcountBlock, table_[i], geometry_.cluster_size());
    pages_.drop_table(i);
    table_[i] = 0;
    unlinked_.erase(i);
  }
}

io::Task<Result<uint64_t>> Refcounts::extend(uint64_t clusters) {
  Result<Region> planned = plan_region(clusters);
  if (!planned) {
    co_return pass(planned);
  }
  const Region region = *planned;
  const std::size_t old_entries = table_.size();
  if (region.table_clusters != 0) {
    co_await fault_point(image_.file(), FaultPoint::kReftableGrow);
    table_.resize(region.table_clusters * geometry_.cluster_size() / kRefcountTableEntryBytes);
    pages_.set_table_count(table_.size());
  }
  const uint64_t first = region.first_block * block_entries_ + region.blocks;
  Result<void> result = co_await add_blocks(region.first_block, region.blocks);
  if (result) {
    result = co_await set_used(first, clusters + region.table_clusters);
    if (result && region.table_clusters != 0) {
      const uint64_t offset = (first + clusters) << geometry_.cluster_bits;
      result = co_await move_table(offset, region.table_clusters);
    }
  }
  if (!result) {
    if (region.table_clusters != 0) {
      const auto lock = co_await writeout_.lock();
      drop_unreachable_blocks(old_entries);
    }
    co_return pass(result);
  }
  taken(first, clusters + region.table_clusters);
  co_return first << geometry_.cluster_bits;
}

// Puts the table, as it is in memory, to a new place of `clusters` clusters that are counted
// already. Everything it refers to is made durable first; then the header's sector switches.
io::Task<Result<void>> Refcounts::move_table(uint64_t host_offset, uint64_t clusters) {
  const auto lock = co_await writeout_.lock();
  Result<DirtyPages> taken_pages = pages_.take_dirty();
  if (!taken_pages) {
    co_return pass(taken_pages);
  }
  std::vector<std::byte> raw(clusters << geometry_.cluster_bits);
  for (std::size_t i = 0; i < table_.size(); ++i) {
    store_be<uint64_t>(raw.data() + i * kRefcountTableEntryBytes, table_[i]);
  }
  co_await fault_point(image_.file(), FaultPoint::kRefblockAllocWriteBlocks);
  Result<void> result = co_await pages_.write(*taken_pages);
  if (result) {
    co_await fault_point(image_.file(), FaultPoint::kRefblockAllocWriteTable);
    result = co_await image_.file().write(host_offset, raw.data(), raw.size());
  }
  if (result) {
    result = co_await image_.file().flush();
  }
  pages_.settle(*taken_pages, result.has_value());
  if (!result) {
    co_return result;
  }
  std::function<void(Header&)> change = [host_offset, clusters](Header& header) {
    header.refcount_table_offset = host_offset;
    header.refcount_table_clusters = static_cast<uint32_t>(clusters);
  };
  const uint64_t old_clusters = image_.header().refcount_table_clusters;
  co_await fault_point(image_.file(), FaultPoint::kRefblockAllocSwitchTable);
  result = co_await image_.update_header(std::move(change));
  if (!result) {
    co_return result;
  }
  unlinked_.clear();
  const uint64_t old_offset = std::exchange(table_offset_, host_offset);
  image_.guard().protect(MetadataKind::kRefcountTable, host_offset,
                         clusters << geometry_.cluster_bits);
  image_.guard().unprotect(MetadataKind::kRefcountTable, old_offset,
                           old_clusters << geometry_.cluster_bits);
  // A table that can not be given back is a leak, and no reason to fail.
  const Result<void> released = co_await release_locked(old_offset, old_clusters);
  static_cast<void>(released);
  co_return Result<void>{};
}

io::Task<Result<void>> Refcounts::write_out(Writeout& out) {
  Result<DirtyPages> pages = pages_.take_dirty();
  if (!pages) {
    co_return pass(pages);
  }
  out.pages = std::move(*pages);
  // Blocks that wait for a larger table are linked when the table moves.
  const uint64_t entries_on_disk =
      image_.header().refcount_table_clusters * geometry_.cluster_size() / kRefcountTableEntryBytes;
  for (const auto& [block, complete] : unlinked_) {
    if (complete && block < entries_on_disk) {
      out.linked.push_back(block);
    }
  }
  Result<void> result;
  if (!out.pages.empty()) {
    co_await fault_point(image_.file(), FaultPoint::kRefblockUpdate);
    result = co_await pages_.write(out.pages);
  }
  if (result && !out.linked.empty()) {
    result = co_await image_.file().flush();
    if (result) {
      co_await fault_point(image_.file(), FaultPoint::kRefblockAllocHookup);
      result = co_await write_table_sectors(out.linked);
    }
  }
  co_return result;
}

void Refcounts::finish(Writeout& out, bool success) {
  pages_.settle(out.pages, success);
  if (success) {
    for (const uint64_t block : out.linked) {
      unlinked_.erase(block);
    }
  }
  out.linked.clear();
}

// Writes the sectors of the table that hold the entries `linked` (sorted). Other entries in them
// whose blocks are not durable yet stay empty on disk.
io::Task<Result<void>> Refcounts::write_table_sectors(const std::vector<uint64_t>& linked) {
  constexpr uint64_t kEntries = PageCache::kSector / kRefcountTableEntryBytes;
  std::array<std::byte, PageCache::kSector> sector{};
  for (std::size_t i = 0; i < linked.size();) {
    const uint64_t begin = align_down(linked[i], kEntries);
    for (uint64_t entry = begin; entry < begin + kEntries; ++entry) {
      const bool durable =
          !unlinked_.contains(entry) || std::binary_search(linked.begin(), linked.end(), entry);
      store_be<uint64_t>(sector.data() + (entry - begin) * kRefcountTableEntryBytes,
                         durable ? table_[entry] : 0);
    }
    co_await fault_point(image_.file(), FaultPoint::kReftableUpdate);
    Result<void> written = co_await image_.file().write(
        table_offset_ + begin * kRefcountTableEntryBytes, sector.data(), sector.size());
    if (!written) {
      co_return written;
    }
    while (i < linked.size() && linked[i] < begin + kEntries) {
      ++i;
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::qcow2
