// The COPIED flags (section "Cluster mapping": set in active tables where the count is one), and
// the writing of table entries that a repair changes.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/check.h"

namespace cairn::qcow2 {

// Runs only when counting or repairing has shown that flags are wrong.
//
// Flags are repaired with the errors; or with the leaks, when the image is sound otherwise: then a
// count of one is known to be right.
io::Task<Result<void>> Checker::check_copied_flags() {
  fix_flags_ = options_.fix_errors || (options_.fix_leaks && result_.corruptions == 0 &&
                                       result_.leaks == 0 && result_.check_errors == 0);
  std::vector<std::byte> bytes;
  const uint64_t piece_entries = geometry_.cluster_size() / kL1EntryBytes;
  for (uint64_t first = 0; first < header_.l1_size; first += piece_entries) {
    const uint64_t entries = std::min<uint64_t>(piece_entries, header_.l1_size - first);
    Result<void> done =
        co_await read_table(header_.l1_table_offset + first * kL1EntryBytes, entries, bytes);
    if (done) {
      done = co_await check_copied_in_l1(first, bytes);
    }
    if (!done) {
      co_return done;
    }
  }
  co_return check_effort();
}

// `bytes` is the L1 table from entry `first` on.
io::Task<Result<void>> Checker::check_copied_in_l1(uint64_t first, std::vector<std::byte>& bytes) {
  Changes changes;
  const uint64_t table = header_.l1_table_offset + first * kL1EntryBytes;
  for (std::size_t at = 0; at < bytes.size(); at += kL1EntryBytes) {
    const auto entry = load_be<uint64_t>(bytes.data() + at);
    const uint64_t offset = entry & kEntryOffsetMask;
    if (offset == 0) {
      continue;
    }
    std::string what = fmt::format("OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x}",
                                   first + at / kL1EntryBytes, entry);
    const Result<uint64_t> wanted = co_await check_copied(entry, std::move(what), false);
    if (!wanted) {
      co_return std::unexpected(wanted.error());
    }
    if (*wanted != entry) {
      store_be<uint64_t>(bytes.data() + at, *wanted);
      changes.note(at);
      Result<void> clear = co_await refuse_overlap(table + at, kL1EntryBytes, true);
      if (!clear) {
        co_return clear;
      }
    }
    if (is_aligned(offset, geometry_.cluster_size())) {
      Result<void> checked = co_await check_copied_in_l2(offset);
      if (!checked) {
        co_return checked;
      }
    }
  }
  co_return co_await write_table(table, bytes, changes);
}

io::Task<Result<void>> Checker::check_copied_in_l2(uint64_t offset) {
  std::vector<std::byte> bytes;
  Result<void> read = co_await read_table(offset, l2_words(), bytes);
  if (!read) {
    report(fmt::format("ERROR: Could not read L2 table: {}", read.error().message()));
    co_return read;
  }
  Changes changes;
  for (std::size_t at = 0; at < bytes.size(); at += geometry_.l2_entry_bytes) {
    const auto entry = load_be<uint64_t>(bytes.data() + at);
    const ClusterKind kind = entry == 0 ? ClusterKind::kUnallocated : geometry_.classify(entry);
    if (kind != ClusterKind::kData && kind != ClusterKind::kZeroAllocated) {
      continue;
    }
    std::string what = fmt::format("OFLAG_COPIED data cluster: l2_entry={:x}", entry);
    const Result<uint64_t> wanted = co_await check_copied(entry, std::move(what), true);
    if (!wanted) {
      co_return std::unexpected(wanted.error());
    }
    if (*wanted != entry) {
      store_be<uint64_t>(bytes.data() + at, *wanted);
      changes.note(at);
    }
  }
  if (auto bearable = check_effort(); !bearable) {
    co_return bearable;
  }
  co_return co_await write_table(offset, bytes, changes);
}

io::Task<Result<uint64_t>> Checker::check_copied(uint64_t entry, std::string what, bool is_data) {
  const uint64_t cluster = (entry & kEntryOffsetMask) >> geometry_.cluster_bits;
  // In an external data file every cluster counts as one.
  Result<std::optional<uint64_t>> stored = std::optional<uint64_t>(1);
  if (!is_data || !geometry_.external_data) {
    stored = co_await stored_count(cluster);
  }
  if (!stored) {
    co_return std::unexpected(stored.error());
  }
  if (!*stored || (**stored == 1) == ((entry & kEntryCopied) != 0)) {
    co_return entry;
  }
  // A count of one that is known to be too low must not lead to writes in place.
  const uint64_t dropped = rebuilt_ ? structure_.get(cluster) : 0;
  const bool shared =
      !(is_data && geometry_.external_data) && references_.get(cluster) - dropped > 1;
  if (!fix_flags_ || (**stored == 1 && shared)) {
    corruption(fmt::format("ERROR {} refcount={}", what, **stored));
    co_return entry;
  }
  report(fmt::format("Repairing {} refcount={}", what, **stored));
  ++findings_;
  ++result_.corruptions_fixed;
  co_return entry ^ kEntryCopied;
}

io::Task<Result<void>> Checker::write_table(uint64_t offset, const std::vector<std::byte>& bytes,
                                            Changes changes) {
  if (!changes.any()) {
    co_return Result<void>{};
  }
  // Whole sectors, each of which is the old one or the new one after a power cut.
  const uint64_t begin = align_down(changes.begin, kSectorSize);
  const uint64_t end = std::min<uint64_t>(align_up(changes.end, kSectorSize), bytes.size());
  const bool is_l1 = offset >= header_.l1_table_offset &&
                     offset < header_.l1_table_offset + header_.l1_size * kL1EntryBytes;
  Result<void> clear = co_await refuse_overlap(offset + begin, end - begin, is_l1);
  if (!clear) {
    co_return clear;
  }
  changed_ = true;
  Result<void> written =
      co_await image_.file().write(offset + begin, bytes.data() + begin, end - begin);
  if (!written) {
    co_return pass(written, "Could not write a table entry: ");
  }
  co_return written;
}

io::Task<Result<void>> Checker::refuse_overlap(uint64_t offset, uint64_t length, bool is_l1) {
  if (!metadata_collected_) {
    collect_metadata();
  }
  const uint64_t l1_end = header_.l1_table_offset + header_.l1_size * kL1EntryBytes;
  const bool hits_l1 = !is_l1 && header_.l1_size != 0 &&
                       offset + length > header_.l1_table_offset &&
                       offset < align_up(l1_end, geometry_.cluster_size());
  if (!hits_l1 && !metadata_.overlaps(offset, length)) {
    co_return Result<void>{};
  }
  std::string message = fmt::format("Preventing invalid write on metadata (overlaps with {})",
                                    hits_l1 ? "active L1 table" : describe(offset, length));
  co_return std::unexpected(co_await image_.corrupt(std::move(message)));
}

// Everything but the tables of the active state, which are what is written.
void Checker::collect_metadata() {
  metadata_ = MetadataMap(geometry_.cluster_bits);
  const auto add = [this](uint64_t offset, uint64_t length) {
    if (offset < file_length_) {
      metadata_.add(offset, std::min(length, file_length_ - offset));
    }
  };
  add(0, geometry_.cluster_size());
  add(header_.refcount_table_offset, header_.refcount_table_clusters * geometry_.cluster_size());
  for (const uint64_t entry : refcount_table_) {
    if ((entry & kRefcountTableOffsetMask) != 0) {
      add(entry & kRefcountTableOffsetMask, geometry_.cluster_size());
    }
  }
  uint64_t table_length = 0;
  for (const auto& snapshot : snapshots_) {
    table_length += snapshot.length;
    add(snapshot.l1_offset, snapshot.l1_entries * kL1EntryBytes);
  }
  add(header_.snapshots_offset, table_length);
  metadata_collected_ = true;
}

// What of collect_metadata() lies in the clusters of a range.
std::string Checker::describe(uint64_t offset, uint64_t length) const {
  const uint64_t cluster_size = geometry_.cluster_size();
  const uint64_t begin = align_down(offset, cluster_size);
  const uint64_t end = align_up(offset + length, cluster_size);
  const auto lies = [&](uint64_t at, uint64_t bytes) {
    return bytes != 0 && at < end && at + bytes > begin;
  };
  if (begin == 0) {
    return "qcow2_header";
  }
  if (lies(header_.refcount_table_offset, header_.refcount_table_clusters * cluster_size)) {
    return "refcount table";
  }
  if (std::any_of(refcount_table_.begin(), refcount_table_.end(), [&](uint64_t entry) {
        return lies(entry & kRefcountTableOffsetMask, cluster_size);
      })) {
    return "refcount block";
  }
  if (std::any_of(snapshots_.begin(), snapshots_.end(), [&](const auto& snapshot) {
        return lies(snapshot.l1_offset, snapshot.l1_entries * kL1EntryBytes);
      })) {
    return "inactive L1 table";
  }
  return "snapshot table";
}

}  // namespace cairn::qcow2
