// BitmapKeeper: marking, adding and removing bitmaps.
#include "formats/qcow2/bitmap_keeper.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/node.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

using block::DirtyBitmap;

DirtyBitmap* BitmapKeeper::bitmap(std::size_t index) const {
  const block::DirtyBitmaps* all = image_.node().bitmaps();
  DirtyBitmap* found = all != nullptr ? all->find(entries_[index].name) : nullptr;
  return found != nullptr && found->persistent() ? found : nullptr;
}

std::optional<std::size_t> BitmapKeeper::index_of(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &BitmapEntry::name);
  return found == entries_.end()
             ? std::nullopt
             : std::optional(static_cast<std::size_t>(found - entries_.begin()));
}

Result<void> BitmapKeeper::can_add(std::string_view name, uint32_t granularity) const {
  if (!supported()) {
    return fail(ENOTSUP, "Cannot store dirty bitmaps in qcow2 v2 files");
  }
  if (!image_.open_for_writing()) {
    return fail(EPERM, "The image is read-only");
  }
  if (name.size() > kMaxBitmapName) {
    return fail(EINVAL, "Name length exceeds maximum ({} characters)", kMaxBitmapName);
  }
  const auto bits = static_cast<uint32_t>(std::countr_zero(granularity));
  const uint64_t needed = div_round_up(div_round_up(image_.header().size, uint64_t{1} << bits), 8);
  if (needed > kMaxBitmapBytes) {
    return fail(EINVAL, "Too much space will be occupied by the bitmap. Use larger granularity");
  }
  if (entries_.size() >= kMaxBitmaps) {
    return fail(EINVAL, "Maximum number of persistent bitmaps is already reached");
  }
  if (directory_.size() + align_up(kBitmapEntryFixed + name.size(), 8) > kMaxBitmapDirectoryBytes) {
    return fail(EINVAL, "Not enough space in the bitmap directory");
  }
  return {};
}

// Places for tables are whole clusters; directories and tables are written in whole sectors.
io::Task<Result<void>> BitmapKeeper::write_padded(uint64_t offset,
                                                  const std::vector<std::byte>& bytes) {
  std::vector<std::byte> padded(align_up(bytes.size(), PageCache::kSector));
  std::ranges::copy(bytes, padded.begin());
  co_return co_await image_.file().write(offset, padded.data(), padded.size());
}

// What nothing on disk refers to.
io::Task<Result<void>> BitmapKeeper::release_now(uint64_t offset, uint64_t clusters) {
  co_return co_await refcounts_.release(offset, clusters);
}

void BitmapKeeper::free_later(uint64_t offset, uint64_t clusters) {
  if (offset != 0 && clusters != 0) {
    reclaim_.queue({.host_offset = offset, .clusters = clusters, .cause = FreeCause::kOther});
  }
}

io::Task<Result<void>> BitmapKeeper::write_directory_in_place() {
  marks_durable_ = false;
  std::vector<std::byte> bytes = serialize_bitmap_directory(entries_);
  Result<void> written =
      co_await image_.may_write(MetadataKind::kBitmapDirectory, directory_offset_, bytes.size());
  if (written) {
    written = co_await write_padded(directory_offset_, bytes);
  }
  if (written) {
    written = co_await image_.file().flush();
  }
  if (written) {
    directory_ = std::move(bytes);
    marks_durable_ = true;
  } else {
    // It may call bitmaps clean that are in use: none of them may miss the next write.
    image_.expect_no_writes();
  }
  co_return written;
}

io::Task<Result<void>> BitmapKeeper::mark(std::vector<std::size_t> indices) {
  std::erase_if(indices, [this](std::size_t index) { return !unmarked(index); });
  if (indices.empty()) {
    co_return Result<void>{};
  }
  Result<void> tracked = co_await start_tracking(image_.writable());
  if (!tracked) {
    co_return tracked;
  }
  for (const std::size_t index : indices) {
    entries_[index].flags |= BitmapEntry::kInUse;
  }
  Result<void> written = co_await write_directory_in_place();
  if (!written) {
    co_return pass(written, "Could not mark bitmaps as in use: ");
  }
  co_return written;
}

io::Task<Result<void>> BitmapKeeper::changing(std::string name, bool records) {
  Result<void> result = co_await image_.prepare_write();
  if (!result) {
    co_return result;
  }
  const auto lock = co_await mutex_.lock();
  const auto index = index_of(name);
  if (!index || !usable(*index)) {
    co_return result;
  }
  // One that was found recording after a crash goes on to record.
  if (BitmapEntry& entry = entries_[*index]; records && (entry.flags & BitmapEntry::kAuto) == 0) {
    entry.flags |= BitmapEntry::kAuto;
    marks_durable_ = false;
  }
  std::vector<std::size_t> indices{*index};
  result = co_await mark(std::move(indices));
  hurry_ = true;
  arm(kSoon);
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::before_resize(uint64_t from, uint64_t to) {
  const auto lock = co_await mutex_.lock();
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (const DirtyBitmap* mine = bitmap(i)) {
      if (auto usable = mine->check(); !usable) {
        co_return usable;
      }
      indices.push_back(i);
    }
  }
  Result<void> result = co_await mark(std::move(indices));
  // The granule that the new end cuts may be marked for what is dropped. It stays marked, and the
  // map, which forgets what it has of that, is to have the rest of it.
  if (result && tracking_ == Tracking::kOn && to < from && to > 0) {
    result = co_await intent_.cover(to - 1, 1);
  }
  co_return result;
}

void BitmapKeeper::adopt_directory(std::vector<BitmapEntry> entries, std::vector<std::byte> bytes,
                                   uint64_t offset) {
  OverlapGuard& guard = image_.guard();
  if (directory_offset_ != 0) {
    guard.unprotect(MetadataKind::kBitmapDirectory, directory_offset_, directory_.size());
  }
  entries_ = std::move(entries);
  directory_ = std::move(bytes);
  directory_offset_ = offset;
  marks_durable_ = true;
  if (offset != 0) {
    guard.protect(MetadataKind::kBitmapDirectory, offset, directory_.size());
  }
}

// A new directory, durably, with the map of what is about to change behind it.
io::Task<Result<void>> BitmapKeeper::write_directory(const std::vector<BitmapEntry>& entries,
                                                     const std::vector<std::byte>& bytes,
                                                     uint64_t offset) {
  Result<void> result;
  if (offset != 0) {
    result = co_await write_padded(offset, bytes);
  }
  if (result && wants_map(entries, bytes.size())) {
    const auto place = WriteIntent::place(offset, bytes.size(), image_.cluster_size());
    std::vector<bool> known = vouched(entries);
    result = co_await intent_.write_copy(*place, std::move(known), tracking_ != Tracking::kOn);
  }
  // Counts, tables and the directory are durable before the header names it.
  if (result) {
    result = co_await writeback_.flush_all();
  }
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::switch_directory(std::vector<BitmapEntry> entries) {
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t old_offset = directory_offset_;
  const uint64_t old_clusters = div_round_up(directory_.size(), cluster_size);
  std::vector<std::byte> bytes = serialize_bitmap_directory(entries);
  const uint64_t clusters = div_round_up(bytes.size(), cluster_size);
  uint64_t offset = 0;
  std::optional<BitmapsExtension> extension;
  const bool has_map = wants_map(entries, bytes.size());
  Result<void> result;
  if (has_map) {
    result = co_await expect_map();
    if (!result) {
      co_return result;
    }
  }
  if (!entries.empty()) {
    const Result<uint64_t> place = co_await refcounts_.allocate_contiguous(clusters);
    if (!place) {
      co_return std::unexpected(place.error());
    }
    offset = *place;
    extension = {.bitmaps = static_cast<uint32_t>(entries.size()),
                 .directory_size = bytes.size(),
                 .directory_offset = offset};
  }
  // The map stays as it is while it is copied.
  auto held = co_await intent_.hold();
  result = co_await write_directory(entries, bytes, offset);
  if (result) {
    result = co_await image_.set_bitmaps_extension(extension);
  }
  if (!result) {
    if (offset != 0 && !image_.header_unknown()) {
      const Result<void> released = co_await release_now(offset, clusters);
      static_cast<void>(released);
    }
    co_return result;
  }
  adopt_directory(std::move(entries), std::move(bytes), offset);
  free_later(old_offset, old_clusters);
  if (has_map) {
    intent_.moved();
    tracking_ = Tracking::kOn;
    arm(kPeriod);
    co_return result;
  }
  held.unlock();
  stop_tracking();
  // Nothing that is in use has a map; should the header go on to vouch for one, that is harmless.
  const Result<void> cleared = co_await vouch_for_map(false);
  static_cast<void>(cleared);
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::add(const DirtyBitmap& bitmap) {
  Result<void> result = co_await image_.prepare_write();
  if (!result) {
    co_return result;
  }
  const auto lock = co_await mutex_.lock();
  if (auto can = can_add(bitmap.name(), bitmap.granularity()); !can) {
    co_return can;
  }
  if (index_of(bitmap.name())) {
    co_return fail(EEXIST, "Bitmap with the same name is already stored");
  }
  const auto granularity_bits = static_cast<uint8_t>(std::countr_zero(bitmap.granularity()));
  const uint64_t table_entries =
      bitmap_table_entries(image_.header().size, granularity_bits, image_.cluster_size());
  const uint64_t length = table_entries * sizeof(uint64_t);
  const uint64_t clusters = div_round_up(length, image_.cluster_size());
  const Result<uint64_t> table = co_await refcounts_.allocate_contiguous(clusters);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  // Whatever comes before it is stored: no entry of the table refers to anything.
  result = co_await write_padded(*table, std::vector<std::byte>(length));
  if (result) {
    std::vector<BitmapEntry> entries = entries_;
    entries.push_back({.table_offset = *table,
                       .table_entries = static_cast<uint32_t>(table_entries),
                       .flags = BitmapEntry::kInUse | (bitmap.enabled() ? BitmapEntry::kAuto : 0),
                       .granularity_bits = granularity_bits,
                       .name = bitmap.name()});
    result = co_await switch_directory(std::move(entries));
  }
  if (!result && !image_.header_unknown()) {
    const Result<void> released = co_await release_now(*table, clusters);
    static_cast<void>(released);
  }
  if (result) {
    stored_losses_.erase(bitmap.name());
    hurry_ = true;
    arm(kSoon);
  }
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::remove_all() {
  while (!entries_.empty()) {
    const std::string name = entries_.back().name;
    DirtyBitmap* mine = bitmap(entries_.size() - 1);
    Result<void> removed = co_await remove(name);
    if (!removed) {
      co_return removed;
    }
    if (mine != nullptr) {
      mine->set_persistent(false);
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> BitmapKeeper::remove(std::string name) {
  Result<void> result = co_await image_.prepare_write();
  if (!result) {
    co_return result;
  }
  const auto lock = co_await mutex_.lock();
  const auto index = index_of(name);
  if (!index) {
    co_return Result<void>{};
  }
  const BitmapEntry entry = entries_[*index];
  // A table that can not be believed is left as a leak, with what it refers to; one that can not be
  // read may be sound.
  const Result<Table> table = co_await read_table(entry);
  if (!table && table.error().code() != EINVAL) {
    co_return std::unexpected(table.error());
  }
  std::vector<BitmapEntry> entries = entries_;
  entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(*index));
  result = co_await switch_directory(std::move(entries));
  if (!result) {
    co_return result;
  }
  if (table) {
    for (const uint64_t value : *table) {
      const uint64_t place = value & kEntryOffsetMask;
      // What a damaged image lends from other tables is not ours to free.
      if (place != 0 && !image_.guard().protects_structure(place, image_.cluster_size())) {
        free_later(place, 1);
      }
    }
    free_later(entry.table_offset,
               div_round_up(entry.table_entries * sizeof(uint64_t), image_.cluster_size()));
  }
  co_return result;
}

}  // namespace cairn::qcow2
