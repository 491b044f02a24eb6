// SnapshotEditor: deleting a snapshot. Counts of all that it referred to drop. Where the disk is
// the only one left, its tables say so again, in copies.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/snapshot_editor.h"

namespace cairn::qcow2 {

io::Task<Result<void>> SnapshotEditor::remove(std::string id) {
  Result<void> result = co_await ready();
  if (!result) {
    co_return result;
  }
  const std::size_t index = table_.find(id);
  if (index == table_.entries().size()) {
    co_return fail(ENOENT, "Can't find the snapshot");
  }
  TableSwitch change = make_switch();
  result = co_await remove_in(change, index);
  if (!result) {
    change.abandon();
  }
  co_return result;
}

io::Task<Result<void>> SnapshotEditor::remove_in(TableSwitch& change, std::size_t index) {
  const SnapshotEntry entry = table_.entries()[index];
  Result<std::vector<uint64_t>> snapshot_l1 = co_await read_l1(entry);
  if (!snapshot_l1) {
    co_return pass(snapshot_l1);
  }
  SnapshotTable table = table_;
  table.remove(index);
  Result<TableBytes> bytes = table.serialize();
  if (!bytes) {
    co_return pass(bytes);
  }
  std::vector<uint64_t> l1 = mapping_.l1();
  const uint64_t l1_bytes = l1.size() * kL1EntryBytes;
  const Result<uint64_t> l1_place = co_await change.reserve_table(l1_bytes);
  const Result<uint64_t> table_place = co_await change.reserve_table(bytes->size());
  if (!l1_place || !table_place) {
    co_return std::unexpected(l1_place ? table_place.error() : l1_place.error());
  }
  const StoredTable stored{*table_place, std::move(*bytes)};
  Result<void> result = co_await change.begin(count_tables(l1));
  Refcounts::Lowered lowered;
  if (result) {
    result = co_await drop_references(std::move(*snapshot_l1), lowered);
  }
  if (result) {
    result = co_await own_tables(change, lowered, l1);
  }
  if (result) {
    result = check_freed(lowered);
  }
  if (result) {
    result = co_await change.write_table(*l1_place, serialize_l1(l1));
  }
  if (!result) {
    co_return result;
  }
  const uint64_t l1_offset = l1_bytes != 0 ? *l1_place : mapping_.l1_offset();
  change.obsolete(entry.l1_offset, entry.l1_entries * kL1EntryBytes);
  change.obsolete(lowered.freed, FreeCause::kSnapshot);
  co_return co_await switch_tables(change, std::move(table), stored, std::move(l1), l1_offset);
}

io::Task<Result<void>> SnapshotEditor::drop_references(std::vector<uint64_t> l1,
                                                       Refcounts::Lowered& lowered) {
  ClusterRuns runs;
  TableBytes l2;
  for (const uint64_t l1_entry : l1) {
    const uint64_t offset = l1_entry & kEntryOffsetMask;
    if (offset == 0) {
      continue;
    }
    Result<void> result = co_await read_l2(offset, l2);
    if (result) {
      result = add_table_references(l2, runs);
    }
    runs.add(cluster(offset));
    if (result && runs.size() >= kBatch) {
      result = co_await refcounts_.lower(runs, lowered);
      runs.clear();
    }
    if (!result) {
      co_return result;
    }
  }
  co_return co_await refcounts_.lower(runs, lowered);
}

// Sets the "copied" flags of what nobody else uses any more: in `l1`, and in copies of L2 tables.
io::Task<Result<void>> SnapshotEditor::own_tables(TableSwitch& change, Refcounts::Lowered& lowered,
                                                  std::vector<uint64_t>& l1) {
  TableBytes l2;
  for (uint64_t& l1_entry : l1) {
    const uint64_t offset = l1_entry & kEntryOffsetMask;
    if (offset == 0 || (lowered.sole.empty() && lowered.gone.empty())) {
      continue;
    }
    Result<void> result = co_await read_l2(offset, l2);
    if (!result) {
      co_return result;
    }
    const Result<bool> changed = own_entries(lowered, l2);
    if (!changed) {
      co_return std::unexpected(changed.error());
    }
    if (lowered.gone.contains(cluster(offset))) {
      co_return fail(EIO, "qcow2: the L2 table at {} of '{}' is counted too low", offset,
                     image_.node().name());
    }
    if (lowered.sole.contains(cluster(offset))) {
      l1_entry |= kEntryCopied;
    }
    if (*changed) {
      l1_entry = change.take();
      result = co_await change.write_table(l1_entry, l2);
      l1_entry |= kEntryCopied;
      change.obsolete(offset, image_.cluster_size());
    }
    if (!result) {
      co_return result;
    }
  }
  co_return Result<void>{};
}

// Whether anything changed. EIO when the disk uses what would be freed.
Result<bool> SnapshotEditor::own_entries(Refcounts::Lowered& lowered, TableBytes& l2) const {
  bool changed = false;
  ClusterRuns runs;
  for (std::size_t at = 0; at < l2.size(); at += image_.geometry().l2_entry_bytes) {
    const auto entry = load_be<uint64_t>(l2.data() + at);
    if (entry == 0) {
      continue;
    }
    runs.clear();
    if (auto added = add_references(entry, runs); !added) {
      return pass(added);
    }
    for (const ClusterRun& run : runs.runs()) {
      for (uint64_t used = run.first; used < run.first + run.count; ++used) {
        if (lowered.gone.contains(used)) {
          return fail(EIO, "qcow2: cluster {} of '{}' is counted too low", used,
                      image_.node().name());
        }
      }
      const bool plain = (entry & (kEntryCompressed | kEntryCopied)) == 0;
      if (plain && lowered.sole.contains(run.first)) {
        store_be<uint64_t>(l2.data() + at, entry | kEntryCopied);
        changed = true;
      }
    }
  }
  return changed;
}

// In a damaged image a snapshot may refer to what is metadata.
Result<void> SnapshotEditor::check_freed(const Refcounts::Lowered& lowered) const {
  const uint32_t bits = image_.geometry().cluster_bits;
  for (const ClusterRun& run : lowered.freed.runs()) {
    if (image_.guard().protects_structure(run.first << bits, run.count << bits)) {
      return fail(EIO, "qcow2: a snapshot of '{}' refers to metadata of the image",
                  image_.node().name());
    }
  }
  return {};
}

}  // namespace cairn::qcow2
