#include "exports/vhost_user/packed_ring.h"

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "base/bytes.h"
#include "exports/vhost_user/shared_value.h"
#include "exports/vhost_user/virtio.h"

namespace cairn::vhost_user {
namespace {

constexpr uint64_t kSlotBytes = 16;
constexpr uint64_t kFlagsAt = 14;
constexpr uint64_t kEventFlagsAt = 2;
constexpr uint16_t kWrapBit = 0x8000;

PackedPlace place_of(uint16_t number, uint16_t size) {
  return {.index = static_cast<uint16_t>((number & ~kWrapBit) % size),
          .wrap = (number & kWrapBit) != 0};
}

uint16_t number_of(PackedPlace place) {
  return static_cast<uint16_t>(place.index | (place.wrap ? kWrapBit : 0));
}

// The device has given this slot back in the lap that the place is in.
bool is_used(uint16_t flags, bool wrap) {
  return ((flags & kPackedAvailable) != 0) == wrap && ((flags & kPackedUsed) != 0) == wrap;
}

}  // namespace

PackedRing::PackedRing(const RingSetup& setup, uint32_t base, PackedTracker* tracker)
    : Ring(setup),
      tracker_(tracker),
      // Whoever had the ring before has given back all that it took, or tracks it.
      available_(place_of(static_cast<uint16_t>(base), setup.size)),
      used_(available_) {
  if (tracker_ == nullptr) {
    return;
  }
  if (tracker_->is_new()) {
    tracker_->set_used(used_);
    return;
  }
  resubmitted_ = tracker_->recover(
      [this](PackedPlace place) { return is_used(flags_at(place.index), place.wrap); });
  used_ = available_ = tracker_->used();
  for (const PackedTracker::Pending& pending : resubmitted_) {
    available_.advance(static_cast<uint32_t>(pending.descriptors.size()), setup_.size);
  }
}

uint16_t PackedRing::flags_at(uint16_t index) const {
  return load_shared<uint16_t>(setup_.parts.descriptors + index * kSlotBytes + kFlagsAt,
                               std::memory_order_acquire);
}

bool PackedRing::has_available() {
  if (!resubmitted_.empty()) {
    return true;
  }
  const uint16_t flags = flags_at(available_.index);
  return ((flags & kPackedAvailable) != 0) == available_.wrap &&
         ((flags & kPackedUsed) != 0) != available_.wrap;
}

Result<bool> PackedRing::pop(Chain& chain) {
  if (!has_available()) {
    return false;
  }
  if (!resubmitted_.empty()) {
    taken_ = std::move(resubmitted_.back().descriptors);
    chain.track = resubmitted_.back().entry;
    resubmitted_.pop_back();
  } else {
    if (auto read = read_chain(); !read) {
      return pass(read);
    }
    if (tracker_ != nullptr) {
      chain.track = tracker_->take(taken_);
    }
  }
  chain.id = taken_.back().id;
  chain.slots = static_cast<uint16_t>(taken_.size());
  slots_in_flight_ += chain.slots;
  if (slots_in_flight_ > setup_.size) {
    return fail(EPROTO, "more requests are made available than the queue has places");
  }
  if (auto built = build(chain); !built) {
    return pass(built);
  }
  return true;
}

// Copies the descriptors of the next request, and moves behind them.
Result<void> PackedRing::read_chain() {
  taken_.clear();
  for (;;) {
    std::byte* const slot = setup_.parts.descriptors + available_.index * kSlotBytes;
    const auto rest = load_shared<uint64_t>(slot + 8);
    taken_.push_back({.address = load_shared<uint64_t>(slot),
                      .length = static_cast<uint32_t>(rest),
                      .id = static_cast<uint16_t>(rest >> 32),
                      .flags = static_cast<uint16_t>(rest >> 48)});
    available_.advance(1, setup_.size);
    if ((taken_.back().flags & kDescriptorNext) == 0) {
      return {};
    }
    if (taken_.size() >= setup_.size) {
      return fail(EPROTO, "a request has more descriptors than the queue of {}", setup_.size);
    }
  }
}

Result<void> PackedRing::build(Chain& chain) {
  ChainBuilder builder(*setup_.memory, setup_.log != nullptr, chain);
  for (const PackedDescriptor& one : taken_) {
    if ((one.flags & kDescriptorIndirect) != 0) {
      return taken_.size() > 1 ? fail(EPROTO, "a descriptor has both a table and a next one")
                               : build_indirect(one, builder);
    }
    const bool writable = (one.flags & kDescriptorWrite) != 0;
    if (auto added = builder.add({one.address, one.length, writable}); !added) {
      return added;
    }
  }
  return {};
}

// Section 2.8.8: all of the table, in its order.
Result<void> PackedRing::build_indirect(const PackedDescriptor& pointer, ChainBuilder& builder) {
  if (!setup_.indirect) {
    return fail(EPROTO, "a descriptor has a table, which was not agreed on");
  }
  if (auto copied = builder.copy_table(pointer.address, pointer.length, table_); !copied) {
    return copied;
  }
  for (std::size_t at = 0; at < table_.size(); at += kSlotBytes) {
    const std::byte* const bytes = table_.data() + at;
    const auto flags = load_le<uint16_t>(bytes + kFlagsAt);
    if ((flags & kDescriptorIndirect) != 0) {
      return fail(EPROTO, "a table of descriptors points to a further table");
    }
    const Descriptor descriptor{.address = load_le<uint64_t>(bytes),
                                .length = load_le<uint32_t>(bytes + 8),
                                .writable = (flags & kDescriptorWrite) != 0};
    if (auto added = builder.add(descriptor); !added) {
      return added;
    }
  }
  return {};
}

void PackedRing::push(const Chain& chain, uint32_t written) {
  log_written(chain);
  const PackedPlace place = used_;
  used_.advance(chain.slots, setup_.size);
  if (tracker_ != nullptr) {
    tracker_->prepare_used(chain.track, used_);
  }
  const uint64_t at = place.index * kSlotBytes;
  std::byte* const slot = setup_.parts.descriptors + at;
  store_shared<uint32_t>(slot + 8, written);
  store_shared<uint16_t>(slot + 12, chain.id);
  const auto lap = static_cast<uint16_t>(place.wrap ? kPackedAvailable | kPackedUsed : 0);
  const uint16_t wrote = written > 0 ? kDescriptorWrite : 0;
  store_shared<uint16_t>(slot + kFlagsAt, static_cast<uint16_t>(lap | wrote),
                         std::memory_order_release);
  log_used(at, kSlotBytes);
  if (tracker_ != nullptr) {
    tracker_->finish_used(chain.track);
  }
  slots_in_flight_ -= chain.slots;
  unsignalled_ += chain.slots;
}

bool PackedRing::wants_signal() {
  if (unsignalled_ == 0) {
    return false;
  }
  // What was given back is seen before the driver's wish is read, as it does it the other way
  // round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint32_t slots = std::min<uint32_t>(unsignalled_, setup_.size);
  unsignalled_ = 0;
  const auto wish = load_shared<uint32_t>(setup_.parts.available);
  const auto flags = static_cast<uint16_t>(wish >> 16) & kPackedEventMask;
  if (flags != kPackedEventPlace || !setup_.event_index) {
    return flags != kPackedEventNever;
  }
  // The place it waits for is among those that were given back. In the lap before the device's it
  // lies behind, by as much as a lap is long.
  const PackedPlace event = place_of(static_cast<uint16_t>(wish), setup_.size);
  const uint32_t end = used_.index + uint32_t{setup_.size};
  const uint32_t awaited = event.index + (event.wrap == used_.wrap ? uint32_t{setup_.size} : 0);
  return awaited < end && awaited + slots >= end;
}

void PackedRing::set_kicks(bool wanted) {
  uint32_t wish = uint32_t{kPackedEventNever} << 16;
  if (wanted) {
    wish = setup_.event_index ? uint32_t{kPackedEventPlace} << 16 | number_of(available_) : 0;
  }
  store_shared<uint32_t>(setup_.parts.used, wish);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

uint32_t PackedRing::position() const {
  return number_of(available_) | uint32_t{number_of(used_)} << 16;
}

}  // namespace cairn::vhost_user
