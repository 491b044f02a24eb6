#include "formats/qcow2/reclaim.h"

#include <memory>
#include <utility>

#include "block/node.h"

namespace cairn::qcow2 {

void Reclaim::queue(FreedClusters freed) {
  queued_ += freed.clusters;
  if (!queue_.empty()) {
    FreedClusters& last = queue_.back();
    const uint64_t end = last.host_offset + last.clusters * image_.cluster_size();
    if (last.cause == freed.cause && end == freed.host_offset) {
      last.clusters += freed.clusters;
      return;
    }
  }
  queue_.push_back(freed);
}

std::vector<FreedClusters> Reclaim::take() {
  queued_ = 0;
  return std::exchange(queue_, {});
}

void Reclaim::put_back(std::vector<FreedClusters> freed) {
  for (const FreedClusters& range : freed) {
    queued_ += range.clusters;
  }
  freed.insert(freed.end(), queue_.begin(), queue_.end());
  queue_ = std::move(freed);
}

void Reclaim::durable(std::vector<FreedClusters> freed) {
  if (freed.empty()) {
    return;
  }
  // std::function wants something that can be copied.
  auto shared = std::make_shared<std::vector<FreedClusters>>(std::move(freed));
  image_.node().epochs().defer([this, shared] { work_.spawn(release(std::move(*shared))); });
}

bool Reclaim::punches(FreeCause cause) const {
  switch (cause) {
    case FreeCause::kRequest:
      return policy_.request;
    case FreeCause::kSnapshot:
      return policy_.snapshot;
    case FreeCause::kOther:
      break;
  }
  return policy_.other;
}

io::Task<void> Reclaim::release(std::vector<FreedClusters> freed) {
  for (const FreedClusters range : freed) {
    co_await release_range(range);
  }
}

// Errors end here: what can not be given back is a leak, which a check repairs.
io::Task<void> Reclaim::release_range(FreedClusters freed) {
  const uint64_t cluster_size = image_.cluster_size();
  if (!punches(freed.cause)) {
    const Result<void> released = co_await refcounts_.release(freed.host_offset, freed.clusters);
    static_cast<void>(released);
    co_return;
  }
  // Nothing may come to share a cluster while it is looked at and punched.
  co_await refcounts_.seal(freed.host_offset, freed.clusters);
  uint64_t done = 0;
  while (done < freed.clusters) {
    // Clusters that somebody else refers to as well stay as they are.
    uint64_t unshared = 0;
    uint64_t step = 1;
    while (done + unshared < freed.clusters) {
      const uint64_t cluster = freed.host_offset / cluster_size + done + unshared;
      const Result<uint64_t> count = co_await refcounts_.get(cluster);
      if (!count || *count != 1) {
        break;
      }
      ++unshared;
    }
    const uint64_t offset = freed.host_offset + done * cluster_size;
    if (unshared != 0) {
      const Result<void> punched = co_await image_.file().discard(offset, unshared * cluster_size);
      static_cast<void>(punched);
      step = unshared;
    }
    const Result<void> released = co_await refcounts_.release(offset, step);
    static_cast<void>(released);
    done += step;
  }
}

}  // namespace cairn::qcow2
