// Refcounts: space for compressed clusters, which share host clusters (section "Compressed Clusters
// Descriptor").
//
// A few clusters that are not full are remembered, so that compressed data which comes in between
// plain data still fills them up. They are forgotten when the image is closed.
#include <algorithm>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {
namespace {

constexpr std::size_t kMostPartialClusters = 16;

}  // namespace

uint64_t Refcounts::room(const PartialCluster& partial) const {
  return align_up(partial.free_offset, geometry_.cluster_size()) - partial.free_offset;
}

// Remembers a cluster that has room from `free_offset` on, in place of the fullest one if need be.
void Refcounts::keep_partial(uint64_t free_offset) {
  if (is_aligned(free_offset, geometry_.cluster_size())) {
    return;
  }
  partial_.push_back({free_offset});
  if (partial_.size() > kMostPartialClusters) {
    partial_.erase(std::ranges::min_element(
        partial_, {}, [this](const PartialCluster& partial) { return room(partial); }));
  }
}

void Refcounts::seal_locked(uint64_t first, uint64_t end) {
  std::erase_if(partial_, [&](const PartialCluster& partial) {
    const uint64_t cluster = partial.free_offset >> geometry_.cluster_bits;
    return cluster >= first && cluster < end;
  });
}

io::Task<void> Refcounts::seal(uint64_t host_offset, uint64_t clusters) {
  const auto lock = co_await mutex_.lock();
  const uint64_t first = host_offset >> geometry_.cluster_bits;
  seal_locked(first, first + clusters);
}

// Counts a cluster once more; false when its count can not be higher.
io::Task<Result<bool>> Refcounts::share(uint64_t cluster) {
  Result<PagePin> page = co_await page_of(cluster);
  if (!page) {
    co_return pass(page);
  }
  const uint64_t count = load_refcount((*page)->data(), geometry_.refcount_order, in_page(cluster));
  if (count == 0 || count == geometry_.refcount_max()) {
    co_return false;
  }
  set(**page, cluster, count + 1);
  co_return true;
}

io::Task<Result<uint64_t>> Refcounts::allocate_bytes(uint64_t length) {
  co_await block::fault_point(image_.file(), block::FaultPoint::kClusterAllocBytes);
  const auto lock = co_await mutex_.lock();
  for (;;) {
    // The cluster that is filled best.
    auto best = partial_.end();
    for (auto it = partial_.begin(); it != partial_.end(); ++it) {
      if (room(*it) >= length && (best == partial_.end() || room(*it) < room(*best))) {
        best = it;
      }
    }
    if (best == partial_.end()) {
      break;
    }
    const uint64_t offset = best->free_offset;
    partial_.erase(best);
    Result<bool> shared = co_await share(offset >> geometry_.cluster_bits);
    if (!shared) {
      co_return pass(shared);
    }
    if (*shared) {
      keep_partial(offset + length);
      co_return offset;
    }
  }
  Result<Allocation> fresh = co_await allocate_locked(1);
  if (!fresh) {
    co_return pass(fresh);
  }
  // Together with what is left in the cluster before.
  uint64_t offset = fresh->host_offset;
  const auto before = std::ranges::find_if(partial_, [&](const PartialCluster& partial) {
    return partial.free_offset + room(partial) == offset;
  });
  if (before != partial_.end()) {
    const uint64_t begin = before->free_offset;
    partial_.erase(before);
    Result<bool> shared = co_await share(begin >> geometry_.cluster_bits);
    if (shared && *shared) {
      offset = begin;
    }
  }
  keep_partial(offset + length);
  co_return offset;
}

}  // namespace cairn::qcow2
