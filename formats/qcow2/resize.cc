// Qcow2Driver: changing the size of the disk, and preallocation. No request is in flight meanwhile.
#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

// What must be so before anything is changed.
io::Task<Result<void>> Qcow2Driver::check_resize(uint64_t length) {
  if (!is_aligned(length, 512)) {
    co_return fail(EINVAL, "The new size must be a multiple of 512");
  }
  Result<void> result = co_await prepare_write();
  if (!result) {
    co_return result;
  }
  result = co_await bitmaps_.before_resize(this->length(), length);
  if (!result) {
    co_return result;
  }
  if (image_.header().snapshot_count != 0 && image_.header().version < 3) {
    co_return fail(ENOTSUP, "Can't resize a v2 image which has snapshots");
  }
  co_return result;
}

io::Task<Result<bool>> Qcow2Driver::prepare_growth(uint64_t length) {
  Result<void> result = co_await check_resize(length);
  if (!result) {
    co_return pass(result);
  }
  if (image_.geometry().external_data) {
    co_return false;  // grow_data() clears where the data is
  }
  const uint64_t entries = image_.geometry().l1_entries_for(length);
  if (entries > mapping_.l1().size()) {
    result = co_await mapping_.grow_l1(entries, this->length());
  }
  if (!result) {
    co_return pass(result);
  }
  co_return true;
}

io::Task<Result<void>> Qcow2Driver::resize(uint64_t length, block::ResizeOptions options) {
  Result<void> result = co_await check_resize(length);
  if (!result) {
    co_return result;
  }
  const uint64_t old_length = this->length();
  if (length < old_length) {
    if (options.preallocation != block::Preallocation::kOff) {
      co_return fail(ENOTSUP, "Preallocation can't be used for shrinking an image");
    }
    co_return co_await shrink(length);
  }
  if (image_.geometry().external_data) {
    result = co_await grow_data(length, options);
  }
  // A cluster that is half a part of the disk may show the backing file.
  const bool backed = hides_backing() || !image_.header().backing_file.empty();
  const uint64_t begin = backed ? align_up(old_length, image_.cluster_size())
                                : align_down(old_length, image_.cluster_size());
  const uint64_t entries = image_.geometry().l1_entries_for(length);
  if (result && image_.data_is_raw()) {
    // What is not mapped yet must not be a part of the disk: the raw file would show what is
    // written there before the mapping does.
    result = co_await mapping_.grow_l1(entries, old_length);
    if (result) {
      result = co_await preallocate(begin, length, block::Preallocation::kMetadata);
    }
    if (result) {
      result = co_await writeback_.flush();
    }
  }
  if (result) {
    result = co_await mapping_.grow_l1(entries, length);
  }
  const bool all_mapped =
      options.preallocation == block::Preallocation::kOff || image_.data_is_raw();
  if (!result || all_mapped) {
    co_return result;
  }
  result = co_await preallocate(begin, length, options.preallocation);
  if (result) {
    result = co_await writeback_.flush();
  }
  co_return result;
}

// Makes the external data file as long as the disk will be. What is there behind the disk's end
// must not become part of it.
io::Task<Result<void>> Qcow2Driver::grow_data(uint64_t length, block::ResizeOptions options) {
  block::Edge& data = image_.data();
  const uint64_t old_end = std::min(data.length(), length);
  if (options.preallocation == block::Preallocation::kMetadata) {
    options.preallocation = block::Preallocation::kOff;
  }
  options.exact = image_.data_is_raw();
  Result<void> result;
  if (options.exact || data.length() < length) {
    result = co_await data.resize(length, options);
  }
  if (result && old_end > this->length()) {
    const block::ZeroFlags flags{.may_unmap = true};
    result = co_await data.write_zeroes(this->length(), old_end - this->length(), flags);
  }
  if (!result) {
    co_return pass(result, "Could not resize the external data file: ");
  }
  co_return result;
}

// Writes out until nothing changes any more: freeing clusters changes refcounts.
io::Task<Result<void>> Qcow2Driver::settle() {
  Result<void> result;
  do {
    result = co_await writeback_.flush_all();
    co_await reclaim_.join();
  } while (result && (mapping_.dirty() || refcounts_.dirty() || reclaim_.queued() != 0));
  co_return result;
}

io::Task<Result<void>> Qcow2Driver::shrink(uint64_t length) {
  const uint64_t old_length = this->length();
  // The header first: a power cut then leaves clusters that nobody can reach, never a disk that
  // lost some of what it shows.
  Result<void> result = co_await mapping_.grow_l1(mapping_.l1().size(), length);
  if (!result) {
    co_return result;
  }
  const uint64_t begin = align_up(length, image_.cluster_size());
  const uint64_t end =
      image_.geometry().l1_entries_for(old_length) * image_.geometry().l2_coverage();
  if (begin < end) {
    co_await block::fault_point(image_.file(), block::FaultPoint::kL1ShrinkFreeL2Clusters);
    result = co_await drop_clusters(begin, end);
  }
  if (result) {
    co_await block::fault_point(image_.file(), block::FaultPoint::kL1ShrinkWriteTable);
    result = co_await settle();
  }
  if (result) {
    result = co_await cut_file();
  }
  if (result && image_.geometry().external_data) {
    result = co_await image_.data().resize(length, {.exact = image_.data_is_raw()});
    mapping_.file_was_cut();
    if (!result) {
      co_return pass(result, "Could not resize the external data file: ");
    }
  }
  co_return result;
}

// Frees what [offset, end) maps to: within the first L2 table entry by entry, then whole tables.
io::Task<Result<void>> Qcow2Driver::drop_clusters(uint64_t offset, uint64_t end) {
  const Geometry& geometry = image_.geometry();
  while (offset < end) {
    const uint64_t table_end = std::min(end, mapping_.table_end(offset));
    if (!mapping_.has_table(offset)) {
      offset = table_end;
      continue;
    }
    Result<void> result = co_await prepare_write();
    if (!result) {
      co_return result;
    }
    if (offset % geometry.l2_coverage() == 0) {
      result = co_await drop_table(geometry.l1_index(offset));
      if (!result) {
        co_return result;
      }
      offset = table_end;
      continue;
    }
    Result<PagePin> page = co_await mapping_.writable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    const uint64_t page_end = std::min(table_end, mapping_.page_end(offset));
    for (; offset < page_end; offset += geometry.cluster_size()) {
      const uint64_t entry = mapping_.entry(**page, offset);
      if (entry != 0) {
        free_entry(entry, FreeCause::kRequest);
        mapping_.set_entry(**page, offset, 0);
      }
    }
  }
  co_return Result<void>{};
}

// Frees an L2 table and what it refers to. Its entries stay as they are: a snapshot may share it.
io::Task<Result<void>> Qcow2Driver::drop_table(uint64_t l1_index) {
  const Geometry& geometry = image_.geometry();
  Result<void> sane = co_await mapping_.check_writable_table(l1_index);
  if (!sane) {
    co_return sane;
  }
  // All or nothing: a cluster is not free as long as the table that refers to it is there.
  std::vector<uint64_t> entries;
  const uint64_t end = (l1_index + 1) * geometry.l2_coverage();
  for (uint64_t offset = l1_index * geometry.l2_coverage(); offset < end;) {
    Result<PagePin> page = co_await mapping_.readable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    for (const uint64_t page_end = mapping_.page_end(offset); offset < page_end;
         offset += geometry.cluster_size()) {
      if (const uint64_t entry = mapping_.entry(**page, offset); entry != 0) {
        entries.push_back(entry);
      }
    }
  }
  for (const uint64_t entry : entries) {
    free_entry(entry, FreeCause::kRequest);
  }
  mapping_.drop_table(l1_index);
  co_return Result<void>{};
}

// Gives back the free space at the end of the file.
io::Task<Result<void>> Qcow2Driver::cut_file() {
  const uint64_t cluster_size = image_.cluster_size();
  uint64_t clusters = div_round_up(image_.file().length(), cluster_size);
  while (clusters > 0) {
    const Result<uint64_t> count = co_await refcounts_.get(clusters - 1);
    if (!count) {
      co_return std::unexpected(count.error());
    }
    if (*count != 0) {
      break;
    }
    --clusters;
  }
  if (clusters * cluster_size >= image_.file().length()) {
    co_return Result<void>{};
  }
  // What can not be cut is free space inside the file, and no reason to fail.
  const Result<void> cut = co_await image_.file().resize(clusters * cluster_size, {});
  static_cast<void>(cut);
  mapping_.file_was_cut();
  co_return Result<void>{};
}

io::Task<Result<void>> Qcow2Driver::preallocate(uint64_t offset, uint64_t end,
                                                block::Preallocation mode) {
  offset = align_down(offset, image_.cluster_size());
  while (offset < end) {
    Result<void> ready = co_await prepare_write();
    if (!ready) {
      co_return ready;
    }
    Result<PagePin> page = co_await mapping_.writable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    const uint64_t page_end = std::min(end, mapping_.page_end(offset));
    Result<uint64_t> reached = co_await preallocate_page(std::move(*page), offset, page_end, mode);
    if (!reached) {
      co_return pass(reached);
    }
    offset = *reached;
  }
  co_return Result<void>{};
}

// Fills the unallocated clusters of one page; where the page, or the range, ended.
io::Task<Result<uint64_t>> Qcow2Driver::preallocate_page(PagePin page, uint64_t offset,
                                                         uint64_t end, block::Preallocation mode) {
  const uint64_t cluster_size = image_.cluster_size();
  // An image that is being made is open without its backing file.
  const bool over_backing = !image_.header().backing_file.empty() && !hides_backing();
  while (offset < end) {
    if (mapping_.entry(*page, offset) != 0) {
      offset += cluster_size;
      continue;
    }
    uint64_t wanted = 1;
    while (offset + wanted * cluster_size < end &&
           mapping_.entry(*page, offset + wanted * cluster_size) == 0) {
      ++wanted;
    }
    const Result<Refcounts::Allocation> space = co_await take_space(offset, wanted);
    if (!space) {
      co_return std::unexpected(space.error());
    }
    const uint64_t bytes = space->clusters * cluster_size;
    Result<void> filled;
    if (image_.geometry().external_data) {
      // grow_data() has seen to it.
    } else if (mode != block::Preallocation::kMetadata || !space->reads_zero) {
      filled = co_await image_.file().write_zeroes(space->host_offset, bytes, {});
    } else if (image_.file().length() < space->host_offset + bytes) {
      filled = co_await image_.file().resize(space->host_offset + bytes, {});
    }
    if (!filled) {
      co_await give_back(space->host_offset, space->clusters);
      co_return pass(filled);
    }
    for (uint64_t i = 0; i < space->clusters; ++i, offset += cluster_size) {
      // Clusters with subclusters can have space and still show the backing file.
      const SubclusterBitmap subclusters =
          over_backing ? mapping_.subclusters(*page, offset) : SubclusterBitmap::all_data();
      mapping_.set_entry(*page, offset, (space->host_offset + i * cluster_size) | kEntryCopied,
                         subclusters);
    }
  }
  co_return offset;
}

}  // namespace cairn::qcow2
