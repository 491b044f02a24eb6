// Tracking what is in flight, in memory that the front-end keeps ("Inflight I/O tracking"): when
// this program ends in whatever way and another one takes the queue over, it knows which requests
// were taken and not given back, and does them again, in their order.
//
// The memory is the front-end's: what is found there is checked, as all that comes from outside.
//
//   a region for each queue, aligned to 64 bytes:
//   features u64, version u16, places u16, last_batch_head u16, used_index u16,
//   {in_flight u8, padding, next u16, counter u64}[places]
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::vhost_user {

// Makes the region of a queue, of either kind, one that was never used.
void forget_tracked(std::byte* region);

class SplitTracker {
 public:
  [[nodiscard]] static constexpr uint64_t region_bytes(uint16_t queue_size) {
    return (16 + uint64_t{16} * queue_size + 63) & ~uint64_t{63};
  }

  // A region of region_bytes(queue_size), which outlives this. One that was never used is
  // initialised.
  SplitTracker(std::byte* region, uint16_t queue_size);

  // Settles what was being given back when it was interrupted, by the index that the ring has, and
  // returns what is left to be done: the first one last.
  [[nodiscard]] std::vector<uint16_t> recover(uint16_t used_index);

  // A request is taken.
  void take(uint16_t head);
  // It is about to be given back; the index of the ring is moved between these two.
  void prepare_used(uint16_t head);
  void finish_used(uint16_t head, uint16_t used_index);

 private:
  [[nodiscard]] std::byte* place(uint16_t head) const;

  std::byte* const region_;
  const uint16_t size_;
  uint64_t counter_ = 0;
};

}  // namespace cairn::vhost_user
