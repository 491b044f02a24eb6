#include "exports/vhost_user/inflight.h"

#include <algorithm>
#include <utility>

#include "exports/vhost_user/shared_value.h"

namespace cairn::vhost_user {
namespace {

constexpr uint64_t kVersionAt = 8;
constexpr uint64_t kPlacesAt = 10;
constexpr uint64_t kLastBatchAt = 12;
constexpr uint64_t kUsedIndexAt = 14;
constexpr uint64_t kHeadBytes = 16;
constexpr uint64_t kPlaceBytes = 16;
constexpr uint64_t kNextAt = 6;
constexpr uint64_t kCounterAt = 8;
constexpr uint16_t kRegionVersion = 1;

}  // namespace

void forget_tracked(std::byte* region) { store_native<uint16_t>(region + kVersionAt, 0); }

SplitTracker::SplitTracker(std::byte* region, uint16_t queue_size)
    : region_(region), size_(queue_size) {
  if (load_native<uint16_t>(region_ + kVersionAt) != kRegionVersion ||
      load_native<uint16_t>(region_ + kPlacesAt) != size_) {
    std::fill_n(region_, region_bytes(size_), std::byte{0});
    store_native<uint16_t>(region_ + kPlacesAt, size_);
    store_native<uint16_t>(region_ + kVersionAt, kRegionVersion);
  }
}

std::byte* SplitTracker::place(uint16_t head) const {
  return region_ + kHeadBytes + head * kPlaceBytes;
}

std::vector<uint16_t> SplitTracker::recover(uint16_t used_index) {
  const auto settled = load_native<uint16_t>(region_ + kUsedIndexAt);
  auto batch = static_cast<uint16_t>(used_index - settled);
  auto head = load_native<uint16_t>(region_ + kLastBatchAt);
  for (; batch > 0 && batch <= size_ && head < size_; --batch) {
    store_native<uint8_t>(place(head), 0);
    head = load_native<uint16_t>(place(head) + kNextAt);
  }
  store_native<uint16_t>(region_ + kUsedIndexAt, used_index);
  std::vector<std::pair<uint64_t, uint16_t>> found;
  for (uint16_t i = 0; i < size_; ++i) {
    if (load_native<uint8_t>(place(i)) != 0) {
      found.emplace_back(load_native<uint64_t>(place(i) + kCounterAt), i);
    }
  }
  std::ranges::sort(found, std::ranges::greater());
  if (!found.empty()) {
    counter_ = found.front().first + 1;
  }
  std::vector<uint16_t> heads;
  for (const auto& [order, index] : found) {
    heads.push_back(index);
  }
  return heads;
}

void SplitTracker::take(uint16_t head) {
  store_native<uint64_t>(place(head) + kCounterAt, counter_++);
  store_native<uint8_t>(place(head), 1);
}

void SplitTracker::prepare_used(uint16_t head) {
  store_native<uint16_t>(place(head) + kNextAt, load_native<uint16_t>(region_ + kLastBatchAt));
  store_native<uint16_t>(region_ + kLastBatchAt, head);
}

void SplitTracker::finish_used(uint16_t head, uint16_t used_index) {
  store_native<uint8_t>(place(head), 0);
  store_native<uint16_t>(region_ + kUsedIndexAt, used_index);
}

}  // namespace cairn::vhost_user
