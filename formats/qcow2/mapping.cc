#include "formats/qcow2/mapping.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/codec.h"

namespace cairn::qcow2 {

namespace {
constexpr uint64_t kOtherTables = 3;  // the header, L1 and counts of a small image
}

using block::Extent;
using block::fault_point;
using block::FaultPoint;

Mapping::Mapping(Image& image, Refcounts& refcounts, Reclaim& reclaim, io::AsyncMutex& writeout,
                 uint64_t cache_bytes, uint64_t page_bytes)
    : image_(image),
      refcounts_(refcounts),
      reclaim_(reclaim),
      writeout_(writeout),
      pages_(image.file(), *this, {FaultPoint::kL2Load, FaultPoint::kL2Update},
             image.cluster_size(), cache_bytes, page_bytes),
      cluster_bits_(image.geometry().cluster_bits),
      cluster_mask_(image.geometry().cluster_mask()),
      entry_bytes_(static_cast<uint32_t>(image.geometry().l2_entry_bytes)),
      page_shift_(cluster_bits_ +
                  static_cast<uint32_t>(std::countr_zero(pages_.page_size() / entry_bytes_))),
      table_shift_(cluster_bits_ +
                   static_cast<uint32_t>(std::countr_zero(image.geometry().l2_entries()))),
      entry_mask_(pages_.page_size() / entry_bytes_ - 1),
      l1_offset_(image.header().l1_table_offset) {}

Mapping::~Mapping() = default;

io::Task<Result<void>> Mapping::load() {
  const uint64_t entries = image_.header().l1_size;
  // In place: there may be 32 MiB of them.
  l1_.resize(entries);
  const std::span<std::byte> raw = std::as_writable_bytes(std::span(l1_));
  Result<void> read = co_await read_metadata(image_.file(), l1_offset_, raw);
  if (!read) {
    co_return pass(read, "Could not read L1 table: ");
  }
  for (uint64_t i = 0; i < entries; ++i) {
    l1_[i] = load_be<uint64_t>(raw.data() + i * kL1EntryBytes);
    if (table_offset(i) != 0 && image_.open_for_writing()) {
      image_.guard().protect(MetadataKind::kActiveL2, table_offset(i), image_.cluster_size());
    }
  }
  pages_.set_table_count(entries);
  has_holes_ = file_has_holes();
  co_return Result<void>{};
}

// An image whose clusters were allocated before there is anything in them: a tenth of them, at
// least two, has no space behind it. Tables of small images are mostly holes themselves.
bool Mapping::file_has_holes() const {
  const block::Node& file = image_.data().node();
  const int64_t allocated = file.driver().allocated_size();
  if (allocated <= 0 || image_.geometry().external_data) {
    return false;
  }
  const uint64_t clusters = align_up(file.length(), image_.cluster_size()) / image_.cluster_size();
  const uint64_t stored = static_cast<uint64_t>(allocated) / image_.cluster_size();
  const auto tables = std::ranges::count_if(l1_, [](uint64_t entry) { return entry != 0; });
  const uint64_t expected = static_cast<uint64_t>(tables) + kOtherTables;
  return clusters >= stored + expected + std::max<uint64_t>(2, (clusters + 5) / 10);
}

bool Mapping::has_table(uint64_t offset) const { return table_offset(l1_index(offset)) != 0; }

uint64_t Mapping::page_end(uint64_t offset) const {
  return ((offset >> page_shift_) + 1) << page_shift_;
}

uint64_t Mapping::table_end(uint64_t offset) const {
  return ((offset >> table_shift_) + 1) << table_shift_;
}

uint64_t Mapping::entry(Page& page, uint64_t offset) const {
  return load_be<uint64_t>(page.data() + byte_in_page(offset));
}

SubclusterBitmap Mapping::subclusters(Page& page, uint64_t offset) const {
  if (entry_bytes_ == kL2EntryBytes) {
    return {};
  }
  return SubclusterBitmap(
      load_be<uint64_t>(page.data() + byte_in_page(offset) + kSubclusterBitmapOffset));
}

void Mapping::set_entry(Page& page, uint64_t offset, uint64_t value, SubclusterBitmap subclusters) {
  const uint32_t at = byte_in_page(offset);
  store_be(page.data() + at, value);
  if (entry_bytes_ != kL2EntryBytes) {
    store_be(page.data() + at + kSubclusterBitmapOffset, subclusters.stored());
  }
  pages_.mark_dirty(page, at, entry_bytes_);
}

bool Mapping::peek(uint64_t offset, uint64_t& entry, uint64_t& span) const {
  const uint64_t index = l1_index(offset);
  if (table_offset(index) == 0) {
    entry = 0;
    span = table_end(offset) - offset;
    return true;
  }
  Page* page = pages_.find(index, page_index(offset));
  if (page == nullptr) {
    return false;
  }
  page->referenced = true;
  entry = load_be<uint64_t>(page->data() + byte_in_page(offset));
  span = 0;
  return true;
}

// How far the extent that begins with `entry` goes on, given that it has begun at `offset`.
uint64_t Mapping::run_length(uint64_t offset, uint64_t length, uint64_t entry,
                             uint64_t span) const {
  const ClusterKind kind = image_.geometry().classify(entry);
  const bool has_host = kind == ClusterKind::kData || kind == ClusterKind::kZeroAllocated;
  uint64_t covered = span != 0 ? span : image_.cluster_size() - (offset & cluster_mask_);
  uint64_t expected = entry;
  while (covered < length) {
    expected += has_host ? image_.cluster_size() : 0;
    uint64_t next = 0;
    uint64_t next_span = 0;
    if (!peek(offset + covered, next, next_span)) {
      break;
    }
    if (has_host ? next != expected : image_.geometry().classify(next) != kind) {
      break;
    }
    covered += next_span != 0 ? next_span : image_.cluster_size();
  }
  return std::min(covered, length);
}

bool Mapping::try_map(uint64_t offset, uint64_t length, Extent& extent) {
  if (entry_bytes_ != kL2EntryBytes) {
    return try_map_subclusters(offset, length, extent);
  }
  uint64_t entry = 0;
  uint64_t span = 0;
  if (!peek(offset, entry, span)) {
    return false;
  }
  extent = Extent{};
  switch (image_.geometry().classify(entry)) {
    case ClusterKind::kData:
      return map_data(offset, length, entry, extent);
    case ClusterKind::kUnallocated:
      extent.kind = Extent::Kind::kHole;
      extent.length = run_length(offset, length, entry, span);
      return true;
    case ClusterKind::kZeroPlain:
    case ClusterKind::kZeroAllocated: {
      const uint64_t host = entry & kEntryOffsetMask;
      if ((host != 0 && !place_is_right(offset, host)) || image_.header().version < 3) {
        return false;  // map() says what is wrong
      }
      extent.kind = Extent::Kind::kZero;
      extent.child = &image_.data();
      extent.host_valid = host != 0;
      extent.host_offset = host + (offset & cluster_mask_);
      extent.length = run_length(offset, length, entry, span);
      return true;
    }
    case ClusterKind::kCompressed:
      break;
  }
  return map_compressed(offset, length, entry, extent);
}

bool Mapping::map_compressed(uint64_t offset, uint64_t length, uint64_t entry,
                             Extent& extent) const {
  if (image_.geometry().external_data) {
    return false;  // map() says what is wrong
  }
  const CompressedRange stored = image_.geometry().compressed_range(entry);
  extent.kind = Extent::Kind::kData;
  extent.host_valid = true;
  extent.host_offset = stored.host_offset;
  extent.stored_length = stored.length;
  extent.child = &image_.file();
  extent.codec = &codec_for(image_.header().compression);
  extent.unit_offset = offset & ~cluster_mask_;
  extent.unit_length = image_.cluster_size();
  extent.length = std::min(length, image_.cluster_size() - (offset & cluster_mask_));
  return true;
}

// Whether the cluster of a guest offset can lie at `host`. In an external data file that is its
// guest offset (the data file holds what a raw image would hold there).
bool Mapping::place_is_right(uint64_t offset, uint64_t host) const {
  return image_.geometry().external_data ? host == (offset & ~cluster_mask_)
                                         : (host & cluster_mask_) == 0;
}

bool Mapping::map_data(uint64_t offset, uint64_t length, uint64_t entry, Extent& extent) {
  if (!place_is_right(offset, entry & kEntryOffsetMask)) {
    return false;  // map() says what is wrong
  }
  extent.length = length <= image_.cluster_size() - (offset & cluster_mask_)
                      ? length
                      : run_length(offset, length, entry, 0);
  place_data(offset, entry, extent);
  return true;
}

void Mapping::place_data(uint64_t offset, uint64_t entry, Extent& extent) {
  const uint64_t host = entry & kEntryOffsetMask;
  const uint64_t in_cluster = offset & cluster_mask_;
  extent.kind = Extent::Kind::kData;
  extent.host_valid = true;
  extent.child = &image_.data();
  extent.host_offset = host + in_cluster;
  extent.in_place = (entry & kEntryCopied) != 0 && image_.writable() &&
                    !image_.metadata_at(extent.host_offset, extent.length);
  if (has_holes_) {
    extent.child_status = Extent::ChildStatus::kZeroes;
  }
  if (extent.host_offset + extent.length > file_length_) [[unlikely]] {
    // What lies beyond the end of the file reads as zeroes; a write there makes the file longer.
    file_length_ = image_.data().length();
    if (extent.host_offset >= file_length_) {
      extent.kind = Extent::Kind::kZero;
      extent.beyond_child = host < file_length_;
      if (extent.beyond_child) {
        extent.length = std::min(extent.length, image_.cluster_size() - in_cluster);
      }
    } else {
      extent.length = std::min(extent.length, file_length_ - extent.host_offset);
    }
  }
}

io::Task<Result<Extent>> Mapping::map(uint64_t offset, uint64_t length) {
  Extent extent;
  for (;;) {
    if (try_map(offset, length, extent)) {
      co_return extent;
    }
    const uint64_t index = l1_index(offset);
    Result<void> sane = co_await check_table(index);
    if (!sane) {
      co_return pass(sane);
    }
    Result<PagePin> page = co_await pages_.get(index, page_index(offset));
    if (!page) {
      co_return pass(page);
    }
    sane = co_await validate(**page, offset);
    if (!sane) {
      co_return pass(sane);
    }
  }
}

io::Task<Result<void>> Mapping::check_table(uint64_t index) {
  if ((table_offset(index) & cluster_mask_) != 0) {
    std::string message = fmt::format("L2 table offset {} unaligned (L1 index: {})",
                                      c_hex(table_offset(index)), c_hex(index));
    co_return std::unexpected(co_await image_.corrupt(std::move(message)));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Mapping::check_writable_table(uint64_t index) {
  Result<void> sane = co_await check_table(index);
  if (sane && table_offset(index) != 0) {
    sane = co_await image_.may_write(MetadataKind::kActiveL2, table_offset(index),
                                     image_.cluster_size());
  }
  co_return sane;
}

io::Task<Result<void>> Mapping::validate(Page& page, uint64_t offset) {
  const uint64_t entry = this->entry(page, offset);
  const SubclusterBitmap subclusters = this->subclusters(page, offset);
  const ClusterKind kind = image_.geometry().classify(entry);
  const bool zero = kind == ClusterKind::kZeroPlain || kind == ClusterKind::kZeroAllocated;
  const uint64_t host = entry & kEntryOffsetMask;
  const bool placed = image_.geometry().extended_l2()
                          ? kind != ClusterKind::kCompressed && image_.geometry().has_place(entry)
                          : kind == ClusterKind::kData || kind == ClusterKind::kZeroAllocated;
  std::string message;
  if (kind == ClusterKind::kCompressed && image_.geometry().external_data) {
    message = "Compressed cluster entry found in image with external data file";
  } else if (kind != ClusterKind::kCompressed && !sensible(image_.geometry(), entry, subclusters)) {
    message = "Invalid cluster entry found ";
  } else if (zero && image_.header().version < 3) {
    message = "Zero cluster entry found in pre-v3 image";
  } else if ((host & cluster_mask_) != 0 && kind != ClusterKind::kCompressed) {
    message = fmt::format("{} offset {} unaligned",
                          zero ? "Preallocated zero cluster" : "Cluster allocation", c_hex(host));
  } else if (placed && !place_is_right(offset, host)) {
    message = fmt::format(
        "External data file host cluster offset {} does not match guest cluster offset {}",
        c_hex(host), c_hex(offset & ~cluster_mask_));
  } else {
    co_return Result<void>{};
  }
  message += fmt::format(" (L2 offset: {}, L2 index: {})", c_hex(table_offset(l1_index(offset))),
                         c_hex(image_.geometry().l2_index(offset)));
  co_return std::unexpected(co_await image_.corrupt(std::move(message)));
}

io::Task<Result<PagePin>> Mapping::readable_page(uint64_t offset) {
  const uint64_t index = l1_index(offset);
  Result<void> sane = co_await check_table(index);
  if (!sane) {
    co_return pass(sane);
  }
  co_return co_await pages_.get(index, page_index(offset));
}

io::Task<Result<PagePin>> Mapping::writable_page(uint64_t offset) {
  const uint64_t index = l1_index(offset);
  Result<void> ready = co_await check_writable_table(index);
  // A damaged entry may have the flag and no table.
  if (ready && ((l1_[index] & kEntryCopied) == 0 || table_offset(index) == 0)) {
    ready = co_await ensure_table(index);
  }
  if (!ready) {
    co_return pass(ready);
  }
  co_return co_await pages_.get(index, page_index(offset));
}

io::Task<Result<void>> Mapping::ensure_table(uint64_t index) {
  const auto lock = co_await tables_mutex_.lock();
  if ((l1_[index] & kEntryCopied) != 0 && table_offset(index) != 0) {
    co_return Result<void>{};  // somebody else has done it
  }
  Result<void> clear = co_await image_.may_write(MetadataKind::kActiveL1,
                                                 l1_offset_ + index * kL1EntryBytes, kL1EntryBytes);
  if (!clear) {
    co_return clear;
  }
  Result<uint64_t> allocated = co_await refcounts_.allocate_contiguous(1);
  if (!allocated) {
    co_return pass(allocated);
  }
  const uint64_t old_offset = table_offset(index);
  const uint64_t new_offset = *allocated;
  Result<void> made = co_await make_table(old_offset, new_offset);
  if (!made) {
    const Result<void> released = co_await refcounts_.release(new_offset, 1);
    static_cast<void>(released);
    co_return made;
  }
  place_table(index, new_offset);
  co_return Result<void>{};
}

// The L2 table of an index is at a new place now; the old one is on its way to be free.
void Mapping::place_table(uint64_t index, uint64_t host_offset) {
  const uint64_t old_offset = table_offset(index);
  l1_pending_.try_emplace(index, l1_[index]);
  l1_[index] = host_offset | kEntryCopied;
  image_.guard().protect(MetadataKind::kActiveL2, host_offset, image_.cluster_size());
  if (old_offset != 0) {
    image_.guard().unprotect(MetadataKind::kActiveL2, old_offset, image_.cluster_size());
    reclaim_.queue({.host_offset = old_offset, .clusters = 1, .cause = FreeCause::kOther});
  }
}

io::Task<Result<void>> Mapping::move_table(uint64_t index) {
  const auto lock = co_await tables_mutex_.lock();
  Result<void> clear = co_await check_writable_table(index);
  if (clear) {
    clear = co_await image_.may_write(MetadataKind::kActiveL1, l1_offset_ + index * kL1EntryBytes,
                                      kL1EntryBytes);
  }
  if (!clear) {
    co_return clear;
  }
  const Result<uint64_t> place = co_await refcounts_.allocate_contiguous(1);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  const uint64_t old_place = table_offset(index);
  Result<void> moved;
  if (*place < old_place) {
    moved = co_await make_table(old_place, *place);
  }
  if (!moved || *place > old_place) {
    const Result<void> released = co_await refcounts_.release(*place, 1);
    static_cast<void>(released);
    co_return moved;
  }
  place_table(index, *place);
  co_return moved;
}

// Fills a new L2 table: empty, or a copy. Pages of the old one that are in memory hold the same
// and need not be read again.
io::Task<Result<void>> Mapping::make_table(uint64_t old_offset, uint64_t new_offset) {
  const uint64_t length = image_.cluster_size();
  if (old_offset == 0) {
    co_await fault_point(image_.file(), FaultPoint::kL2AllocWrite);
    co_return co_await image_.file().write_zeroes(new_offset, length);
  }
  auto copy = io::AlignedBuffer::allocate(length);
  if (!copy) {
    co_return pass(copy);
  }
  co_await fault_point(image_.file(), FaultPoint::kL2AllocCowRead);
  Result<void> result = co_await read_metadata(image_.file(), old_offset, copy->span());
  if (result) {
    co_await fault_point(image_.file(), FaultPoint::kL2AllocWrite);
    result = co_await image_.file().write(new_offset, copy->data(), length);
  }
  co_return result;
}

}  // namespace cairn::qcow2
