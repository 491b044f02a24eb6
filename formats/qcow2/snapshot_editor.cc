#include "formats/qcow2/snapshot_editor.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"

namespace cairn::qcow2 {

io::Task<Result<void>> SnapshotEditor::load() {
  loaded_ = co_await table_.load(image_.file(), image_.header());
  co_return loaded_;
}

// An image can name more and larger tables than there are clusters. What is beyond any sense stays
// unprotected, so that opening it takes no longer.
void SnapshotEditor::protect() {
  uint64_t budget = 1 << 20;  // clusters
  image_.guard().protect(MetadataKind::kSnapshotTable, image_.header().snapshots_offset,
                         table_.length_on_disk());
  for (const SnapshotEntry& entry : table_.entries()) {
    protect(entry, budget);
  }
}

void SnapshotEditor::protect(const SnapshotEntry& entry, uint64_t& budget) {
  const uint64_t bytes = entry.l1_entries * kL1EntryBytes;
  const uint64_t clusters = div_round_up(bytes, image_.cluster_size());
  if (entry.l1_offset >= kMaxHostOffset || bytes > kMaxL1Bytes || clusters > budget) {
    return;
  }
  budget -= clusters;
  image_.guard().protect(MetadataKind::kInactiveL1, entry.l1_offset, bytes);
  protected_.push_back({entry.l1_offset, bytes});
}

void SnapshotEditor::unprotect() {
  image_.guard().unprotect(MetadataKind::kSnapshotTable, image_.header().snapshots_offset,
                           table_.length_on_disk());
  for (const Range& range : std::exchange(protected_, {})) {
    image_.guard().unprotect(MetadataKind::kInactiveL1, range.offset, range.length);
  }
}

io::Task<Result<void>> SnapshotEditor::ready() {
  if (!loaded_) {
    co_return loaded_;
  }
  co_return co_await image_.prepare_write();
}

uint64_t SnapshotEditor::count_tables(const std::vector<uint64_t>& l1) {
  return static_cast<uint64_t>(
      std::ranges::count_if(l1, [](uint64_t e) { return (e & kEntryOffsetMask) != 0; }));
}

SnapshotEditor::TableBytes SnapshotEditor::serialize_l1(const std::vector<uint64_t>& l1) {
  TableBytes bytes(l1.size() * kL1EntryBytes);
  for (std::size_t i = 0; i < l1.size(); ++i) {
    store_be<uint64_t>(bytes.data() + i * kL1EntryBytes, l1[i]);
  }
  return bytes;
}

io::Task<Result<std::vector<uint64_t>>> SnapshotEditor::read_l1(SnapshotEntry entry) {
  if (!is_aligned(entry.l1_offset, image_.cluster_size()) || entry.l1_offset >= kMaxHostOffset) {
    co_return fail(EINVAL, "qcow2: the L1 table of snapshot '{}' is not where one can be",
                   entry.id);
  }
  const uint64_t bytes = entry.l1_entries * kL1EntryBytes;
  if (bytes > kMaxL1Bytes) {
    co_return fail(EFBIG, "qcow2: the L1 table of snapshot '{}' is too large", entry.id);
  }
  TableBytes raw(bytes);
  Result<void> read = co_await read_metadata(image_.file(), entry.l1_offset, raw);
  if (!read) {
    co_return pass(read, "Could not read the snapshot's L1 table: ");
  }
  std::vector<uint64_t> l1(entry.l1_entries);
  for (std::size_t i = 0; i < l1.size(); ++i) {
    l1[i] = load_be<uint64_t>(raw.data() + i * kL1EntryBytes);
  }
  // Every table has a cluster of its own.
  if (count_tables(l1) > div_round_up(image_.file().length(), image_.cluster_size())) {
    co_return fail(EINVAL, "qcow2: the L1 table of snapshot '{}' names more tables than there are",
                   entry.id);
  }
  co_return l1;
}

io::Task<Result<void>> SnapshotEditor::read_l2(uint64_t host_offset, TableBytes& bytes) {
  bytes.resize(image_.cluster_size());
  if (!is_aligned(host_offset, image_.cluster_size())) {
    co_return fail(EIO, "qcow2: the L2 table at {} of '{}' is not aligned", host_offset,
                   image_.node().name());
  }
  Result<void> read = co_await read_metadata(image_.file(), host_offset, bytes);
  if (!read) {
    co_return pass(read, "Could not read an L2 table: ");
  }
  co_return read;
}

Result<void> SnapshotEditor::add_references(uint64_t entry, ClusterRuns& runs) const {
  switch (image_.geometry().classify(entry)) {
    case ClusterKind::kUnallocated:
    case ClusterKind::kZeroPlain:
      return {};
    case ClusterKind::kData:
    case ClusterKind::kZeroAllocated: {
      const uint64_t host = entry & kEntryOffsetMask;
      if (!is_aligned(host, image_.cluster_size())) {
        return fail(EIO, "qcow2: the data cluster at {} of '{}' is not aligned", host,
                    image_.node().name());
      }
      runs.add(cluster(host));
      return {};
    }
    case ClusterKind::kCompressed:
      break;
  }
  // Compressed clusters count once for every host cluster they touch.
  const CompressedRange stored = image_.geometry().compressed_range(entry);
  const uint64_t first = cluster(stored.host_offset);
  runs.add(first, cluster(stored.host_offset + stored.length - 1) - first + 1);
  return {};
}

Result<void> SnapshotEditor::add_table_references(const TableBytes& l2, ClusterRuns& runs) const {
  for (std::size_t at = 0; at < l2.size(); at += image_.geometry().l2_entry_bytes) {
    if (const auto entry = load_be<uint64_t>(l2.data() + at); entry != 0) {
      if (auto added = add_references(entry, runs); !added) {
        return added;
      }
    }
  }
  return {};
}

io::Task<Result<bool>> SnapshotEditor::any_entry(bool (*wanted)(uint64_t entry)) {
  if (!loaded_) {
    co_return std::unexpected(loaded_.error());
  }
  TableBytes l2;
  for (const SnapshotEntry& snapshot : table_.entries()) {
    const Result<std::vector<uint64_t>> l1 = co_await read_l1(snapshot);
    if (!l1) {
      co_return std::unexpected(l1.error());
    }
    for (const uint64_t l1_entry : *l1) {
      const uint64_t offset = l1_entry & kEntryOffsetMask;
      if (offset == 0) {
        continue;
      }
      const Result<void> read = co_await read_l2(offset, l2);
      if (!read) {
        co_return std::unexpected(read.error());
      }
      for (std::size_t at = 0; at < l2.size(); at += image_.geometry().l2_entry_bytes) {
        if (wanted(load_be<uint64_t>(l2.data() + at))) {
          co_return true;
        }
      }
    }
  }
  co_return false;
}

// The header on disk names all this now.
io::Task<Result<void>> SnapshotEditor::switch_tables(TableSwitch& change, SnapshotTable table,
                                                     const StoredTable& stored,
                                                     std::vector<uint64_t> l1, uint64_t l1_offset) {
  Result<void> result = co_await change.write_table(stored.offset, stored.bytes);
  if (!result) {
    co_return result;
  }
  change.obsolete(mapping_.l1_offset(), mapping_.l1().size() * kL1EntryBytes);
  change.obsolete(image_.header().snapshots_offset, table_.length_on_disk());
  const auto count = static_cast<uint32_t>(table.entries().size());
  const uint64_t table_offset = stored.offset;
  std::function<void(Header&)> fields = [=](Header& header) {
    header.l1_table_offset = l1_offset;
    header.snapshots_offset = table_offset;
    header.snapshot_count = count;
  };
  unprotect();
  result = co_await change.commit(std::move(fields));
  if (result) {
    mapping_.adopt_l1(std::move(l1), l1_offset);
    table_ = std::move(table);
    table_.set_length_on_disk(stored.bytes.size());
  }
  protect();
  co_return result;
}

}  // namespace cairn::qcow2
