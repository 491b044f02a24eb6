// BitmapKeeper: storing bitmaps. All of them are in use on disk, so that their tables and data may
// be written in place; what is newly allocated for them is counted before a table refers to it.
// Any mixture of the old and the new sectors has, together with the map, what is marked: that of
// write_intent.h is left alone until all of it is durable.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/qcow2/bitmap_keeper.h"

namespace cairn::qcow2 {

using block::DirtyBitmap;

io::Task<Result<void>> BitmapKeeper::store() {
  disarm();
  co_await work_.join();
  const auto lock = co_await mutex_.lock();
  std::vector<Storing> storing;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const DirtyBitmap* mine = bitmap(i);
    if (entries_[i].in_use() && mine != nullptr && !mine->inconsistent()) {
      storing.push_back({.index = i});
    }
  }
  if (storing.empty()) {
    co_await end_tracking();
    co_return Result<void>{};
  }
  Result<void> result;
  if (image_.broken()) {
    result = fail(EIO, "the image takes no more writes");
  } else {
    result = co_await store_marked(storing, Afterwards::kTrusted);
  }
  if (!result) {
    arm(kPeriod);
    co_return pass(result,
                   fmt::format("Lost persistent bitmaps of node '{}': ", image_.node().name()));
  }
  image_.expect_no_writes();
  co_await end_tracking();
  tracking_ = Tracking::kUndecided;
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::store_marked(std::vector<Storing>& storing,
                                                  Afterwards afterwards) {
  for (Storing& one : storing) {
    const DirtyBitmap& source = *bitmap(one.index);
    one.losses = source.losses();
    if (afterwards == Afterwards::kInUse || source.gathering()) {
      one.bits = source.everything();
    }
  }
  // What was unmarked is in a backup. It is durable here, too, before its mark goes: or else a
  // crash could leave an older state of the disk, which is a change that nobody knows of.
  Result<void> result = co_await writeback_.flush_all();
  for (Storing& one : storing) {
    if (result) {
      result = co_await plan(one);
    }
  }
  if (result) {
    result = co_await writeback_.flush_all();
  }
  if (!result) {
    for (const Storing& one : storing) {
      for (const uint64_t place : one.allocated) {
        const Result<void> released = co_await release_now(place, 1);
        static_cast<void>(released);
      }
    }
    co_return result;
  }
  co_return co_await write_tables(storing, afterwards);
}

// Decides what the table is to say, and writes the data.
io::Task<Result<void>> BitmapKeeper::plan(Storing& storing) {
  const BitmapEntry& entry = entries_[storing.index];
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t wanted =
      bitmap_table_entries(image_.header().size, entry.granularity_bits, cluster_size);
  Result<Table> old = co_await read_table(entry);
  if (!old) {
    co_return pass(old);
  }
  storing.old_table = std::move(*old);
  for (uint64_t& value : storing.old_table) {
    // What a damaged image lends from other tables is not ours to write to, or to free.
    const uint64_t place = value & kEntryOffsetMask;
    if (place != 0 && image_.guard().protects_structure(place, cluster_size)) {
      value = 0;
      storing.whole = true;
    }
  }
  const auto clusters = [cluster_size](uint64_t entries) {
    return div_round_up(entries * sizeof(uint64_t), cluster_size);
  };
  storing.table_offset = entry.table_offset;
  if (clusters(wanted) != clusters(entry.table_entries)) {
    const Result<uint64_t> place = co_await refcounts_.allocate_contiguous(clusters(wanted));
    if (!place) {
      co_return std::unexpected(place.error());
    }
    storing.table_offset = *place;
    for (uint64_t i = 0; i < clusters(wanted); ++i) {
      storing.allocated.push_back(*place + i * cluster_size);
    }
  }
  storing.table.reserve(wanted);
  for (uint64_t i = 0; i < wanted; ++i) {
    const uint64_t value = co_await keep_or_store(storing, i);
    storing.table.push_back(value);
  }
  co_return Result<void>{};
}

// What is stored of a cluster's worth of bits is good enough while the map covers what is not.
io::Task<uint64_t> BitmapKeeper::keep_or_store(Storing& storing, uint64_t cluster) {
  const uint64_t covered = (image_.cluster_size() * 8) << entries_[storing.index].granularity_bits;
  if (!storing.whole && cluster < storing.old_table.size() &&
      !intent_.drops(cluster * covered, (cluster + 1) * covered)) {
    co_return storing.old_table[cluster];
  }
  co_return co_await store_cluster(storing, cluster);
}

// Writes a cluster's worth of bits, where it takes one; what the table has to say. Where there is
// no room, or it can not be written, every bit counts as set: too much is marked then, never too
// little.
io::Task<uint64_t> BitmapKeeper::store_cluster(Storing& storing, uint64_t cluster) {
  const DirtyBitmap& source = *bitmap(storing.index);
  const block::SparseBits& bits = storing.bits ? *storing.bits : source.bits();
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t first = cluster * cluster_size * 8;
  const uint64_t end = std::min(first + cluster_size * 8, bits.size());
  if (!bits.next_set(first, end)) {
    co_return 0;
  }
  if (!bits.next_clear(first, end)) {
    co_return kBitmapTableAllOnes;
  }
  uint64_t place = 0;
  if (cluster < storing.old_table.size()) {
    place = storing.old_table[cluster] & kEntryOffsetMask;
  }
  const bool reused = place != 0;
  Result<void> result;
  if (!reused) {
    const Result<uint64_t> space = co_await refcounts_.allocate_contiguous(1);
    if (!space) {
      result = std::unexpected(space.error());
    } else {
      place = *space;
    }
  }
  if (result) {
    std::vector<std::byte> bytes(cluster_size);
    bits.copy_bytes(first, bytes);
    result = co_await image_.file().write(place, bytes.data(), bytes.size());
  }
  if (result) {
    if (!reused) {
      storing.allocated.push_back(place);
    }
    co_return place;
  }
  if (!reused && place != 0) {
    const Result<void> released = co_await release_now(place, 1);
    static_cast<void>(released);
  }
  image_.node().graph().report_warning(
      fmt::format("bitmap '{}' of node '{}' was stored with more marked than was written to: {}",
                  source.name(), image_.node().name(), result.error().message()),
      "");
  co_return kBitmapTableAllOnes;
}

// What the tables refer to is durable; so are the tables before the directory trusts them.
io::Task<Result<void>> BitmapKeeper::write_tables(std::vector<Storing>& storing,
                                                  Afterwards afterwards) {
  std::vector<BitmapEntry> entries = entries_;
  bool moved = false;
  Result<void> result;
  for (const Storing& one : storing) {
    std::vector<std::byte> bytes(one.table.size() * sizeof(uint64_t));
    for (std::size_t i = 0; i < one.table.size(); ++i) {
      store_be(bytes.data() + i * sizeof(uint64_t), one.table[i]);
    }
    result = co_await write_padded(one.table_offset, bytes);
    if (!result) {
      co_return result;
    }
    BitmapEntry& entry = entries[one.index];
    moved = moved || entry.table_offset != one.table_offset;
    entry.table_offset = one.table_offset;
    entry.table_entries = static_cast<uint32_t>(one.table.size());
    entry.flags = bitmap(one.index)->enabled() ? entry.flags | BitmapEntry::kAuto
                                               : entry.flags & ~BitmapEntry::kAuto;
    if (afterwards == Afterwards::kTrusted) {
      entry.flags &= ~BitmapEntry::kInUse;
    }
  }
  result = co_await image_.file().flush();
  if (!result) {
    co_return result;
  }
  const std::vector<BitmapEntry> before = entries_;
  result = co_await write_entries(std::move(entries), moved);
  if (!result) {
    co_return result;
  }
  for (const Storing& one : storing) {
    if (const DirtyBitmap* mine = bitmap(one.index); one.whole && mine != nullptr) {
      stored_losses_[mine->name()] = one.losses;
    }
    free_replaced(one, before[one.index]);
  }
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::write_entries(std::vector<BitmapEntry> entries, bool moved) {
  if (moved) {
    co_return co_await switch_directory(std::move(entries));
  }
  if (entries == entries_ && marks_durable_) {
    co_return Result<void>{};
  }
  std::vector<BitmapEntry> before = std::exchange(entries_, std::move(entries));
  Result<void> result = co_await write_directory_in_place();
  if (!result) {
    entries_ = std::move(before);
  }
  co_return result;
}

void BitmapKeeper::free_replaced(const Storing& storing, const BitmapEntry& before) {
  for (std::size_t i = 0; i < storing.old_table.size(); ++i) {
    const uint64_t place = storing.old_table[i] & kEntryOffsetMask;
    if (i >= storing.table.size() || (storing.table[i] & kEntryOffsetMask) != place) {
      free_later(place, 1);
    }
  }
  if (storing.table_offset != before.table_offset) {
    free_later(before.table_offset,
               div_round_up(before.table_entries * sizeof(uint64_t), image_.cluster_size()));
  }
}

}  // namespace cairn::qcow2
