// The stored reference counts, compared with the references; the COPIED flags.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/page_cache.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {

namespace {

// An image can be made to contradict itself without end; nobody reads more than this.
constexpr uint64_t kMaxFindings = 10'000'000;

}  // namespace

io::Task<Result<void>> Checker::read_refcount_table() {
  const uint64_t bytes_per_cluster = geometry_.cluster_size();
  refcount_table_.reserve(header_.refcount_table_clusters * bytes_per_cluster /
                          kRefcountTableEntryBytes);
  std::vector<std::byte> bytes;
  for (uint32_t i = 0; i < header_.refcount_table_clusters; ++i) {
    Result<void> read = co_await read_table(header_.refcount_table_offset + i * bytes_per_cluster,
                                            bytes_per_cluster / kRefcountTableEntryBytes, bytes);
    if (!read) {
      co_return pass(read, "Could not read the refcount table: ");
    }
    for (std::size_t at = 0; at < bytes.size(); at += kRefcountTableEntryBytes) {
      refcount_table_.push_back(load_be<uint64_t>(bytes.data() + at));
    }
  }
  co_return Result<void>{};
}

Result<void> Checker::check_refcount_table() {
  auto counted = count(header_.refcount_table_offset,
                       header_.refcount_table_clusters * geometry_.cluster_size());
  for (uint64_t i = 0; i < refcount_table_.size() && counted; ++i) {
    const uint64_t entry = refcount_table_[i];
    const uint64_t offset = entry & kRefcountTableOffsetMask;
    const uint64_t cluster = offset >> geometry_.cluster_bits;
    if ((entry & ~kRefcountTableOffsetMask) != 0) {
      corruption(fmt::format("ERROR refcount table entry {} has reserved bits set", i));
    } else if (offset == 0) {
      continue;
    } else if (!is_aligned(offset, geometry_.cluster_size())) {
      corruption(fmt::format(
          "ERROR refcount block {} is not cluster aligned; refcount table entry corrupted", i));
    } else if (cluster >= file_clusters_) {
      corruption(fmt::format("ERROR refcount block {} is outside image", i));
    } else {
      counted = count(offset, geometry_.cluster_size());
      if (const uint64_t references = references_.get(cluster); counted && references != 1) {
        corruption(fmt::format("ERROR refcount block {} refcount={}", i, references));
      }
    }
  }
  return counted;
}

// False when the table entry can not be right.
io::Task<Result<bool>> Checker::load_block(uint64_t index) {
  if (block_index_ == index) {
    co_return block_readable_;
  }
  block_index_ = index;
  const uint64_t offset = refcount_table_[index] & kRefcountTableOffsetMask;
  block_readable_ = is_aligned(offset, geometry_.cluster_size());
  if (!block_readable_) {
    static_cast<void>(image_.damaged(
        fmt::format("Refblock offset {:#x} unaligned (reftable index: {})", offset, index)));
    co_return false;
  }
  const uint64_t entries = geometry_.cluster_size() / sizeof(uint64_t);
  // Without a block all its counts are zero.
  Result<void> read = co_await read_table(offset == 0 ? UINT64_MAX : offset, entries, block_);
  if (!read) {
    block_index_.reset();
    co_return pass(read, "Could not read a refcount block: ");
  }
  co_return true;
}

Result<void> Checker::check_effort() const {
  if (findings_ > kMaxFindings) {
    return fail(EFBIG, "The check was given up after {} findings", kMaxFindings);
  }
  return {};
}

io::Task<Result<void>> Checker::compare() {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t blocks =
      std::min<uint64_t>(refcount_table_.size(), div_round_up(file_clusters_, per_block));
  for (uint64_t index = 0; index < blocks; ++index) {
    const uint64_t first = index * per_block;
    if ((refcount_table_[index] & kRefcountTableOffsetMask) == 0) {
      compare_unread(first, std::min(first + per_block, file_clusters_));
    } else {
      Result<void> compared = co_await compare_block(index);
      if (!compared) {
        co_return compared;
      }
    }
    if (auto bearable = check_effort(); !bearable) {
      co_return bearable;
    }
  }
  compare_unread(blocks * per_block, file_clusters_);
  co_return check_effort();
}

// Clusters that no refcount block covers: their count is zero.
void Checker::compare_unread(uint64_t first, uint64_t end) {
  for (uint64_t cluster = references_.next(first); cluster < end && findings_ <= kMaxFindings;
       cluster = references_.next(cluster + 1)) {
    compare_cluster(cluster, 0);
  }
}

io::Task<Result<void>> Checker::compare_block(uint64_t index) {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t first = index * per_block;
  const uint64_t end = std::min(first + per_block, file_clusters_);
  const Result<bool> readable = co_await load_block(index);
  if (!readable) {
    co_return std::unexpected(readable.error());
  }
  for (uint64_t cluster = first; cluster < end && findings_ <= kMaxFindings; ++cluster) {
    if (*readable) {
      compare_cluster(cluster,
                      load_refcount(block_.data(), geometry_.refcount_order, cluster - first));
      continue;
    }
    ++findings_;
    ++result_.check_errors;
    report(fmt::format("Can't get refcount for cluster {}: Input/output error", cluster));
  }
  co_return Result<void>{};
}

void Checker::compare_cluster(uint64_t cluster, uint64_t stored) {
  using Flag = ReferenceCounts::Flag;
  const uint64_t references = references_.get(cluster);
  if (stored == 0 && references == 0) {
    return;
  }
  used_end_ = std::max(used_end_, cluster + 1);
  flags_differ_ =
      flags_differ_ || references_.has(cluster, stored == 1 ? Flag::kUncopied : Flag::kCopied);
  if (stored < references) {
    corruption(
        fmt::format("ERROR cluster {} refcount={} reference={}", cluster, stored, references));
  } else if (stored > references) {
    ++findings_;
    ++result_.leaks;
    report(fmt::format("Leaked cluster {} refcount={} reference={}", cluster, stored, references));
  }
}

// Nothing when it can not be told.
io::Task<Result<std::optional<uint64_t>>> Checker::stored_count(uint64_t cluster) {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t index = cluster / per_block;
  if (index >= refcount_table_.size()) {
    co_return std::optional<uint64_t>(0);
  }
  const Result<bool> readable = co_await load_block(index);
  if (!readable) {
    co_return std::unexpected(readable.error());
  }
  if (!*readable) {
    co_return std::optional<uint64_t>();
  }
  co_return std::optional<uint64_t>(
      load_refcount(block_.data(), geometry_.refcount_order, cluster % per_block));
}

// COPIED says "the refcount is one" in active tables (section "Cluster mapping"). This pass runs
// only when the counting pass has seen a flag that is wrong.
io::Task<Result<void>> Checker::check_copied_flags() {
  std::vector<std::byte> bytes;
  const uint64_t piece_entries = geometry_.cluster_size() / kL1EntryBytes;
  for (uint64_t i = 0; i < header_.l1_size; ++i) {
    if (i % piece_entries == 0) {
      const uint64_t entries = std::min<uint64_t>(piece_entries, header_.l1_size - i);
      Result<void> read =
          co_await read_table(header_.l1_table_offset + i * kL1EntryBytes, entries, bytes);
      if (!read) {
        co_return read;
      }
    }
    const auto entry = load_be<uint64_t>(bytes.data() + i % piece_entries * kL1EntryBytes);
    const uint64_t offset = entry & kEntryOffsetMask;
    if (offset == 0) {
      continue;
    }
    const auto stored = co_await stored_count(offset >> geometry_.cluster_bits);
    if (!stored) {
      co_return std::unexpected(stored.error());
    }
    if (*stored && (**stored == 1) != ((entry & kEntryCopied) != 0)) {
      corruption(fmt::format("ERROR OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}",
                             i, entry, **stored));
    }
    if (is_aligned(offset, geometry_.cluster_size())) {
      Result<void> checked = co_await check_copied_in_l2(offset);
      if (!checked) {
        co_return checked;
      }
    }
  }
  co_return check_effort();
}

io::Task<Result<void>> Checker::check_copied_in_l2(uint64_t offset) {
  std::vector<std::byte> bytes;
  Result<void> read = co_await read_table(offset, geometry_.l2_entries(), bytes);
  if (!read) {
    report(fmt::format("ERROR: Could not read L2 table: {}", read.error().message()));
    co_return read;
  }
  for (std::size_t at = 0; at < bytes.size(); at += kL2EntryBytes) {
    const auto entry = load_be<uint64_t>(bytes.data() + at);
    const ClusterKind kind = entry == 0 ? ClusterKind::kUnallocated : classify(entry);
    if (kind != ClusterKind::kData && kind != ClusterKind::kZeroAllocated) {
      continue;
    }
    const uint64_t place = entry & kEntryOffsetMask;
    const auto stored = co_await stored_count(place >> geometry_.cluster_bits);
    if (!stored) {
      co_return std::unexpected(stored.error());
    }
    if (*stored && (**stored == 1) != ((entry & kEntryCopied) != 0)) {
      corruption(fmt::format("ERROR OFLAG_COPIED data cluster: l2_entry={:x} refcount={}", entry,
                             **stored));
    }
  }
  co_return check_effort();
}

}  // namespace cairn::qcow2
