// The packed ring against drivers that keep the rules, and those that do not; and its tracking.
#include "exports/vhost_user/packed_ring.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/exports/vhost_user/guest.h"

namespace cairn::vhost_user {
namespace {

constexpr uint16_t kSlots = 5;  // need not be a power of two

class PackedRingTest : public ::testing::Test {
 protected:
  void SetUp() override { guest_.share_with(memory_); }

  PackedRing& ring(uint32_t base = 0x8000, PackedTracker* tracker = nullptr) {
    setup_.size = kSlots;
    setup_.parts = {.descriptors = memory_.at_user(Guest::kUser + Guest::kDescriptors, 16),
                    .available = memory_.at_user(Guest::kUser + Guest::kAvailable, 4),
                    .used = memory_.at_user(Guest::kUser + Guest::kUsed, 4)};
    setup_.memory = &memory_;
    ring_ = std::make_unique<PackedRing>(setup_, base, tracker);
    return *ring_;
  }

  // Puts a descriptor into the next slot, available in the driver's lap.
  void put(uint16_t name, uint16_t flags, uint64_t address = Guest::kData, uint32_t length = 16) {
    std::byte* const slot = guest_.at(uint64_t{16} * driver_.index);
    store_le(slot, address);
    store_le(slot + 8, length);
    store_le(slot + 12, name);
    store_le(slot + 14,
             static_cast<uint16_t>(flags | (driver_.wrap ? kPackedAvailable : kPackedUsed)));
    driver_.advance(1, kSlots);
  }
  uint16_t slot_name(uint16_t slot) { return load_le<uint16_t>(guest_.at(slot * 16 + 12)); }
  bool slot_used(uint16_t slot, bool lap) {
    const auto flags = load_le<uint16_t>(guest_.at(slot * 16 + 14));
    return ((flags & kPackedAvailable) != 0) == lap && ((flags & kPackedUsed) != 0) == lap;
  }
  void set_wish(PackedPlace place, uint16_t flags) {
    store_le(guest_.at(Guest::kAvailable),
             static_cast<uint16_t>(place.index | (place.wrap ? 0x8000 : 0)));
    store_le(guest_.at(Guest::kAvailable + 2), flags);
  }
  std::string complaint() {
    Chain chain;
    const auto taken = ring_->pop(chain);
    return taken ? "" : taken.error().message();
  }
  Chain take() {
    Chain chain;
    const auto taken = ring_->pop(chain);
    EXPECT_TRUE(taken && *taken);
    return chain;
  }

  Guest guest_;
  GuestMemory memory_;
  RingSetup setup_;
  std::unique_ptr<PackedRing> ring_;
  PackedPlace driver_;
};

TEST_F(PackedRingTest, GivesRequestsBackInTheOrderInWhichTheyAreDone) {
  put(7, kDescriptorNext);
  put(7, kDescriptorWrite, Guest::kData + 4096, 513);
  put(9, 0);
  ring();
  const Chain first = take();
  const Chain second = take();
  EXPECT_EQ(first.id, 7);
  EXPECT_EQ(first.slots, 2);
  EXPECT_EQ(first.readable.size(), 16u);
  EXPECT_EQ(first.writable.size(), 513u);
  EXPECT_FALSE(ring_->has_available());
  ring_->push(second, 0);
  EXPECT_TRUE(slot_used(0, true));
  EXPECT_EQ(slot_name(0), 9);
  EXPECT_FALSE(slot_used(1, true));
  ring_->push(first, 513);
  EXPECT_TRUE(slot_used(1, true));
  EXPECT_EQ(slot_name(1), 7);
  EXPECT_EQ(ring_->position(), 0x80038003u);
}

TEST_F(PackedRingTest, GoesRoundInLaps) {
  ring();
  for (uint16_t i = 0; i < 4 * kSlots; ++i) {
    EXPECT_FALSE(ring_->has_available()) << i;
    const PackedPlace place = driver_;
    put(i, 0);
    ring_->push(take(), 0);
    EXPECT_TRUE(slot_used(place.index, place.wrap)) << i;
  }
}

TEST_F(PackedRingTest, GoesOnWhereItIsTold) {
  driver_ = {.index = 3, .wrap = false};
  put(1, 0);
  ring(0x00030003);
  ring_->push(take(), 0);
  EXPECT_EQ(ring_->position(), 0x00040004u);
}

TEST_F(PackedRingTest, ReadsTablesInTheirOrder) {
  setup_.indirect = true;
  guest_.describe(Guest::kTable, 0, Guest::kData, 16, 0, 0);
  guest_.describe(Guest::kTable, 1, Guest::kData + 4096, 8, 0, kDescriptorWrite);
  put(2, kDescriptorIndirect, Guest::kBase + Guest::kTable, 32);
  ring();
  const Chain chain = take();
  EXPECT_EQ(chain.slots, 1);
  EXPECT_EQ(chain.readable.size(), 16u);
  EXPECT_EQ(chain.writable.size(), 8u);
}

TEST_F(PackedRingTest, RefusesWhatCanNotBe) {
  put(0, kDescriptorIndirect, Guest::kBase + Guest::kTable, 32);
  ring();
  EXPECT_NE(complaint().find("not agreed"), std::string::npos);
  setup_.indirect = true;
  driver_ = {};
  put(0, kDescriptorIndirect, Guest::kBase + Guest::kTable, 33);
  ring();
  EXPECT_NE(complaint().find("33 bytes"), std::string::npos);
  driver_ = {};
  put(0, kDescriptorIndirect | kDescriptorNext, Guest::kBase + Guest::kTable, 32);
  put(0, 0);
  ring();
  EXPECT_NE(complaint().find("both"), std::string::npos);
  driver_ = {};
  put(0, 0, Guest::kBase + Guest::kSize - 8, 16);
  ring();
  EXPECT_NE(complaint().find("no memory"), std::string::npos);
  driver_ = {};
  put(0, kDescriptorWrite | kDescriptorNext);
  put(0, 0);
  ring();
  EXPECT_NE(complaint().find("after something"), std::string::npos);
}

TEST_F(PackedRingTest, RefusesChainsWithoutEnd) {
  for (uint16_t i = 0; i < kSlots; ++i) {
    put(0, kDescriptorNext);
  }
  ring();
  EXPECT_NE(complaint().find("more descriptors"), std::string::npos);
}

TEST_F(PackedRingTest, RefusesMoreThanItHasPlaces) {
  ring();
  for (int i = 0; i < kSlots; ++i) {
    put(0, 0);
    EXPECT_EQ(complaint(), "");
  }
  put(0, 0);
  EXPECT_NE(complaint().find("more requests"), std::string::npos);
}

TEST_F(PackedRingTest, SignalsAsTheDriverWants) {
  setup_.event_index = true;
  ring();
  const auto done = [this] {
    put(0, 0);
    ring_->push(take(), 0);
    return ring_->wants_signal();
  };
  set_wish({}, 0);
  EXPECT_TRUE(done());
  set_wish({}, kPackedEventNever);
  EXPECT_FALSE(done());
  // It waits for the fourth slot, then for the second of the next lap.
  set_wish({.index = 3, .wrap = true}, kPackedEventPlace);
  EXPECT_FALSE(done());
  EXPECT_TRUE(done());
  set_wish({.index = 1, .wrap = false}, kPackedEventPlace);
  EXPECT_FALSE(done());
  EXPECT_FALSE(done());
  EXPECT_TRUE(done());
  EXPECT_FALSE(done());
}

TEST_F(PackedRingTest, TellsTheDriverWhenItShallNotify) {
  setup_.event_index = true;
  put(0, 0);
  ring();
  static_cast<void>(take());
  ring_->set_kicks(false);
  EXPECT_EQ(load_le<uint16_t>(guest_.at(Guest::kUsed + 2)), kPackedEventNever);
  ring_->set_kicks(true);
  EXPECT_EQ(load_le<uint16_t>(guest_.at(Guest::kUsed)), 0x8001);
  EXPECT_EQ(load_le<uint16_t>(guest_.at(Guest::kUsed + 2)), kPackedEventPlace);
}

class PackedTrackingTest : public PackedRingTest {
 protected:
  std::vector<std::byte> region_ = std::vector<std::byte>(PackedTracker::region_bytes(kSlots));
};

TEST_F(PackedTrackingTest, DoesAgainWhatWasNotGivenBack) {
  PackedTracker tracker(region_.data(), kSlots);
  ring(0x8000, &tracker);
  put(4, kDescriptorNext);
  put(4, kDescriptorWrite, Guest::kData + 4096, 8);
  put(1, 0, Guest::kData + 8192, 32);
  put(3, 0);
  static_cast<void>(take());
  const Chain done = take();
  static_cast<void>(take());
  // What is given back is written over the first slot, which is the start of what is in flight.
  ring_->push(done, 0);

  PackedTracker next(region_.data(), kSlots);
  ring(0, &next);
  const Chain first = take();
  EXPECT_EQ(first.id, 4);
  EXPECT_EQ(first.slots, 2);
  EXPECT_EQ(first.writable.size(), 8u);
  const Chain second = take();
  EXPECT_EQ(second.id, 3);
  EXPECT_FALSE(ring_->has_available());
  ring_->push(second, 0);
  ring_->push(first, 8);
  EXPECT_EQ(slot_name(1), 3);
  EXPECT_EQ(slot_name(2), 4);
  EXPECT_EQ(ring_->position(), 0x80048004u);
}

TEST_F(PackedTrackingTest, UndoesAStepThatTheDriverHasNotSeen) {
  PackedTracker tracker(region_.data(), kSlots);
  ring(0x8000, &tracker);
  put(4, 0);
  const Chain chain = take();
  tracker.prepare_used(chain.track, {.index = 1, .wrap = true});

  PackedTracker next(region_.data(), kSlots);
  ring(0, &next);
  EXPECT_EQ(take().id, 4);
}

TEST_F(PackedTrackingTest, KeepsAStepThatTheDriverHasSeen) {
  PackedTracker tracker(region_.data(), kSlots);
  ring(0x8000, &tracker);
  put(4, 0);
  const Chain chain = take();
  tracker.prepare_used(chain.track, {.index = 1, .wrap = true});
  store_le(guest_.at(14), static_cast<uint16_t>(kPackedAvailable | kPackedUsed));

  PackedTracker next(region_.data(), kSlots);
  ring(0, &next);
  EXPECT_FALSE(ring_->has_available());
  EXPECT_EQ(ring_->position(), 0x80018001u);
}

TEST_F(PackedTrackingTest, NeverRunsOutOfEntries) {
  PackedTracker tracker(region_.data(), kSlots);
  ring(0x8000, &tracker);
  for (int round = 0; round < 20; ++round) {
    std::vector<Chain> taken;
    for (uint16_t i = 0; i < kSlots; ++i) {
      put(i, 0);
      taken.push_back(take());
      EXPECT_LT(taken.back().track, kSlots);
    }
    std::ranges::rotate(taken, taken.begin() + round % kSlots);
    for (const Chain& chain : taken) {
      ring_->push(chain, 0);
    }
  }
}

TEST_F(PackedTrackingTest, BearsNonsenseInTheTracking) {
  for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
    std::ranges::fill(region_, static_cast<std::byte>(value));
    store_le(region_.data() + 8, uint16_t{1});
    store_le(region_.data() + 10, kSlots);
    PackedTracker tracker(region_.data(), kSlots);
    ring(0x8000, &tracker);
    for (int i = 0; i < 2 * kSlots; ++i) {
      Chain chain;
      const auto taken = ring_->pop(chain);
      if (taken && *taken) {
        ring_->push(chain, 0);
      }
    }
  }
}

}  // namespace
}  // namespace cairn::vhost_user
