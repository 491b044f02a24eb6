#include "formats/qcow2/refcounts.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"

namespace cairn::qcow2 {

using block::fault_point;
using block::FaultPoint;

namespace {

constexpr std::size_t kMostFreedRemembered = 64 << 10;

}  // namespace

uint64_t load_refcount(const std::byte* bytes, uint32_t order, uint64_t index) {
  switch (order) {
    case 3:
      return load_be<uint8_t>(bytes + index);
    case 4:
      return load_be<uint16_t>(bytes + 2 * index);
    case 5:
      return load_be<uint32_t>(bytes + 4 * index);
    case 6:
      return load_be<uint64_t>(bytes + 8 * index);
    default: {
      // Narrower than a byte: the lowest bits of a byte come first.
      const uint64_t bit = index << order;
      const auto byte = static_cast<uint64_t>(bytes[bit / 8]);
      return (byte >> (bit % 8)) & ((uint64_t{1} << (1u << order)) - 1);
    }
  }
}

void store_refcount(std::byte* bytes, uint32_t order, uint64_t index, uint64_t value) {
  switch (order) {
    case 3:
      store_be(bytes + index, static_cast<uint8_t>(value));
      return;
    case 4:
      store_be(bytes + 2 * index, static_cast<uint16_t>(value));
      return;
    case 5:
      store_be(bytes + 4 * index, static_cast<uint32_t>(value));
      return;
    case 6:
      store_be(bytes + 8 * index, value);
      return;
    default: {
      const uint64_t bit = index << order;
      const uint64_t mask = (uint64_t{1} << (1u << order)) - 1;
      const auto byte = static_cast<uint64_t>(bytes[bit / 8]);
      bytes[bit / 8] =
          static_cast<std::byte>((byte & ~(mask << (bit % 8))) | ((value & mask) << (bit % 8)));
    }
  }
}

Refcounts::Refcounts(Image& image, io::AsyncMutex& writeout, uint64_t cache_bytes)
    : image_(image),
      writeout_(writeout),
      geometry_(image.geometry()),
      pages_(image.file(), *this, {FaultPoint::kRefblockLoad, FaultPoint::kRefblockUpdatePart},
             geometry_.cluster_size(), cache_bytes,
             std::min<uint64_t>(geometry_.cluster_size(), PageCache::kDefaultPage)),
      block_entries_(geometry_.refcount_block_entries()),
      page_entries_(uint64_t{pages_.page_size()} * 8 >> geometry_.refcount_order),
      table_offset_(image.header().refcount_table_offset) {}

Refcounts::~Refcounts() = default;

io::Task<Result<void>> Refcounts::load() {
  const uint64_t entries =
      image_.header().refcount_table_clusters * geometry_.cluster_size() / kRefcountTableEntryBytes;
  std::vector<std::byte> raw(entries * kRefcountTableEntryBytes);
  co_await fault_point(image_.file(), FaultPoint::kReftableLoad);
  Result<void> read = co_await read_metadata(image_.file(), table_offset_, raw);
  if (!read) {
    co_return fail_errno(read.error().code(), "Could not initialize refcount handling");
  }
  table_.resize(entries);
  for (uint64_t i = 0; i < entries; ++i) {
    table_[i] =
        load_be<uint64_t>(raw.data() + i * kRefcountTableEntryBytes) & kRefcountTableOffsetMask;
    const bool plausible = table_[i] != 0 && table_[i] < INT64_MAX - block_entries_;
    if (plausible) {
      image_.guard().protect(MetadataKind::kRefcountBlock, table_[i], geometry_.cluster_size());
    }
  }
  pages_.set_table_count(entries);
  note_file_end(image_.file().length());
  co_return Result<void>{};
}

void Refcounts::note_file_end(uint64_t offset) {
  high_water_ = std::max(high_water_, align_up(offset, geometry_.cluster_size()));
}

// The page that holds a cluster's count. The block must exist.
io::Task<Result<PagePin>> Refcounts::page_of(uint64_t cluster) {
  const uint64_t block = block_of(cluster);
  const uint64_t offset = table_[block];
  if (!is_aligned(offset, geometry_.cluster_size()) || offset > INT64_MAX - block_entries_) {
    std::string message = fmt::format("Refblock offset {} unaligned (reftable index: {})",
                                      c_hex(offset), c_hex(block));
    co_return std::unexpected(co_await image_.corrupt(std::move(message)));
  }
  if (image_.guard().contested(offset, geometry_.cluster_size())) {
    co_return std::unexpected(
        co_await image_.overlap(offset, geometry_.cluster_size(), MetadataKind::kRefcountBlock));
  }
  const auto index = static_cast<uint32_t>(cluster % block_entries_ / page_entries_);
  co_return co_await pages_.get(block, index);
}

void Refcounts::set(Page& page, uint64_t cluster, uint64_t value) {
  const uint64_t index = in_page(cluster);
  store_refcount(page.data(), geometry_.refcount_order, index, value);
  const uint32_t width = std::max(1u, geometry_.refcount_bits() / 8);
  pages_.mark_dirty(page, static_cast<uint32_t>((index << geometry_.refcount_order) / 8), width);
}

io::Task<Result<uint64_t>> Refcounts::get(uint64_t cluster) {
  const uint64_t block = block_of(cluster);
  if (block >= table_.size() || table_[block] == 0) {
    co_return uint64_t{0};
  }
  Result<PagePin> page = co_await page_of(cluster);
  if (!page) {
    co_return pass(page);
  }
  co_return load_refcount((*page)->data(), geometry_.refcount_order, in_page(cluster));
}

// Books clusters whose counts were just set.
Refcounts::Allocation Refcounts::taken(uint64_t cluster, uint64_t count) {
  const uint64_t offset = cluster << geometry_.cluster_bits;
  const uint64_t end = (cluster + count) << geometry_.cluster_bits;
  const bool fresh = offset >= high_water_;
  high_water_ = std::max(high_water_, end);
  return {.host_offset = offset, .clusters = count, .reads_zero = fresh};
}

io::Task<Result<Refcounts::Allocation>> Refcounts::allocate(uint64_t clusters) {
  co_await fault_point(image_.file(), FaultPoint::kClusterAlloc);
  const auto lock = co_await mutex_.lock();
  co_return co_await allocate_locked(clusters);
}

io::Task<Result<void>> Refcounts::ensure_block(uint64_t cluster) {
  co_await fault_point(image_.file(), FaultPoint::kRefblockAlloc);
  const uint64_t block = block_of(cluster);
  if (block >= table_.size()) {
    Result<uint64_t> extended = co_await extend(0);
    if (!extended) {
      co_return pass(extended);
    }
  } else if (table_[block] == 0) {
    co_return co_await add_blocks(block, 1);
  }
  co_return Result<void>{};
}

io::Task<Result<Refcounts::Allocation>> Refcounts::allocate_locked(uint64_t clusters) {
  for (;;) {
    const bool reuse = !freed_.empty();
    uint64_t first = reuse ? *freed_.begin() : hint_;
    Result<void> ready = co_await ensure_block(first);
    if (!ready) {
      co_return pass(ready);
    }
    if (block_of(first) >= table_.size()) {
      continue;  // the table has grown, but not yet far enough
    }
    Result<PagePin> pin = co_await page_of(first);
    if (!pin) {
      co_return pass(pin);
    }
    Page& page = **pin;
    const uint64_t page_end = align_down(first, page_entries_) + page_entries_;
    const auto used = [&](uint64_t cluster) {
      return load_refcount(page.data(), geometry_.refcount_order, in_page(cluster)) != 0;
    };
    while (!reuse && first < page_end && used(first)) {
      ++first;
    }
    if (first == page_end || used(first)) {
      reuse ? void(freed_.erase(first)) : void(hint_ = first);
      continue;
    }
    uint64_t count = 1;
    while (count < clusters && first + count < page_end && !used(first + count)) {
      ++count;
    }
    const uint64_t offset = first << geometry_.cluster_bits;
    if (image_.guard().protects(offset, count << geometry_.cluster_bits)) {
      co_return std::unexpected(co_await image_.overlap(offset, count << geometry_.cluster_bits));
    }
    if (first + count > kMaxHostOffset >> geometry_.cluster_bits) {
      co_return fail(EFBIG, "qcow2: the image file can not grow beyond 2^56 bytes");
    }
    for (uint64_t i = 0; i < count; ++i) {
      set(page, first + i, 1);
      freed_.erase(first + i);
    }
    if (first >= hint_) {
      hint_ = first + count;
    }
    co_return taken(first, count);
  }
}

// Remembers a cluster whose count has become 0.
void Refcounts::note_freed(uint64_t cluster) {
  if (cluster >= hint_) {
    return;  // the search has not been there yet
  }
  if (freed_.size() < kMostFreedRemembered) {
    freed_.insert(cluster);
  } else {
    hint_ = cluster;
    freed_.erase(freed_.lower_bound(cluster), freed_.end());
  }
}

// The first of `clusters` free clusters in a row that existing blocks cover.
io::Task<Result<std::optional<uint64_t>>> Refcounts::find_run(uint64_t clusters) {
  uint64_t run = 0;
  uint64_t cluster = 0;
  const uint64_t end = table_.size() * block_entries_;
  while (cluster < end) {
    if (table_[block_of(cluster)] == 0) {
      run = 0;
      cluster = align_down(cluster, block_entries_) + block_entries_;
      continue;
    }
    Result<PagePin> pin = co_await page_of(cluster);
    if (!pin) {
      co_return pass(pin);
    }
    const uint64_t page_end = align_down(cluster, page_entries_) + page_entries_;
    for (; cluster < page_end; ++cluster) {
      const bool used =
          load_refcount((*pin)->data(), geometry_.refcount_order, in_page(cluster)) != 0;
      run = used ? 0 : run + 1;
      if (run == clusters) {
        co_return cluster + 1 - clusters;
      }
    }
  }
  co_return std::optional<uint64_t>();
}

io::Task<Result<void>> Refcounts::set_used(uint64_t cluster, uint64_t count) {
  const uint64_t end = cluster + count;
  while (cluster < end) {
    Result<PagePin> pin = co_await page_of(cluster);
    if (!pin) {
      co_return pass(pin);
    }
    const uint64_t page_end = align_down(cluster, page_entries_) + page_entries_;
    for (; cluster < std::min(end, page_end); ++cluster) {
      set(**pin, cluster, 1);
    }
  }
  co_return Result<void>{};
}

io::Task<Result<uint64_t>> Refcounts::allocate_contiguous(uint64_t clusters) {
  co_await fault_point(image_.file(), FaultPoint::kClusterAlloc);
  const auto lock = co_await mutex_.lock();
  if (clusters == 1) {
    Result<Allocation> one = co_await allocate_locked(1);
    if (!one) {
      co_return pass(one);
    }
    co_return one->host_offset;
  }
  co_await fault_point(image_.file(), FaultPoint::kRefblockAlloc);
  Result<std::optional<uint64_t>> found = co_await find_run(clusters);
  if (!found) {
    co_return pass(found);
  }
  if (!found->has_value()) {
    co_return co_await extend(clusters);
  }
  const uint64_t first = **found;
  const uint64_t offset = first << geometry_.cluster_bits;
  if (image_.guard().protects(offset, clusters << geometry_.cluster_bits)) {
    co_return std::unexpected(co_await image_.overlap(offset, clusters << geometry_.cluster_bits));
  }
  Result<void> set = co_await set_used(first, clusters);
  if (!set) {
    co_return pass(set);
  }
  co_return taken(first, clusters).host_offset;
}

io::Task<Result<void>> Refcounts::release(uint64_t host_offset, uint64_t clusters) {
  co_await fault_point(image_.file(), FaultPoint::kClusterFree);
  const auto lock = co_await mutex_.lock();
  co_return co_await release_locked(host_offset, clusters);
}

io::Task<Result<void>> Refcounts::release_locked(uint64_t host_offset, uint64_t clusters) {
  co_await fault_point(image_.file(), FaultPoint::kRefblockAlloc);
  const uint64_t first = host_offset >> geometry_.cluster_bits;
  for (uint64_t cluster = first; cluster < first + clusters; ++cluster) {
    const uint64_t block = block_of(cluster);
    uint64_t count = 0;
    if (block < table_.size() && table_[block] != 0) {
      Result<PagePin> pin = co_await page_of(cluster);
      if (!pin) {
        co_return pass(pin);
      }
      count = load_refcount((*pin)->data(), geometry_.refcount_order, in_page(cluster));
      if (count != 0) {
        set(**pin, cluster, count - 1);
      }
    }
    if (count == 0) {
      // The image said that the cluster is free while it was in use. Nothing is lost by leaving
      // it so, and a check will tell.
      co_return std::unexpected(counted_as_free(cluster));
    }
    if (count == 1) {
      seal_locked(cluster, cluster + 1);
      note_freed(cluster);
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::qcow2
