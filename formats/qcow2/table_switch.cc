#include "formats/qcow2/table_switch.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"

namespace cairn::qcow2 {

io::Task<Result<uint64_t>> TableSwitch::reserve_table(uint64_t bytes) {
  if (bytes == 0) {
    co_return uint64_t{0};
  }
  const uint64_t clusters = div_round_up(bytes, image_.cluster_size());
  Result<uint64_t> offset = co_await refcounts_.allocate_contiguous(clusters);
  if (offset) {
    reserved_.push_back({.host_offset = *offset, .clusters = clusters});
  }
  co_return offset;
}

io::Task<Result<void>> TableSwitch::reserve_clusters(uint64_t clusters) {
  while (spare_.size() < clusters) {
    const Result<Refcounts::Allocation> space =
        co_await refcounts_.allocate(clusters - spare_.size());
    if (!space) {
      co_return std::unexpected(space.error());
    }
    for (uint64_t i = 0; i < space->clusters; ++i) {
      spare_.push_back(space->host_offset + i * image_.cluster_size());
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> TableSwitch::begin(uint64_t clusters) {
  // Reserving may make new refcount blocks, and a larger table, which want room in turn.
  Result<void> result;
  while (result && (refcount_table_length_ != refcounts_.table_length() ||
                    spare_.size() < clusters + refcounts_.block_count())) {
    result = co_await reserve_clusters(clusters + refcounts_.block_count());
    if (result && refcount_table_length_ != refcounts_.table_length()) {
      const uint64_t length = refcounts_.table_length();
      const Result<uint64_t> table = co_await reserve_table(length);
      if (!table) {
        co_return std::unexpected(table.error());
      }
      refcount_table_ = *table;
      refcount_table_length_ = length;
    }
  }
  // A block that is linked while it is being copied would be in two places.
  while (result && refcounts_.dirty()) {
    result = co_await writeback_.flush_all();
  }
  if (!result) {
    co_return result;
  }
  lock_.emplace(co_await writeout_.lock());
  // The lowest come first; the tables take from the other end.
  std::ranges::sort(spare_);
  const auto blocks = static_cast<std::ptrdiff_t>(refcounts_.block_count());
  refcounts_.begin_shadow({spare_.begin(), spare_.begin() + blocks});
  spare_.erase(spare_.begin(), spare_.begin() + blocks);
  std::ranges::reverse(spare_);
  co_return result;
}

uint64_t TableSwitch::take() {
  assert(!spare_.empty() && "more clusters were taken than reserved");
  const uint64_t offset = spare_.back();
  spare_.pop_back();
  reserved_.push_back({.host_offset = offset, .clusters = 1});
  return offset;
}

io::Task<Result<void>> TableSwitch::write_table(uint64_t host_offset,
                                                std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    co_return Result<void>{};
  }
  std::vector<std::byte> padded(align_up(bytes.size(), PageCache::kSector));
  std::ranges::copy(bytes, padded.begin());
  co_return co_await image_.file().write(host_offset, padded.data(), padded.size());
}

void TableSwitch::obsolete(uint64_t host_offset, uint64_t bytes) {
  if (bytes != 0) {
    const uint64_t clusters = div_round_up(bytes, image_.cluster_size());
    obsolete_.push_back({.host_offset = host_offset, .clusters = clusters});
  }
}

void TableSwitch::obsolete(const ClusterRuns& runs, FreeCause cause) {
  const uint32_t bits = image_.geometry().cluster_bits;
  for (const ClusterRun& run : runs.runs()) {
    obsolete_.push_back({run.first << bits, run.count, cause});
  }
}

io::Task<Result<void>> TableSwitch::commit(std::function<void(Header&)> change) {
  Result<void> result;
  const bool counts = refcounts_.shadowed();
  if (counts) {
    result = co_await refcounts_.write_shadow(refcount_table_);
  }
  if (result) {
    result = co_await image_.file().flush();
  }
  if (!result) {
    co_return result;
  }
  std::function<void(Header&)> all = [&](Header& header) {
    change(header);
    if (counts) {
      header.refcount_table_offset = refcount_table_;
    }
  };
  result = co_await image_.update_header(std::move(all));
  if (!result) {
    co_return result;
  }
  for (const uint64_t offset : refcounts_.end_shadow(true, refcount_table_)) {
    obsolete(offset, image_.cluster_size());
  }
  if (!counts) {
    obsolete(refcount_table_, refcount_table_length_);
  }
  for (const uint64_t offset : spare_) {
    obsolete(offset, image_.cluster_size());
  }
  spare_.clear();
  lock_.reset();
  release(std::exchange(obsolete_, {}));
  co_return result;
}

void TableSwitch::abandon() {
  std::vector<FreedClusters> freed = std::exchange(reserved_, {});
  const bool begun = lock_.has_value();
  if (begun) {
    for (const uint64_t offset : refcounts_.end_shadow(false, 0)) {
      spare_.push_back(offset);
    }
    lock_.reset();
  }
  for (const uint64_t offset : spare_) {
    freed.push_back({.host_offset = offset, .clusters = 1});
  }
  spare_.clear();
  obsolete_.clear();
  // While either header may be the one on disk, all that either names stays.
  if (!image_.header_unknown()) {
    release(std::move(freed));
  }
}

// Nothing on disk refers to these clusters.
void TableSwitch::release(std::vector<FreedClusters> freed) {
  std::ranges::sort(freed, {}, &FreedClusters::host_offset);
  reclaim_.durable(std::move(freed));
}

}  // namespace cairn::qcow2
