// Refcounts: how much is in use, and giving up blocks that count nothing but themselves.
#include <algorithm>
#include <cassert>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {

io::Task<Result<uint64_t>> Refcounts::count_used(uint64_t end) {
  const auto lock = co_await mutex_.lock();
  end = std::min<uint64_t>(end, table_.size() * block_entries_);
  uint64_t used = 0;
  for (uint64_t cluster = 0; cluster < end;) {
    if (table_[block_of(cluster)] == 0) {
      cluster = align_down(cluster, block_entries_) + block_entries_;
      continue;
    }
    Result<PagePin> page = co_await page_of(cluster);
    if (!page) {
      co_return pass(page);
    }
    const uint64_t page_end = std::min(end, align_down(cluster, page_entries_) + page_entries_);
    for (; cluster < page_end; ++cluster) {
      used += load_refcount((*page)->data(), geometry_.refcount_order, in_page(cluster)) != 0;
    }
  }
  co_return used;
}

// Whether a block lies among the clusters that it counts, and is the only one of them in use.
io::Task<Result<bool>> Refcounts::is_idle(uint64_t block) {
  const uint64_t own = table_[block] >> geometry_.cluster_bits;
  if (table_[block] == 0 || block_of(own) != block) {
    co_return false;
  }
  const uint64_t end = (block + 1) * block_entries_;
  for (uint64_t cluster = block * block_entries_; cluster < end;) {
    Result<PagePin> page = co_await page_of(cluster);
    if (!page) {
      co_return pass(page);
    }
    for (const uint64_t page_end = cluster + page_entries_; cluster < std::min(end, page_end);
         ++cluster) {
      const uint64_t count =
          load_refcount((*page)->data(), geometry_.refcount_order, in_page(cluster));
      if (count != (cluster == own ? 1 : 0)) {
        co_return false;
      }
    }
  }
  co_return true;
}

io::Task<Result<void>> Refcounts::drop_idle_blocks() {
  const auto lock = co_await mutex_.lock();
  const auto writing = co_await writeout_.lock();
  if (dirty()) {
    co_return Result<void>{};  // another time
  }
  std::vector<uint64_t> idle;
  for (uint64_t block = 0; block < table_.size(); ++block) {
    const Result<bool> found = co_await is_idle(block);
    if (!found) {
      co_return std::unexpected(found.error());
    }
    if (*found) {
      idle.push_back(block);
    }
  }
  if (idle.empty()) {
    co_return Result<void>{};
  }
  Result<void> result =
      co_await image_.may_write(MetadataKind::kRefcountTable, table_offset_, table_length());
  if (!result) {
    co_return result;
  }
  const std::vector<uint64_t> before = table_;
  for (const uint64_t block : idle) {
    table_[block] = 0;
  }
  result = co_await write_table_sectors(idle);
  if (result) {
    result = co_await image_.file().flush();
  }
  table_ = before;
  if (result) {
    forget_idle_blocks(idle);
  } else {
    // Who knows what the table on disk says: the next write-out links them again.
    for (const uint64_t block : idle) {
      unlinked_[block] = true;
    }
  }
  co_return result;
}

// They are not in the table on disk. The search for free clusters begins anew there.
void Refcounts::forget_idle_blocks(const std::vector<uint64_t>& blocks) {
  for (const uint64_t block : blocks) {
    forget_blocks(block, 1);
  }
  const uint64_t first = blocks.front() * block_entries_;
  hint_ = std::min(hint_, first);
  freed_.erase(freed_.lower_bound(first), freed_.end());
}

}  // namespace cairn::qcow2
