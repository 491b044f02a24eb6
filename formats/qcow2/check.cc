// The order of a check, and the references of L1 and L2 tables.
#include "formats/qcow2/check.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/page_cache.h"
#include "io/task_group.h"
#include "io/zero.h"

namespace cairn::qcow2 {

namespace {

// L2 tables are read several at a time, within so much memory.
constexpr uint64_t kTablesInFlight = 32;
constexpr uint64_t kTableBytesInFlight = 4 << 20;

// How far behind the end of the file references matter: a rebuilt refcount structure goes there.
constexpr uint64_t kBeyondClusters = 1 << 24;

}  // namespace

Checker::Checker(Image& image, block::CheckOptions options)
    : image_(image),
      header_(image.header()),
      geometry_(image.geometry()),
      options_(std::move(options)),
      refcount_max_(geometry_.refcount_max()),
      metadata_(geometry_.cluster_bits) {
  file_length_ = image.file().length();
  file_clusters_ = div_round_up(file_length_, geometry_.cluster_size());
  compare_end_ = file_clusters_;
}

io::Task<Result<block::CheckResult>> Checker::run() {
  fragmentation_.total_clusters =
      static_cast<int64_t>(div_round_up(header_.size, geometry_.cluster_size()));
  Result<void> result = co_await read_refcount_table();
  if (result) {
    result = co_await read_snapshots();
  }
  if (result) {
    result = co_await count_references();
  }
  if (result) {
    result = check_refcount_table();
  }
  if (result) {
    result = co_await compare(false);
  }
  if (result && repairing()) {
    result = co_await repair_refcounts();
  }
  result_.corruptions += found_.corruptions;
  result_.leaks += found_.leaks;
  result_.check_errors += found_.errors;
  if (result && flags_differ_) {
    result = co_await check_copied_flags();
  }
  if (result && repaired_snapshots_ != 0) {
    result = co_await replace_structures();
  }
  if (result && repairing()) {
    result = co_await finish_repair();
  }
  if (!result) {
    co_return pass(result);
  }
  result_.image_end_offset = static_cast<int64_t>(used_end_ * geometry_.cluster_size());
  result_.fragmentation = fragmentation_;
  co_return result_;
}

// In the order in which people are used to read the findings.
io::Task<Result<void>> Checker::count_references() {
  Result<void> result = count(0, geometry_.cluster_size());
  if (result) {
    const L1Table active{header_.l1_table_offset, header_.l1_size, true};
    result = co_await count_l1(active);
  }
  if (result) {
    result = co_await count_snapshots();
  }
  if (result) {
    result = count_crypt_header();
  }
  if (result) {
    result = co_await count_bitmaps();
  }
  co_return result;
}

void Checker::report(const std::string& line) const {
  if (options_.report) {
    options_.report(line);
  }
}

void Checker::corruption(const std::string& line) {
  ++findings_;
  ++result_.corruptions;
  report(line);
}

void Checker::Changes::note(std::size_t offset) {
  begin = std::min(begin, offset);
  end = std::max(end, offset + sizeof(uint64_t));
}

Result<void> Checker::count(uint64_t offset, uint64_t length, ReferenceCounts::Flag flag) {
  if (length == 0) {
    return {};
  }
  const auto end = checked_add(offset, length);
  if (!end || (*end > file_length_ && *end - file_length_ >= geometry_.cluster_size())) {
    corruption(
        fmt::format("ERROR: counting reference for region exceeding the end of the file by "
                    "one cluster or more: offset {:#x} size {:#x}",
                    offset, length));
    note_beyond(offset, length);
    return {};
  }
  const uint64_t last = (*end - 1) >> geometry_.cluster_bits;
  for (uint64_t cluster = offset >> geometry_.cluster_bits; cluster <= last; ++cluster) {
    const uint64_t references = references_.add(cluster, flag);
    if (references == 0) {
      return fail(ENOMEM, "The check would need more memory than it may use");
    }
    if (references > refcount_max_) [[unlikely]] {
      corruption(
          fmt::format("ERROR: overflow cluster offset={:#x}", cluster << geometry_.cluster_bits));
      report(
          "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a "
          "clean copy if the image cannot be opened for writing");
    }
  }
  return {};
}

void Checker::note_beyond(uint64_t offset, uint64_t length) {
  uint64_t begin = std::max(offset >> geometry_.cluster_bits, file_clusters_);
  const uint64_t last = checked_add(offset, length - 1).value_or(UINT64_MAX);
  uint64_t end = std::min((last >> geometry_.cluster_bits) + 1, file_clusters_ + kBeyondClusters);
  if (!options_.fix_errors || begin >= end) {
    return;
  }
  // Joined with what it touches, so that there are never more than there are gaps.
  auto next = beyond_.upper_bound(begin);
  if (next != beyond_.begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
  }
  while (next != beyond_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = beyond_.erase(next);
  }
  beyond_.emplace(begin, end);
}

io::Task<Result<void>> Checker::read_table(uint64_t offset, uint64_t entries,
                                           std::vector<std::byte>& bytes) {
  bytes.resize(entries * sizeof(uint64_t));
  // There are no references in what is not in the file.
  if (offset >= file_length_) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    co_return Result<void>{};
  }
  co_return co_await read_metadata(image_.file(), offset, bytes);
}

io::Task<Result<void>> Checker::count_l1(L1Table table) {
  if (auto counted = count(table.offset, table.entries * kL1EntryBytes); !counted) {
    co_return counted;
  }
  const uint64_t at_once =
      std::clamp(kTableBytesInFlight >> geometry_.cluster_bits, uint64_t{2}, kTablesInFlight);
  std::vector<std::byte> bytes;
  std::vector<uint64_t> found;
  // What lies behind the end of the file refers to nothing, however long it claims to be.
  const uint64_t there = table.offset < file_length_ ? file_length_ - table.offset : 0;
  const uint64_t all = std::min(table.entries, div_round_up(there, uint64_t{kL1EntryBytes}));
  const uint64_t piece_entries = geometry_.cluster_size() / kL1EntryBytes;
  for (uint64_t first = 0; first < all; first += piece_entries) {
    const uint64_t entries = std::min(piece_entries, all - first);
    Result<void> read = co_await read_table(table.offset + first * kL1EntryBytes, entries, bytes);
    if (!read) {
      report("ERROR: I/O error in check_refcounts_l1");
      co_return read;
    }
    for (uint64_t i = 0; i < entries; ++i) {
      const auto entry = load_be<uint64_t>(bytes.data() + i * kL1EntryBytes);
      if (entry != 0) {
        found.push_back(entry);
      }
      if (found.size() == at_once || (!found.empty() && i + 1 == entries)) {
        Result<void> counted = co_await count_l2_tables(found, table.active);
        if (!counted) {
          co_return counted;
        }
        found.clear();
      }
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Checker::count_l2_tables(const std::vector<uint64_t>& entries, bool active) {
  std::vector<L2Table> tables(entries.size());
  io::TaskGroup readers;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    tables[i].entry = entries[i];
    readers.spawn(read_l2(tables[i]));
  }
  co_await readers.join();
  for (L2Table& table : tables) {
    Result<void> counted = co_await count_l1_entry(table, active);
    if (!counted) {
      co_return counted;
    }
  }
  co_return Result<void>{};
}

io::Task<void> Checker::read_l2(L2Table& table) {
  const uint64_t offset = table.entry & kEntryOffsetMask;
  // What would be read from between clusters has never been a table.
  if (is_aligned(offset, geometry_.cluster_size())) {
    table.read = co_await read_table(offset, l2_words(), table.bytes);
  }
}

io::Task<Result<void>> Checker::count_l1_entry(L2Table& table, bool active) {
  const uint64_t entry = table.entry;
  if ((entry & kL1ReservedMask) != 0) {
    corruption(fmt::format("ERROR found L1 entry with reserved bits set: {:x}", entry));
  }
  const uint64_t offset = entry & kEntryOffsetMask;
  auto flag = ReferenceCounts::Flag::kNone;
  if (active) {
    flag = (entry & kEntryCopied) != 0 ? ReferenceCounts::Flag::kCopied
                                       : ReferenceCounts::Flag::kUncopied;
  }
  if (offset >> geometry_.cluster_bits >= file_clusters_) {
    flags_differ_ = flags_differ_ || active;
  }
  if (auto counted = count(offset, geometry_.cluster_size(), flag); !counted) {
    co_return counted;
  }
  if (!is_aligned(offset, geometry_.cluster_size())) {
    corruption(fmt::format("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                           offset));
    co_return Result<void>{};
  }
  co_return co_await count_l2(table, active);
}

io::Task<Result<void>> Checker::count_l2(L2Table& table, bool active) {
  if (!table.read) {
    report("ERROR: I/O error in check_refcounts_l2");
    co_return pass(table.read);
  }
  constexpr uint64_t kGlance = 64;  // bytes that are looked at together: most tables have gaps
  uint64_t next_contiguous = 0;
  Changes changes;
  for (uint64_t at = 0; at < table.bytes.size(); at += kGlance) {
    const std::span<std::byte> glance(table.bytes.data() + at, kGlance);
    if (io::is_zero(glance)) {
      continue;
    }
    for (uint64_t i = 0; i < kGlance; i += geometry_.l2_entry_bytes) {
      std::byte* const stored = glance.data() + i;
      L2Entry entry{.index = (at + i) / geometry_.l2_entry_bytes,
                    .value = load_be<uint64_t>(stored)};
      if (geometry_.extended_l2()) {
        entry.subclusters = SubclusterBitmap(load_be<uint64_t>(stored + kSubclusterBitmapOffset));
      }
      if (entry.value == 0 && entry.subclusters.data() == 0) {
        continue;
      }
      if (const uint64_t run = plain_run(glance.subspan(i)); run > 1) {
        if (auto counted = count_plain(entry.value, run, active, next_contiguous); !counted) {
          co_return counted;
        }
        i += (run - 1) * geometry_.l2_entry_bytes;
        continue;
      }
      // What a snapshot calls its table may be anything, the guest's data included.
      if (active && repairable_zero(entry)) {
        report(
            fmt::format("Repairing offset={:x}: Preallocated cluster is not properly aligned; "
                        "L2 entry corrupted.",
                        entry.value & kEntryOffsetMask));
        ++result_.corruptions_fixed;
        // Extended entries say elsewhere what reads as zeroes.
        store_be<uint64_t>(stored, geometry_.extended_l2() ? 0 : kEntryZero);
        changes.note(at + i);
      } else if (auto counted = count_l2_entry(entry, active, next_contiguous); !counted) {
        co_return counted;
      }
    }
  }
  co_return co_await write_table(table.entry & kEntryOffsetMask, table.bytes, changes);
}

// How many of the entries at the start are of data clusters that lie behind each other inside the
// file, with nothing to complain about. Most images are made of such runs.
uint64_t Checker::plain_run(std::span<const std::byte> entries) const {
  const auto first = load_be<uint64_t>(entries.data());
  const uint64_t place = first & kEntryOffsetMask;
  if (geometry_.extended_l2() || geometry_.external_data || (first & ~kEntryCopied) != place ||
      place == 0 || !is_aligned(place, geometry_.cluster_size()) ||
      (place >> geometry_.cluster_bits) + entries.size() / kL2EntryBytes > file_clusters_) {
    return 0;
  }
  uint64_t run = 1;
  while (run < entries.size() / kL2EntryBytes &&
         load_be<uint64_t>(entries.data() + run * kL2EntryBytes) ==
             first + run * geometry_.cluster_size()) {
    ++run;
  }
  return run;
}

Result<void> Checker::count_plain(uint64_t first, uint64_t clusters, bool active,
                                  uint64_t& next_contiguous) {
  const uint64_t offset = first & kEntryOffsetMask;
  const uint64_t length = clusters * geometry_.cluster_size();
  if (!active) {
    return count(offset, length);
  }
  fragmentation_.allocated_clusters += static_cast<int64_t>(clusters);
  if (next_contiguous != 0 && offset != next_contiguous) {
    ++fragmentation_.fragmented_clusters;
  }
  next_contiguous = offset + length;
  return count(offset, length,
               (first & kEntryCopied) != 0 ? ReferenceCounts::Flag::kCopied
                                           : ReferenceCounts::Flag::kUncopied);
}

// What a cluster is. One without data, but with space, is as one that reads as zeroes.
ClusterKind Checker::kind_of(const L2Entry& entry) const {
  if (!geometry_.extended_l2() || (entry.value & kEntryCompressed) != 0) {
    return geometry_.classify(entry.value);
  }
  if (!geometry_.has_place(entry.value)) {
    return ClusterKind::kUnallocated;
  }
  return entry.subclusters.data() != 0 ? ClusterKind::kData : ClusterKind::kZeroAllocated;
}

// A cluster that reads as zeroes whatever its misplaced offset was to say.
bool Checker::repairable_zero(const L2Entry& entry) const {
  return options_.fix_errors && kind_of(entry) == ClusterKind::kZeroAllocated &&
         !is_aligned(entry.value & kEntryOffsetMask, geometry_.cluster_size());
}

void Checker::check_subclusters(const L2Entry& entry, ClusterKind kind) {
  if (kind == ClusterKind::kCompressed) {
    if (entry.subclusters.stored() != 0) {
      corruption(fmt::format(
          "ERROR compressed cluster {} with non-zero subcluster allocation bitmap, entry={:#x}",
          entry.index, entry.value));
    }
  } else if (!geometry_.has_place(entry.value)) {
    if (entry.subclusters.data() != 0) {
      corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
    }
  } else if (!entry.subclusters.valid()) {
    corruption(
        fmt::format("ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation "
                    "bitmap",
                    entry.value & kEntryOffsetMask));
  }
}

Result<void> Checker::count_l2_entry(const L2Entry& l2_entry, bool active,
                                     uint64_t& next_contiguous) {
  const uint64_t entry = l2_entry.value;
  const ClusterKind kind = kind_of(l2_entry);
  check_subclusters(l2_entry, kind);
  if (kind == ClusterKind::kCompressed) {
    if (geometry_.external_data) {
      corruption(fmt::format("ERROR compressed cluster {} with data file, entry={:#x}",
                             l2_entry.index, entry));
      return {};
    }
    return count_compressed(entry, active);
  }
  // Version 2 has no zero flag, but writers that set it mean it.
  if ((entry & kL2ReservedMask & ~uint64_t{0x1ff}) != 0 || (entry & 0x1fe) != 0) {
    corruption(fmt::format("ERROR found l2 entry with reserved bits set: {:x}", entry));
  }
  if (kind != ClusterKind::kData && kind != ClusterKind::kZeroAllocated) {
    return {};
  }
  const uint64_t offset = entry & kEntryOffsetMask;
  if (!is_aligned(offset, geometry_.cluster_size())) {
    corruption(
        fmt::format("ERROR offset={:x}: {} cluster is not properly aligned; L2 entry corrupted.",
                    offset, kind == ClusterKind::kData ? "Data" : "Preallocated"));
  }
  auto flag = ReferenceCounts::Flag::kNone;
  if (active) {
    ++fragmentation_.allocated_clusters;
    if (next_contiguous != 0 && offset != next_contiguous) {
      ++fragmentation_.fragmented_clusters;
    }
    next_contiguous = offset + geometry_.cluster_size();
    if (geometry_.external_data) {
      flags_differ_ = flags_differ_ || (entry & kEntryCopied) == 0;
      return {};
    }
    flag = (entry & kEntryCopied) != 0 ? ReferenceCounts::Flag::kCopied
                                       : ReferenceCounts::Flag::kUncopied;
    if (offset >> geometry_.cluster_bits >= file_clusters_ ||
        !is_aligned(offset, geometry_.cluster_size())) {
      flags_differ_ = true;
      flag = ReferenceCounts::Flag::kNone;
    }
  }
  if (geometry_.external_data) {
    return {};  // nothing counts the clusters of another file
  }
  return count(offset, geometry_.cluster_size(), flag);
}

Result<void> Checker::count_compressed(uint64_t entry, bool active) {
  if ((entry & kEntryCopied) != 0) {
    const uint64_t place = entry & ((uint64_t{1} << geometry_.compressed_shift()) - 1);
    corruption(fmt::format(
        "ERROR: coffset={:#x}: copied flag must never be set for compressed clusters", place));
  }
  const CompressedRange range = geometry_.compressed_range(entry & ~kEntryCopied);
  if (active) {
    ++fragmentation_.allocated_clusters;
    ++fragmentation_.compressed_clusters;
    // Compressed clusters never lie where plain ones would.
    ++fragmentation_.fragmented_clusters;
  }
  return count(range.host_offset, range.length);
}

}  // namespace cairn::qcow2
