// SnapshotEditor: going back to a snapshot. Its L2 tables become those of the disk as well; what
// only the old state used is free afterwards.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/snapshot_editor.h"

namespace cairn::qcow2 {

io::Task<Result<void>> SnapshotEditor::apply(std::string id) {
  const HeaderExtension* bitmaps = image_.header().extension(ExtensionType::kBitmaps);
  if (bitmaps != nullptr && (image_.header().autoclear_features & kAutoclearBitmaps) != 0 &&
      bitmaps->data.size() >= sizeof(uint32_t) && load_be<uint32_t>(bitmaps->data.data()) != 0) {
    co_return fail(EBUSY, "Device has active dirty bitmaps");
  }
  Result<void> result = co_await ready();
  if (!result) {
    co_return result;
  }
  const std::size_t index = table_.find(id);
  if (index == table_.entries().size()) {
    co_return fail_errno(ENOENT, "Failed to load snapshot");
  }
  TableSwitch change = make_switch();
  result = co_await apply_in(change, table_.entries()[index]);
  if (!result) {
    change.abandon();
  }
  co_return result;
}

io::Task<Result<void>> SnapshotEditor::apply_in(TableSwitch& change, SnapshotEntry entry) {
  const uint64_t size = entry.disk_size;
  Result<std::vector<uint64_t>> read = co_await read_l1(entry);
  if (!read) {
    co_return pass(read);
  }
  std::vector<uint64_t> l1 = std::move(*read);
  const uint64_t needed = image_.geometry().l1_entries_for(size);
  if (size > INT64_MAX || needed > kMaxL1Bytes / kL1EntryBytes) {
    co_return fail(EFBIG, "qcow2: the disk of snapshot '{}' is too large", entry.id);
  }
  l1.resize(std::max<uint64_t>(l1.size(), needed));
  const uint64_t l1_bytes = l1.size() * kL1EntryBytes;
  const Result<uint64_t> place = co_await change.reserve_table(l1_bytes);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  Result<void> result = co_await change.begin(0);
  const std::vector<uint64_t>& old_l1 = mapping_.l1();
  Difference difference;
  Refcounts::Lowered lowered;
  for (std::size_t i = 0; result && i < std::max(l1.size(), old_l1.size()); ++i) {
    const uint64_t from = i < old_l1.size() ? old_l1[i] & kEntryOffsetMask : 0;
    const uint64_t to = i < l1.size() ? l1[i] & kEntryOffsetMask : 0;
    if (i < l1.size()) {
      l1[i] = to;  // the snapshot shares it
    }
    if (from != to) {
      result = co_await compare_tables(from, to, difference);
    }
    if (result && difference.raised.size() + difference.lowered.size() >= kBatch) {
      result = co_await count(difference, lowered);
    }
  }
  if (result) {
    result = co_await count(difference, lowered);
  }
  if (result) {
    result = co_await change.write_table(*place, serialize_l1(l1));
  }
  if (!result) {
    co_return result;
  }
  const uint64_t l1_offset = l1_bytes != 0 ? *place : mapping_.l1_offset();
  change.obsolete(mapping_.l1_offset(), old_l1.size() * kL1EntryBytes);
  change.obsolete(lowered.freed, FreeCause::kSnapshot);
  const auto l1_entries = static_cast<uint32_t>(l1.size());
  std::function<void(Header&)> fields = [=](Header& header) {
    header.size = size;
    header.l1_size = l1_entries;
    header.l1_table_offset = l1_offset;
  };
  result = co_await change.commit(std::move(fields));
  if (result) {
    mapping_.adopt_l1(std::move(l1), l1_offset);
  }
  co_return result;
}

io::Task<Result<void>> SnapshotEditor::show(std::string id) {
  if (!loaded_) {
    co_return loaded_;
  }
  const std::size_t index = table_.find(id);
  if (index == table_.entries().size()) {
    co_return fail(ENOENT, "Can't find snapshot");
  }
  const SnapshotEntry entry = table_.entries()[index];
  Result<std::vector<uint64_t>> l1 = co_await read_l1(entry);
  if (!l1) {
    co_return pass(l1);
  }
  const uint64_t needed = image_.geometry().l1_entries_for(entry.disk_size);
  if (entry.disk_size > INT64_MAX || needed > kMaxL1Bytes / kL1EntryBytes) {
    co_return fail(EFBIG, "qcow2: the disk of snapshot '{}' is too large", entry.id);
  }
  l1->resize(std::max<uint64_t>(l1->size(), needed));
  mapping_.adopt_l1(std::move(*l1), entry.l1_offset);
  image_.show_size(entry.disk_size);
  co_return Result<void>{};
}

// What has to be counted when the disk uses the L2 table at `to` instead of the one at `from`; 0
// stands for none. Of entries that refer to the same place nothing changes.
io::Task<Result<void>> SnapshotEditor::compare_tables(uint64_t from, uint64_t to,
                                                      Difference& difference) {
  TableBytes old_l2(image_.cluster_size());
  TableBytes new_l2(image_.cluster_size());
  Result<void> result;
  if (from != 0) {
    result = co_await read_l2(from, old_l2);
    difference.lowered.add(cluster(from));
  }
  if (result && to != 0) {
    result = co_await read_l2(to, new_l2);
    difference.raised.add(cluster(to));
  }
  bool flags = false;
  for (std::size_t at = 0; result && at < new_l2.size(); at += image_.geometry().l2_entry_bytes) {
    const auto old_entry = load_be<uint64_t>(old_l2.data() + at) & ~kEntryCopied;
    const auto new_entry = load_be<uint64_t>(new_l2.data() + at) & ~kEntryCopied;
    flags = flags || (new_l2[at] & std::byte{0x80}) != std::byte{0};
    const bool compressed = ((old_entry | new_entry) & kEntryCompressed) != 0;
    // Zeroed clusters that kept their place are the same place.
    const uint64_t ignored = compressed ? 0 : kEntryZero;
    if ((old_entry & ~ignored) == (new_entry & ~ignored)) {
      continue;
    }
    result = add_references(old_entry, difference.lowered);
    if (result) {
      result = add_references(new_entry, difference.raised);
    }
  }
  if (result && flags) {
    // Some writers leave flags in tables that are not in use. The disk is about to use this one,
    // and shares it.
    for (std::size_t at = 0; at < new_l2.size(); at += image_.geometry().l2_entry_bytes) {
      new_l2[at] &= std::byte{0x7f};
    }
    result = co_await image_.file().write(to, new_l2.data(), new_l2.size());
  }
  co_return result;
}

// Raises first: what both states use must not look free in between.
io::Task<Result<void>> SnapshotEditor::count(Difference& difference, Refcounts::Lowered& lowered) {
  Result<void> result = co_await refcounts_.raise(difference.raised);
  if (result) {
    result = co_await refcounts_.lower(difference.lowered, lowered);
  }
  difference.raised.clear();
  difference.lowered.clear();
  co_return result;
}

}  // namespace cairn::qcow2
