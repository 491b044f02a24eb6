#include "exports/vhost_user/split_ring.h"

#include <atomic>
#include <cerrno>

#include "base/bytes.h"
#include "exports/vhost_user/shared_value.h"
#include "exports/vhost_user/virtio.h"

namespace cairn::vhost_user {
namespace {

constexpr uint64_t kDescriptorSize = 16;
constexpr uint64_t kIndexAt = 2;
constexpr uint64_t kRingAt = 4;
constexpr uint64_t kHeadSize = 2;
constexpr uint64_t kUsedSize = 8;

}  // namespace

SplitRing::SplitRing(const RingSetup& setup, uint16_t base, SplitTracker* tracker)
    : Ring(setup), tracker_(tracker), next_available_(base) {
  next_used_ = load_shared<uint16_t>(setup_.parts.used + kIndexAt);
  if (tracker_ != nullptr) {
    resubmitted_ = tracker_->recover(next_used_);
    if (!resubmitted_.empty()) {
      // All that was taken is either used, or among these.
      next_available_ = static_cast<uint16_t>(next_used_ + resubmitted_.size());
    }
  }
  seen_available_ = next_available_;
  signalled_used_ = next_used_;
}

SplitRing::Raw SplitRing::parse(const std::byte* bytes) {
  return {.address = load_le<uint64_t>(bytes),
          .length = load_le<uint32_t>(bytes + 8),
          .flags = load_le<uint16_t>(bytes + 12),
          .next = load_le<uint16_t>(bytes + 14)};
}

SplitRing::Raw SplitRing::read_descriptor(uint16_t index) const {
  std::byte* const place = setup_.parts.descriptors + index * kDescriptorSize;
  const auto rest = load_shared<uint64_t>(place + 8);
  return {.address = load_shared<uint64_t>(place),
          .length = static_cast<uint32_t>(rest),
          .flags = static_cast<uint16_t>(rest >> 32),
          .next = static_cast<uint16_t>(rest >> 48)};
}

bool SplitRing::has_available() {
  if (!resubmitted_.empty() || seen_available_ != next_available_) {
    return true;
  }
  seen_available_ =
      load_shared<uint16_t>(setup_.parts.available + kIndexAt, std::memory_order_acquire);
  return seen_available_ != next_available_;
}

Result<bool> SplitRing::pop(Chain& chain) {
  if (!has_available()) {
    return false;
  }
  if (in_flight_ >= setup_.size) {
    return fail(EPROTO, "more requests are made available than the queue has places");
  }
  uint16_t head = 0;
  if (!resubmitted_.empty()) {
    head = resubmitted_.back();
    resubmitted_.pop_back();
  } else {
    if (static_cast<uint16_t>(seen_available_ - next_available_) > setup_.size) {
      return fail(EPROTO, "the index of available requests went from {} to {} in a queue of {}",
                  next_available_, seen_available_, setup_.size);
    }
    const uint64_t place = next_available_ % setup_.size;
    head = load_shared<uint16_t>(setup_.parts.available + kRingAt + place * kHeadSize);
    if (head >= setup_.size) {
      return fail(EPROTO, "a request begins with descriptor {} of {}", head, setup_.size);
    }
    ++next_available_;
    if (tracker_ != nullptr) {
      tracker_->take(head);
    }
  }
  ++in_flight_;
  chain.id = head;
  if (auto built = build(head, chain); !built) {
    return pass(built);
  }
  return true;
}

Result<void> SplitRing::build(uint16_t head, Chain& chain) {
  ChainBuilder builder(*setup_.memory, setup_.log != nullptr, chain);
  uint16_t index = head;
  for (uint16_t count = 0; count < setup_.size; ++count) {
    const Raw raw = read_descriptor(index);
    if ((raw.flags & kDescriptorIndirect) != 0) {
      return (raw.flags & kDescriptorNext) != 0
                 ? fail(EPROTO, "a descriptor has both a table and a next one")
                 : build_indirect(raw, builder);
    }
    const bool writable = (raw.flags & kDescriptorWrite) != 0;
    if (auto added = builder.add({raw.address, raw.length, writable}); !added) {
      return added;
    }
    if ((raw.flags & kDescriptorNext) == 0) {
      return {};
    }
    if (raw.next >= setup_.size) {
      return fail(EPROTO, "a request goes on with descriptor {} of {}", raw.next, setup_.size);
    }
    index = raw.next;
  }
  return fail(EPROTO, "the descriptors of a request form a loop");
}

Result<void> SplitRing::build_indirect(const Raw& pointer, ChainBuilder& builder) {
  if (!setup_.indirect) {
    return fail(EPROTO, "a descriptor has a table, which was not agreed on");
  }
  if (auto copied = builder.copy_table(pointer.address, pointer.length, table_); !copied) {
    return copied;
  }
  const auto size = static_cast<uint32_t>(table_.size() / kDescriptorSize);
  uint32_t index = 0;
  for (uint32_t count = 0; count < size; ++count) {
    const Raw raw = parse(table_.data() + index * kDescriptorSize);
    if ((raw.flags & kDescriptorIndirect) != 0) {
      return fail(EPROTO, "a table of descriptors points to a further table");
    }
    const bool writable = (raw.flags & kDescriptorWrite) != 0;
    if (auto added = builder.add({raw.address, raw.length, writable}); !added) {
      return added;
    }
    if ((raw.flags & kDescriptorNext) == 0) {
      return {};
    }
    if (raw.next >= size) {
      return fail(EPROTO, "a request goes on with descriptor {} of a table of {}", raw.next, size);
    }
    index = raw.next;
  }
  return fail(EPROTO, "the descriptors of a table form a loop");
}

void SplitRing::push(const Chain& chain, uint32_t written) {
  log_written(chain);
  const uint64_t at = kRingAt + (next_used_ % setup_.size) * kUsedSize;
  store_shared<uint32_t>(setup_.parts.used + at, chain.id);
  store_shared<uint32_t>(setup_.parts.used + at + 4, written);
  log_used(at, kUsedSize);
  if (tracker_ != nullptr) {
    tracker_->prepare_used(chain.id);
  }
  ++next_used_;
  store_shared<uint16_t>(setup_.parts.used + kIndexAt, next_used_, std::memory_order_release);
  log_used(kIndexAt, sizeof next_used_);
  if (tracker_ != nullptr) {
    tracker_->finish_used(chain.id, next_used_);
  }
  --in_flight_;
}

bool SplitRing::wants_signal() {
  if (signalled_used_ == next_used_) {
    return false;
  }
  // What was given back is seen before the driver's wish is read, as it does it the other way
  // round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint16_t before = signalled_used_;
  signalled_used_ = next_used_;
  const bool first = never_signalled_;
  never_signalled_ = false;
  if (!setup_.event_index) {
    return (load_shared<uint16_t>(setup_.parts.available) & kAvailableNoInterrupt) == 0;
  }
  const auto event =
      load_shared<uint16_t>(setup_.parts.available + kRingAt + setup_.size * kHeadSize);
  // The place it waits for is among those that were given back (section 2.7.10).
  return first ||
         static_cast<uint16_t>(next_used_ - event - 1) < static_cast<uint16_t>(next_used_ - before);
}

void SplitRing::set_kicks(bool wanted) {
  if (!setup_.event_index) {
    store_shared<uint16_t>(setup_.parts.used, wanted ? uint16_t{0} : kUsedNoNotify);
    log_used(0, sizeof(uint16_t));
  } else if (wanted) {
    const uint64_t at = kRingAt + setup_.size * kUsedSize;
    store_shared<uint16_t>(setup_.parts.used + at, next_available_);
    log_used(at, sizeof(uint16_t));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace cairn::vhost_user
