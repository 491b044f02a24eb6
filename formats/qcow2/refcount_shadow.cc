// Refcounts: changing very many counts with one write of the header.
//
// The "copied" flags of the active tables say which counts are one, so a snapshot changes counts
// and flags together; a power cut must leave both as they were or both as they shall be. Blocks
// whose counts change are therefore copied to other clusters first. The header's sector names the
// refcount table and the L1 table, and so it switches all of it.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {

Error Refcounts::counted_as_free(uint64_t cluster) const {
  return {EINVAL, fmt::format("qcow2: cluster {} of '{}' is in use but counted as free", cluster,
                              image_.node().name())};
}

uint64_t Refcounts::block_count() const {
  return static_cast<uint64_t>(
      std::ranges::count_if(table_, [](uint64_t offset) { return offset != 0; }));
}

void Refcounts::begin_shadow(std::vector<uint64_t> spare) {
  assert(!dirty() && shadow_.empty());
  spare_ = std::move(spare);
  // Taken from the end: the lowest first.
  std::ranges::sort(spare_, std::greater<>());
}

io::Task<Result<void>> Refcounts::shadow_block(uint64_t block) {
  assert(!spare_.empty());
  auto copy = io::AlignedBuffer::allocate(geometry_.cluster_size());
  if (!copy) {
    co_return pass(copy);
  }
  const uint64_t old_offset = table_[block];
  Result<void> result = co_await read_metadata(image_.file(), old_offset, copy->span());
  if (result) {
    result = co_await image_.file().write(spare_.back(), copy->data(), copy->size());
  }
  if (result) {
    // Pages in memory hold the same as the copy, and are written there from now on.
    shadow_[block] = old_offset;
    table_[block] = spare_.back();
    spare_.pop_back();
  }
  co_return result;
}

// The page with a cluster's count, in a block that is a copy.
io::Task<Result<PagePin>> Refcounts::shadow_page(uint64_t cluster) {
  const uint64_t block = block_of(cluster);
  if (block >= table_.size() || table_[block] == 0) {
    co_return std::unexpected(counted_as_free(cluster));
  }
  Result<PagePin> page = co_await page_of(cluster);
  if (page && !shadow_.contains(block)) {
    Result<void> copied = co_await shadow_block(block);
    if (!copied) {
      co_return pass(copied);
    }
  }
  co_return page;
}

// Copies are nobody's yet, so their pages can be written whenever memory is short.
io::Task<Result<void>> Refcounts::relieve_shadow() {
  if (!pages_.pressed()) {
    co_return Result<void>{};
  }
  Result<DirtyPages> pages = pages_.take_dirty();
  if (!pages) {
    co_return pass(pages);
  }
  Result<void> written = co_await pages_.write(*pages);
  pages_.settle(*pages, written.has_value());
  co_return written;
}

io::Task<Result<void>> Refcounts::raise(ClusterRuns& runs) {
  runs.sort();
  for (const ClusterRun& run : runs.runs()) {
    const uint64_t end = run.first + run.count;
    for (uint64_t cluster = run.first; cluster < end;) {
      Result<void> room = co_await relieve_shadow();
      if (!room) {
        co_return room;
      }
      Result<PagePin> pin = co_await shadow_page(cluster);
      if (!pin) {
        co_return pass(pin);
      }
      const uint64_t page_end = align_down(cluster, page_entries_) + page_entries_;
      for (; cluster < std::min(end, page_end); ++cluster) {
        const uint64_t count =
            load_refcount((*pin)->data(), geometry_.refcount_order, in_page(cluster));
        if (count == 0) {
          co_return std::unexpected(counted_as_free(cluster));
        }
        if (count == geometry_.refcount_max()) {
          co_return fail(EINVAL,
                         "qcow2: a cluster of '{}' can not be shared once more: its reference "
                         "count has {} bits",
                         image_.node().name(), geometry_.refcount_bits());
        }
        set(**pin, cluster, count + 1);
      }
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Refcounts::lower(ClusterRuns& runs, Lowered& lowered) {
  runs.sort();
  for (const ClusterRun& run : runs.runs()) {
    const uint64_t end = run.first + run.count;
    for (uint64_t cluster = run.first; cluster < end;) {
      Result<void> room = co_await relieve_shadow();
      if (!room) {
        co_return room;
      }
      Result<PagePin> pin = co_await shadow_page(cluster);
      if (!pin) {
        co_return pass(pin);
      }
      const uint64_t page_end = align_down(cluster, page_entries_) + page_entries_;
      for (; cluster < std::min(end, page_end); ++cluster) {
        const uint64_t count =
            load_refcount((*pin)->data(), geometry_.refcount_order, in_page(cluster));
        if (count == 0 || (count == 1 && !lowered.gone.insert(cluster))) {
          co_return std::unexpected(counted_as_free(cluster));
        }
        if (count == 1) {
          lowered.freed.add(cluster);
          continue;
        }
        set(**pin, cluster, count - 1);
        if (count == 2) {
          lowered.sole.insert(cluster);
        }
      }
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Refcounts::write_shadow(uint64_t host_offset) {
  Result<DirtyPages> pages = pages_.take_dirty();
  if (!pages) {
    co_return pass(pages);
  }
  Result<void> result = co_await pages_.write(*pages);
  pages_.settle(*pages, result.has_value());
  if (!result) {
    co_return result;
  }
  std::vector<std::byte> raw(align_up(table_length(), geometry_.cluster_size()));
  for (std::size_t i = 0; i < table_.size(); ++i) {
    store_be<uint64_t>(raw.data() + i * kRefcountTableEntryBytes, table_[i]);
  }
  co_return co_await image_.file().write(host_offset, raw.data(), raw.size());
}

std::vector<uint64_t> Refcounts::end_shadow(bool adopted, uint64_t host_offset) {
  std::vector<uint64_t> unused = std::exchange(spare_, {});
  for (const auto& [block, old_offset] : shadow_) {
    if (adopted) {
      unused.push_back(old_offset);
      image_.guard().unprotect(MetadataKind::kRefcountBlock, old_offset, geometry_.cluster_size());
      image_.guard().protect(MetadataKind::kRefcountBlock, table_[block], geometry_.cluster_size());
    } else {
      pages_.drop_table(block);
      unused.push_back(std::exchange(table_[block], old_offset));
    }
  }
  if (adopted && !shadow_.empty()) {
    for (uint64_t at = 0; at < table_length(); at += geometry_.cluster_size()) {
      unused.push_back(table_offset_ + at);
    }
    image_.guard().unprotect(MetadataKind::kRefcountTable, table_offset_, table_length());
    table_offset_ = host_offset;
    image_.guard().protect(MetadataKind::kRefcountTable, table_offset_, table_length());
  }
  shadow_.clear();
  std::ranges::sort(unused);
  return unused;
}

}  // namespace cairn::qcow2
