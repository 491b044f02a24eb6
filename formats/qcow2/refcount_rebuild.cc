#include "formats/qcow2/refcount_rebuild.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/refcounts.h"
#include "io/buffer.h"

namespace cairn::qcow2 {

namespace {

// Blocks that lie behind one another are written together.
constexpr uint64_t kMostBytesAtOnce = 1 << 20;

Geometry with_order(Geometry geometry, uint32_t order) {
  geometry.refcount_order = order;
  return geometry;
}

}  // namespace

RefcountRebuild::RefcountRebuild(Image& image, References references, uint32_t order)
    : RefcountRebuild(image, references, order, {}) {}

RefcountRebuild::RefcountRebuild(Image& image, References references,
                                 std::span<const std::byte> snapshot_table)
    : RefcountRebuild(image, references, image.geometry().refcount_order, snapshot_table) {}

RefcountRebuild::RefcountRebuild(Image& image, References references, uint32_t order,
                                 std::span<const std::byte> snapshot_table)
    : image_(image),
      geometry_(with_order(image.geometry(), order)),
      references_(references),
      snapshot_table_(snapshot_table),
      snapshot_clusters_(div_round_up(snapshot_table.size(), geometry_.cluster_size())),
      old_length_(image.file().length()),
      start_(div_round_up(old_length_, geometry_.cluster_size())) {}

io::Task<Result<void>> RefcountRebuild::run() {
  if (auto planned = plan(); !planned) {
    co_return planned;
  }
  Result<void> written = co_await write();
  if (!written && !image_.header_unknown()) {
    // The header names the old structures, so nobody needs what has been written. If it can not be
    // cut off it does no harm either.
    const Result<void> cut = co_await image_.file().resize(old_length_);
    static_cast<void>(cut);
  }
  co_return written;
}

bool RefcountRebuild::is_beyond(uint64_t cluster) const {
  const auto next = references_.beyond.upper_bound(cluster);
  return next != references_.beyond.begin() && std::prev(next)->second > cluster;
}

bool RefcountRebuild::is_new(uint64_t cluster) const {
  return (cluster >= table_cluster_ && cluster < table_cluster_ + table_clusters_) ||
         (cluster >= snapshot_cluster_ && cluster < snapshot_cluster_ + snapshot_clusters_) ||
         std::binary_search(block_clusters_.begin(), block_clusters_.end(), cluster);
}

uint64_t RefcountRebuild::count_of(uint64_t cluster) const {
  if (cluster < start_) {
    const uint64_t all = references_.all.get(cluster);
    return std::min(all - references_.structure.get(cluster), geometry_.refcount_max());
  }
  // References to what has been behind the end of the file are to a hole in it now.
  return cluster < end_ && (is_new(cluster) || is_beyond(cluster)) ? 1 : 0;
}

// The indices of blocks that have something to count, sorted.
std::vector<uint64_t> RefcountRebuild::blocks_in_use() const {
  const uint64_t per_block = geometry_.refcount_block_entries();
  std::vector<uint64_t> blocks;
  uint64_t cluster = references_.all.next(0);
  while (cluster < start_) {
    if (count_of(cluster) != 0) {
      blocks.push_back(cluster / per_block);
      cluster = align_down(cluster, per_block) + per_block;
    } else {
      ++cluster;
    }
    cluster = references_.all.next(cluster);
  }
  return blocks;
}

// The first clusters in a row, at or after `from`, that nothing refers to.
uint64_t RefcountRebuild::find_row(uint64_t from, uint64_t clusters) const {
  uint64_t row = from;
  for (uint64_t at = from; at < row + clusters; ++at) {
    if (is_beyond(at)) {
      row = at + 1;
    }
  }
  return row;
}

// Looks for places, from start_ on, that nothing refers to: a row for each table, then the blocks.
void RefcountRebuild::place(uint64_t table_clusters, std::size_t blocks) {
  table_clusters_ = table_clusters;
  table_cluster_ = find_row(start_, table_clusters);
  snapshot_cluster_ = find_row(table_cluster_ + table_clusters, snapshot_clusters_);
  block_clusters_.clear();
  end_ = snapshot_cluster_ + snapshot_clusters_;
  while (block_clusters_.size() < blocks) {
    if (!is_beyond(end_)) {
      block_clusters_.push_back(end_);
    }
    ++end_;
  }
}

// More blocks need more room, which may need more blocks, until they count themselves, too.
Result<void> RefcountRebuild::plan() {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const std::vector<uint64_t> used = blocks_in_use();
  blocks_ = used;
  table_clusters_ = 1;
  for (;;) {
    place(table_clusters_, blocks_.size());
    std::vector<uint64_t> needed = used;
    for (uint64_t index = start_ / per_block; index <= (end_ - 1) / per_block; ++index) {
      if (needed.empty() || needed.back() < index) {
        needed.push_back(index);
      }
    }
    const uint64_t table_bytes = (needed.back() + 1) * kRefcountTableEntryBytes;
    if (table_bytes > kMaxRefcountTableBytes || end_ > kMaxHostOffset >> geometry_.cluster_bits) {
      return fail(EFBIG, "the image is too large");
    }
    const uint64_t clusters = div_round_up(table_bytes, geometry_.cluster_size());
    if (needed.size() == blocks_.size() && clusters <= table_clusters_) {
      blocks_ = std::move(needed);
      break;
    }
    blocks_ = std::move(needed);
    table_clusters_ = std::max(table_clusters_, clusters);
  }
  table_.assign(table_clusters_ * geometry_.cluster_size() / kRefcountTableEntryBytes, 0);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    table_[blocks_[i]] = block_clusters_[i] << geometry_.cluster_bits;
  }
  return {};
}

void RefcountRebuild::fill_block(uint64_t index, std::byte* bytes) const {
  const uint64_t per_block = geometry_.refcount_block_entries();
  std::fill_n(bytes, geometry_.cluster_size(), std::byte{0});
  const uint64_t end = (index + 1) * per_block;
  const auto store = [&](uint64_t cluster) {
    if (const uint64_t count = count_of(cluster); count != 0) {
      store_refcount(bytes, geometry_.refcount_order, cluster % per_block, count);
    }
  };
  for (uint64_t cluster = references_.all.next(index * per_block); cluster < std::min(end, start_);
       cluster = references_.all.next(cluster + 1)) {
    store(cluster);
  }
  for (uint64_t cluster = std::max(index * per_block, start_); cluster < std::min(end, end_);
       ++cluster) {
    store(cluster);
  }
}

io::Task<Result<void>> RefcountRebuild::write_blocks() {
  const uint64_t cluster_size = geometry_.cluster_size();
  const std::size_t most = std::max<uint64_t>(1, kMostBytesAtOnce / cluster_size);
  auto buffer = io::AlignedBuffer::allocate(most * cluster_size);
  if (!buffer) {
    co_return pass(buffer);
  }
  for (std::size_t i = 0; i < blocks_.size();) {
    std::size_t count = 0;
    while (count < most && i + count < blocks_.size() &&
           block_clusters_[i + count] == block_clusters_[i] + count) {
      fill_block(blocks_[i + count], buffer->data() + count * cluster_size);
      ++count;
    }
    Result<void> written = co_await image_.file().write(
        block_clusters_[i] << geometry_.cluster_bits, buffer->data(), count * cluster_size);
    if (!written) {
      co_return written;
    }
    i += count;
  }
  co_return Result<void>{};
}

io::Task<Result<void>> RefcountRebuild::write() {
  Result<void> result = co_await write_blocks();
  if (!result) {
    co_return result;
  }
  const uint64_t table_offset = table_cluster_ << geometry_.cluster_bits;
  std::vector<std::byte> raw(table_.size() * kRefcountTableEntryBytes);
  for (std::size_t i = 0; i < table_.size(); ++i) {
    store_be<uint64_t>(raw.data() + i * kRefcountTableEntryBytes, table_[i]);
  }
  result = co_await image_.file().write(table_offset, raw.data(), raw.size());
  const uint64_t snapshots_offset = snapshot_cluster_ << geometry_.cluster_bits;
  if (result && !snapshot_table_.empty()) {
    result = co_await image_.file().write(snapshots_offset, snapshot_table_.data(),
                                          snapshot_table_.size());
  }
  if (result) {
    result = co_await image_.file().flush();
  }
  if (!result) {
    co_return result;
  }
  const bool snapshots = !snapshot_table_.empty();
  const auto clusters = static_cast<uint32_t>(table_clusters_);
  const uint32_t order = geometry_.refcount_order;
  std::function<void(Header&)> change = [=](Header& header) {
    header.refcount_order = order;
    if (snapshots) {
      header.snapshots_offset = snapshots_offset;
    }
    header.refcount_table_offset = table_offset;
    header.refcount_table_clusters = clusters;
  };
  co_return co_await image_.update_header(std::move(change));
}

}  // namespace cairn::qcow2
