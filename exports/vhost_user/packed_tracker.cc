#include "exports/vhost_user/packed_tracker.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "exports/vhost_user/shared_value.h"

namespace cairn::vhost_user {
namespace {

constexpr uint64_t kVersionOffset = 8;
constexpr uint64_t kEntriesOffset = 10;
constexpr uint64_t kFreeOffset = 12;
constexpr uint64_t kOldFreeOffset = 14;
constexpr uint64_t kUsedOffset = 16;
constexpr uint64_t kOldUsedOffset = 18;
constexpr uint64_t kWrapOffset = 20;
constexpr uint64_t kOldWrapOffset = 21;
constexpr uint64_t kEntries = 32;
constexpr uint64_t kEntryBytes = 32;

constexpr uint64_t kNextOffset = 2;
constexpr uint64_t kLastOffset = 4;
constexpr uint64_t kCountOffset = 6;
constexpr uint64_t kOrderOffset = 8;
constexpr uint64_t kIdOffset = 16;
constexpr uint64_t kFlagsOffset = 18;
constexpr uint64_t kLengthOffset = 20;
constexpr uint64_t kAddressOffset = 24;
constexpr uint16_t kLayout = 1;

}  // namespace

PackedTracker::PackedTracker(std::byte* region, uint16_t queue_size)
    : region_(region), size_(queue_size) {
  if (load_native<uint16_t>(region_ + kVersionOffset) == kLayout &&
      load_native<uint16_t>(region_ + kEntriesOffset) == size_) {
    return;
  }
  new_ = true;
  std::fill_n(region_, region_bytes(size_), std::byte{0});
  for (uint16_t i = 0; i < size_; ++i) {
    // Behind the last one is none: the list ends with a number that is too large.
    store_native(place(i) + kNextOffset, static_cast<uint16_t>(i + 1));
  }
  store_native<uint8_t>(region_ + kWrapOffset, 1);
  store_native<uint8_t>(region_ + kOldWrapOffset, 1);
  store_native<uint16_t>(region_ + kEntriesOffset, size_);
  store_native<uint16_t>(region_ + kVersionOffset, kLayout);
}

std::byte* PackedTracker::place(uint16_t entry) const {
  return region_ + kEntries + entry * kEntryBytes;
}

PackedPlace PackedTracker::used() const {
  return {.index = static_cast<uint16_t>(load_native<uint16_t>(region_ + kUsedOffset) % size_),
          .wrap = load_native<uint8_t>(region_ + kWrapOffset) != 0};
}

PackedPlace PackedTracker::old_used() const {
  return {.index = static_cast<uint16_t>(load_native<uint16_t>(region_ + kOldUsedOffset) % size_),
          .wrap = load_native<uint8_t>(region_ + kOldWrapOffset) != 0};
}

void PackedTracker::set_used(PackedPlace place) {
  store_native(region_ + kUsedOffset, place.index);
  store_native(region_ + kWrapOffset, static_cast<uint8_t>(place.wrap ? 1 : 0));
  keep_step();
}

void PackedTracker::keep_step() {
  store_native(region_ + kOldFreeOffset, load_native<uint16_t>(region_ + kFreeOffset));
  store_native(region_ + kOldUsedOffset, load_native<uint16_t>(region_ + kUsedOffset));
  store_native(region_ + kOldWrapOffset, load_native<uint8_t>(region_ + kWrapOffset));
}

std::vector<PackedTracker::Pending> PackedTracker::collect() {
  // Whatever was begun and not kept is undone.
  const PackedPlace settled = old_used();
  store_native(region_ + kFreeOffset, load_native<uint16_t>(region_ + kOldFreeOffset));
  store_native(region_ + kUsedOffset, settled.index);
  store_native(region_ + kWrapOffset, static_cast<uint8_t>(settled.wrap ? 1 : 0));
  auto free = load_native<uint16_t>(region_ + kFreeOffset);
  for (uint16_t i = 0; i < size_ && free < size_; ++i) {
    store_native<uint8_t>(place(free), 0);
    free = load_native<uint16_t>(place(free) + kNextOffset);
  }
  std::vector<std::pair<uint64_t, uint16_t>> order;
  for (uint16_t i = 0; i < size_; ++i) {
    if (load_native<uint8_t>(place(i)) != 0) {
      order.emplace_back(load_native<uint64_t>(place(i) + kOrderOffset), i);
    }
  }
  std::ranges::sort(order, std::ranges::greater());
  if (!order.empty()) {
    counter_ = order.front().first + 1;
  }
  std::vector<Pending> result;
  uint32_t total = 0;
  for (const auto& [counter, entry] : order) {
    Pending pending{.entry = entry, .descriptors = {}};
    const auto count = load_native<uint16_t>(place(entry) + kCountOffset);
    uint16_t at = entry;
    for (uint16_t i = 0; i < count && at < size_ && total < size_; ++i, ++total) {
      pending.descriptors.push_back({.address = load_native<uint64_t>(place(at) + kAddressOffset),
                                     .length = load_native<uint32_t>(place(at) + kLengthOffset),
                                     .id = load_native<uint16_t>(place(at) + kIdOffset),
                                     .flags = load_native<uint16_t>(place(at) + kFlagsOffset)});
      at = load_native<uint16_t>(place(at) + kNextOffset);
    }
    if (!pending.descriptors.empty()) {
      result.push_back(std::move(pending));
    }
  }
  return result;
}

uint16_t PackedTracker::take(std::span<const PackedDescriptor> descriptors) {
  const auto head = load_native<uint16_t>(region_ + kOldFreeOffset);
  auto free = head;
  uint16_t last = head;
  for (const PackedDescriptor& descriptor : descriptors) {
    if (free >= size_) {
      return size_;
    }
    std::byte* const entry = place(free);
    store_native(entry + kAddressOffset, descriptor.address);
    store_native(entry + kLengthOffset, descriptor.length);
    store_native(entry + kIdOffset, descriptor.id);
    store_native(entry + kFlagsOffset, descriptor.flags);
    last = free;
    free = load_native<uint16_t>(entry + kNextOffset);
  }
  store_native(place(head) + kCountOffset, static_cast<uint16_t>(descriptors.size()));
  store_native(place(head) + kLastOffset, last);
  store_native(place(head) + kOrderOffset, counter_++);
  store_native<uint8_t>(place(head), 1);
  store_native(region_ + kFreeOffset, free);
  store_native(region_ + kOldFreeOffset, free);
  return head;
}

void PackedTracker::prepare_used(uint16_t entry, PackedPlace next) {
  if (entry < size_) {
    const auto last = load_native<uint16_t>(place(entry) + kLastOffset);
    if (last < size_) {
      store_native(place(last) + kNextOffset, load_native<uint16_t>(region_ + kFreeOffset));
      store_native(region_ + kFreeOffset, entry);
    }
  }
  store_native(region_ + kUsedOffset, next.index);
  store_native(region_ + kWrapOffset, static_cast<uint8_t>(next.wrap ? 1 : 0));
}

void PackedTracker::finish_used(uint16_t entry) {
  if (entry < size_) {
    store_native<uint8_t>(place(entry), 0);
  }
  keep_step();
}

}  // namespace cairn::vhost_user
