// PackedTracker: what SplitTracker is for split rings, for packed ones. A packed ring is written
// over while requests are in flight, so their descriptors are kept, too, in a list for each
// request; the entries that are free form a list as well.
//
//   a region for each queue, aligned to 64 bytes:
//   features u64, version u16, entries u16, free u16, old_free u16, used_index u16, old_used_index
//   u16, used_wrap u8, old_used_wrap u8, padding to 32 bytes, {in_flight u8, padding, next u16,
//   last u16, count u16, counter u64, id u16, flags u16, length u32,
//    address u64}[entries]
//
// What is "old" is what holds when a step was interrupted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::vhost_user {

// A descriptor as a packed ring has it.
struct PackedDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t id;
  uint16_t flags;
};

// A place in a packed ring, which is counted modulo its size, and in which lap that is.
struct PackedPlace {
  uint16_t index = 0;
  bool wrap = true;

  void advance(uint32_t slots, uint16_t size) {
    const uint32_t next = index + slots;
    wrap = wrap != (next >= size);
    index = static_cast<uint16_t>(next >= size ? next - size : next);
  }
  bool operator==(const PackedPlace&) const = default;
};

class PackedTracker {
 public:
  [[nodiscard]] static constexpr uint64_t region_bytes(uint16_t queue_size) {
    return (32 + uint64_t{32} * queue_size + 63) & ~uint64_t{63};
  }

  // A request that is to be done again.
  struct Pending {
    uint16_t entry;
    std::vector<PackedDescriptor> descriptors;
  };

  // A region of region_bytes(queue_size), which outlives this. One that was never used is
  // initialised.
  PackedTracker(std::byte* region, uint16_t queue_size);

  // Where the ring goes on with what is given back; nothing is known when the region is new.
  [[nodiscard]] bool is_new() const { return new_; }
  [[nodiscard]] PackedPlace used() const;
  void set_used(PackedPlace place);

  // Settles what was being given back when it was interrupted. `written` says whether the ring has
  // the used descriptor at that place. Returns what is left to be done: the first one last.
  template <typename Written>
  [[nodiscard]] std::vector<Pending> recover(Written written) {
    if (const PackedPlace place = old_used(); used() != place && written(place)) {
      keep_step();
    }
    return collect();
  }

  // A request is taken. The entry by which it is given back; size() when there is none, which does
  // not happen where the front-end leaves the region alone.
  [[nodiscard]] uint16_t take(std::span<const PackedDescriptor> descriptors);
  // It is about to be given back; its descriptor is written between these two.
  void prepare_used(uint16_t entry, PackedPlace next);
  void finish_used(uint16_t entry);

 private:
  [[nodiscard]] std::byte* place(uint16_t entry) const;
  [[nodiscard]] PackedPlace old_used() const;
  void keep_step();
  [[nodiscard]] std::vector<Pending> collect();

  std::byte* const region_;
  const uint16_t size_;
  bool new_ = false;
  uint64_t counter_ = 0;
};

}  // namespace cairn::vhost_user
