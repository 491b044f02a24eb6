// SnapshotEditor: creating a snapshot. Both states, the disk and the snapshot, name the same L2
// tables afterwards; only the L1 table is there twice.
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/snapshot_editor.h"

namespace cairn::qcow2 {

io::Task<Result<void>> SnapshotEditor::create(block::Snapshot info) {
  Result<void> result = co_await ready();
  if (!result) {
    co_return result;
  }
  TableSwitch change = make_switch();
  result = co_await create_in(change, std::move(info));
  if (!result) {
    change.abandon();
  }
  co_return result;
}

io::Task<Result<void>> SnapshotEditor::create_in(TableSwitch& change, block::Snapshot info) {
  std::vector<uint64_t> l1 = mapping_.l1();
  const uint64_t l1_bytes = l1.size() * kL1EntryBytes;
  SnapshotEntry entry;
  static_cast<block::Snapshot&>(entry) = std::move(info);
  entry.id = table_.next_id();
  entry.disk_size = image_.header().size;
  entry.l1_entries = l1.size();
  const Result<uint64_t> snapshot_l1 = co_await change.reserve_table(l1_bytes);
  const Result<uint64_t> active_l1 = co_await change.reserve_table(l1_bytes);
  if (!snapshot_l1 || !active_l1) {
    co_return std::unexpected(snapshot_l1 ? active_l1.error() : snapshot_l1.error());
  }
  entry.l1_offset = *snapshot_l1;
  SnapshotTable table = table_;
  table.add(std::move(entry));
  Result<TableBytes> bytes = table.serialize();
  if (!bytes) {
    co_return pass(bytes);
  }
  const Result<uint64_t> place = co_await change.reserve_table(bytes->size());
  if (!place) {
    co_return std::unexpected(place.error());
  }
  const StoredTable stored{*place, std::move(*bytes)};
  Result<void> result = co_await change.begin(count_tables(l1));
  if (result) {
    result = co_await share_tables(change, l1);
  }
  const TableBytes l1_raw = serialize_l1(l1);
  if (result) {
    result = co_await change.write_table(*snapshot_l1, l1_raw);
  }
  if (result) {
    result = co_await change.write_table(*active_l1, l1_raw);
  }
  if (!result) {
    co_return result;
  }
  const uint64_t l1_offset = l1_bytes != 0 ? *active_l1 : mapping_.l1_offset();
  co_return co_await switch_tables(change, std::move(table), stored, std::move(l1), l1_offset);
}

// Raises the counts of all that the L2 tables of `l1` refer to, and of the tables. Entries that
// say "nobody shares it" are taken out: of `l1` here, of L2 tables in copies.
io::Task<Result<void>> SnapshotEditor::share_tables(TableSwitch& change,
                                                    std::vector<uint64_t>& l1) {
  ClusterRuns runs;
  TableBytes l2;
  for (uint64_t& l1_entry : l1) {
    const uint64_t offset = l1_entry & kEntryOffsetMask;
    l1_entry = offset;
    if (offset == 0) {
      continue;
    }
    Result<void> result = co_await read_l2(offset, l2);
    if (result) {
      result = add_table_references(l2, runs);
    }
    if (!result) {
      co_return result;
    }
    bool changed = false;
    for (std::size_t at = 0; at < l2.size(); at += image_.geometry().l2_entry_bytes) {
      // The flag is the highest bit of the first byte.
      if ((l2[at] & std::byte{0x80}) != std::byte{0}) {
        l2[at] &= std::byte{0x7f};
        changed = true;
      }
    }
    if (changed) {
      l1_entry = change.take();
      result = co_await change.write_table(l1_entry, l2);
      change.obsolete(offset, image_.cluster_size());
    }
    runs.add(cluster(l1_entry));
    if (result && runs.size() >= kBatch) {
      result = co_await refcounts_.raise(runs);
      runs.clear();
    }
    if (!result) {
      co_return result;
    }
  }
  co_return co_await refcounts_.raise(runs);
}

}  // namespace cairn::qcow2
