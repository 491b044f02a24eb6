// Reclaim: the way of a freed cluster back to the free ones (invariant I2 of the design).
//
//   queue()    the mapping in memory does not refer to it any more; the one on disk may
//   take()     a write-out that makes the new mapping durable has begun
//   durable()  it is done: nothing on disk refers to the cluster. Requests that translated to it
//              earlier may still be under way: the epochs of the node tell when they are gone
//   then, in the background: the hole is punched if that was asked for, and only when that is done
//   the count drops, so that the allocator can see the cluster again.
//
// A cluster that is lost on this way (an error, a power cut) is a leak and nothing worse.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/qcow2/refcounts.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::qcow2 {

// Why clusters were freed; the pass-discard-* options go by it.
enum class FreeCause : uint8_t {
  kRequest,   // the guest discarded or zeroed them
  kSnapshot,  // a snapshot was deleted
  kOther,     // overwritten, or tables that moved
};

struct FreedClusters {
  uint64_t host_offset = 0;
  uint64_t clusters = 0;
  FreeCause cause = FreeCause::kOther;
};

class Reclaim {
 public:
  struct Policy {
    bool request = true;
    bool snapshot = true;
    bool other = false;
  };

  Reclaim(Image& image, Refcounts& refcounts) : image_(image), refcounts_(refcounts) {}

  // Which causes have holes punched in the file.
  void set_policy(const Policy& policy) { policy_ = policy; }
  [[nodiscard]] bool punches(FreeCause cause) const;

  void queue(FreedClusters freed);
  // Clusters that wait for a write-out.
  [[nodiscard]] uint64_t queued() const { return queued_; }

  [[nodiscard]] std::vector<FreedClusters> take();
  // The write-out failed.
  void put_back(std::vector<FreedClusters> freed);
  void durable(std::vector<FreedClusters> freed);

  // Waits for the work in the background.
  [[nodiscard]] io::Task<void> join() { return work_.join(); }

 private:
  [[nodiscard]] io::Task<void> release(std::vector<FreedClusters> freed);
  [[nodiscard]] io::Task<void> release_range(FreedClusters freed);

  Image& image_;
  Refcounts& refcounts_;
  Policy policy_;
  std::vector<FreedClusters> queue_;
  uint64_t queued_ = 0;
  io::TaskGroup work_;
};

}  // namespace cairn::qcow2
