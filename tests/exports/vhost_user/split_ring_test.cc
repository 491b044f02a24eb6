// The split ring against drivers that keep the rules, and those that do not.
#include "exports/vhost_user/split_ring.h"

#include <memory>
#include <string>

#include "tests/exports/vhost_user/guest.h"

namespace cairn::vhost_user {
namespace {

class SplitRingTest : public ::testing::Test {
 protected:
  void SetUp() override { guest_.share_with(memory_); }

  SplitRing& ring(uint16_t base = 0, SplitTracker* tracker = nullptr) {
    setup_.size = Guest::kPlaces;
    setup_.parts = {.descriptors = memory_.at_user(Guest::kUser + Guest::kDescriptors, 16),
                    .available = memory_.at_user(Guest::kUser + Guest::kAvailable, 16),
                    .used = memory_.at_user(Guest::kUser + Guest::kUsed, 16)};
    setup_.memory = &memory_;
    ring_ = std::make_unique<SplitRing>(setup_, base, tracker);
    return *ring_;
  }

  // A request of one descriptor that is read.
  void ask(uint16_t head, uint64_t address = Guest::kData, uint32_t length = 16) {
    guest_.describe(Guest::kDescriptors, head, address, length, 0);
    guest_.make_available(head);
  }
  // What is wrong with the next request; empty: nothing.
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
  std::unique_ptr<SplitRing> ring_;
};

TEST_F(SplitRingTest, GivesARequestBackWithWhatWasWritten) {
  guest_.describe(Guest::kDescriptors, 3, Guest::kData, 16, kDescriptorNext, 5);
  guest_.describe(Guest::kDescriptors, 5, Guest::kData + 4096, 512,
                  kDescriptorNext | kDescriptorWrite, 1);
  guest_.describe(Guest::kDescriptors, 1, Guest::kData + 8192, 1, kDescriptorWrite);
  guest_.make_available(3);
  ring();
  const Chain chain = take();
  EXPECT_EQ(chain.readable.size(), 16u);
  EXPECT_EQ(chain.writable.size(), 513u);
  EXPECT_EQ(guest_.used_index(), 0);
  ring_->push(chain, 513);
  EXPECT_EQ(guest_.used_index(), 1);
  EXPECT_EQ(guest_.used_head(0), 3u);
  EXPECT_EQ(guest_.used_length(0), 513u);
  Chain none;
  const auto more = ring_->pop(none);
  EXPECT_TRUE(more && !*more);
}

TEST_F(SplitRingTest, SharesTheMemoryOfTheGuest) {
  ask(0);
  ring();
  const Chain chain = take();
  *guest_.at(Guest::kFree) = std::byte{42};
  EXPECT_EQ(*static_cast<const std::byte*>(chain.readable.segments()[0].iov_base), std::byte{42});
}

TEST_F(SplitRingTest, GoesOnWhenIndicesWrap) {
  guest_.set_available(65534);
  store_le(guest_.at(Guest::kUsed + 2), uint16_t{65534});
  ring(65534);
  for (uint16_t i = 0; i < 5; ++i) {
    ask(i % Guest::kPlaces);
    ring_->push(take(), 1);
  }
  EXPECT_EQ(guest_.used_index(), 3);
  EXPECT_EQ(ring_->position(), 3u);
}

TEST_F(SplitRingTest, ReadsTablesThatWereAgreedOn) {
  setup_.indirect = true;
  guest_.describe(Guest::kTable, 0, Guest::kData, 16, kDescriptorNext, 2);
  guest_.describe(Guest::kTable, 2, Guest::kData + 4096, 1, kDescriptorWrite);
  guest_.describe(Guest::kDescriptors, 4, Guest::kBase + Guest::kTable, 48, kDescriptorIndirect);
  guest_.make_available(4);
  ring();
  const Chain chain = take();
  EXPECT_EQ(chain.id, 4);
  EXPECT_EQ(chain.readable.size(), 16u);
  EXPECT_EQ(chain.writable.size(), 1u);
}

TEST_F(SplitRingTest, RefusesTablesThatWereNot) {
  guest_.describe(Guest::kDescriptors, 4, Guest::kBase + Guest::kTable, 48, kDescriptorIndirect);
  guest_.make_available(4);
  ring();
  EXPECT_NE(complaint().find("not agreed"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesTablesThatAreWrong) {
  setup_.indirect = true;
  struct Case {
    uint32_t length;
    uint16_t flags;
    const char* word;
  };
  const Case cases[] = {{0, kDescriptorIndirect, "0 bytes"},
                        {17, kDescriptorIndirect, "17 bytes"},
                        {16 * 1025, kDescriptorIndirect, "16400 bytes"},
                        {32, kDescriptorIndirect | kDescriptorNext, "both"}};
  for (const Case& one : cases) {
    guest_.describe(Guest::kDescriptors, 4, Guest::kBase + Guest::kTable, one.length, one.flags);
    guest_.make_available(4);
    ring(ring_ == nullptr ? 0 : static_cast<uint16_t>(ring_->position()));
    EXPECT_NE(complaint().find(one.word), std::string::npos) << one.word;
  }
}

TEST_F(SplitRingTest, RefusesTablesWithinTables) {
  setup_.indirect = true;
  guest_.describe(Guest::kTable, 0, Guest::kBase + Guest::kTable, 16, kDescriptorIndirect);
  guest_.describe(Guest::kDescriptors, 4, Guest::kBase + Guest::kTable, 16, kDescriptorIndirect);
  guest_.make_available(4);
  ring();
  EXPECT_NE(complaint().find("further table"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesLoops) {
  guest_.describe(Guest::kDescriptors, 0, Guest::kData, 16, kDescriptorNext, 1);
  guest_.describe(Guest::kDescriptors, 1, Guest::kData, 16, kDescriptorNext, 0);
  guest_.make_available(0);
  ring();
  EXPECT_NE(complaint().find("loop"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesLoopsInTables) {
  setup_.indirect = true;
  guest_.describe(Guest::kTable, 0, Guest::kData, 16, kDescriptorNext, 1);
  guest_.describe(Guest::kTable, 1, Guest::kData, 16, kDescriptorNext, 0);
  guest_.describe(Guest::kDescriptors, 4, Guest::kBase + Guest::kTable, 32, kDescriptorIndirect);
  guest_.make_available(4);
  ring();
  EXPECT_NE(complaint().find("loop"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesDescriptorsThatAreNotThere) {
  guest_.make_available(Guest::kPlaces);
  ring();
  EXPECT_NE(complaint().find("begins with descriptor 8 of 8"), std::string::npos);
  guest_.describe(Guest::kDescriptors, 0, Guest::kData, 16, kDescriptorNext, 65535);
  guest_.make_available(0);
  ring(1);
  EXPECT_NE(complaint().find("goes on with descriptor 65535"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesMemoryThatIsNotThere) {
  struct Case {
    uint64_t address;
    uint32_t length;
  };
  const Case cases[] = {{0, 16},
                        {Guest::kBase - 1, 16},
                        {Guest::kBase + Guest::kSize - 15, 16},
                        {Guest::kBase + Guest::kSize, 1},
                        {Guest::kBase, 0xffffffff},
                        {~uint64_t{0}, 16},
                        {~uint64_t{0} - 15, 16}};
  uint16_t base = 0;
  for (const Case& one : cases) {
    ask(0, one.address, one.length);
    ring(base++);
    EXPECT_NE(complaint().find("no memory"), std::string::npos) << one.address;
  }
}

TEST_F(SplitRingTest, ReadsOverRegionsThatAdjoin) {
  Guest next;
  MemoryRegion region = Guest::region();
  region.guest_address += Guest::kSize;
  region.user_address += Guest::kSize;
  ASSERT_TRUE(memory_.add(region, next.fd()));
  ask(0, Guest::kBase + Guest::kSize - 8, 16);
  *next.at(7) = std::byte{7};
  ring();
  const Chain chain = take();
  ASSERT_EQ(chain.readable.size(), 16u);
  std::byte last{};
  chain.readable.copy_to(15, std::span(&last, 1));
  EXPECT_EQ(last, std::byte{7});
}

TEST_F(SplitRingTest, RefusesWhatIsReadAfterWhatIsWritten) {
  guest_.describe(Guest::kDescriptors, 0, Guest::kData, 16, kDescriptorNext | kDescriptorWrite, 1);
  guest_.describe(Guest::kDescriptors, 1, Guest::kData, 16, 0);
  guest_.make_available(0);
  ring();
  EXPECT_NE(complaint().find("after something"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesAnIndexThatWentTooFar) {
  guest_.set_available(Guest::kPlaces + 1);
  ring();
  EXPECT_NE(complaint().find("went from 0 to 9"), std::string::npos);
}

TEST_F(SplitRingTest, RefusesMoreRequestsThanThereArePlaces) {
  ring();
  for (int i = 0; i < Guest::kPlaces; ++i) {
    ask(0);
    EXPECT_EQ(complaint(), "");
  }
  ask(0);
  EXPECT_NE(complaint().find("more requests"), std::string::npos);
}

TEST_F(SplitRingTest, SignalsUnlessTheDriverDoesNotWantIt) {
  ask(0);
  ask(1);
  ring();
  EXPECT_FALSE(ring_->wants_signal());
  ring_->push(take(), 1);
  EXPECT_TRUE(ring_->wants_signal());
  EXPECT_FALSE(ring_->wants_signal());
  store_le(guest_.at(Guest::kAvailable), kAvailableNoInterrupt);
  ring_->push(take(), 1);
  EXPECT_FALSE(ring_->wants_signal());
}

TEST_F(SplitRingTest, SignalsWhenThePlaceIsReachedThatTheDriverWaitsFor) {
  setup_.event_index = true;
  ring();
  for (uint16_t i = 0; i < 4; ++i) {
    ask(i);
  }
  guest_.set_used_event(0);
  ring_->push(take(), 1);
  EXPECT_TRUE(ring_->wants_signal());
  guest_.set_used_event(2);
  ring_->push(take(), 1);
  EXPECT_FALSE(ring_->wants_signal());
  ring_->push(take(), 1);
  EXPECT_TRUE(ring_->wants_signal());
  ring_->push(take(), 1);
  EXPECT_FALSE(ring_->wants_signal());
}

TEST_F(SplitRingTest, TellsTheDriverFromWhichPlaceOnItShallNotify) {
  setup_.event_index = true;
  ask(0);
  ask(1);
  ring();
  static_cast<void>(take());
  static_cast<void>(take());
  ring_->set_kicks(false);
  EXPECT_EQ(guest_.available_event(), 0);
  ring_->set_kicks(true);
  EXPECT_EQ(guest_.available_event(), 2);
}

TEST_F(SplitRingTest, TellsTheDriverByAFlagWithoutPlaces) {
  ring();
  ring_->set_kicks(false);
  EXPECT_EQ(load_le<uint16_t>(guest_.at(Guest::kUsed)), kUsedNoNotify);
  ring_->set_kicks(true);
  EXPECT_EQ(load_le<uint16_t>(guest_.at(Guest::kUsed)), 0);
}

TEST_F(SplitRingTest, LogsWhatWasWritten) {
  Guest bits;
  auto mapped = MappedFile::map(bits.fd(), 0, Guest::kSize);
  ASSERT_TRUE(mapped);
  DirtyLog log(std::move(*mapped));
  setup_.log = &log;
  setup_.logs_ring = true;
  setup_.used_log_address = 0x100000;
  guest_.describe(Guest::kDescriptors, 0, Guest::kData, 16, kDescriptorNext, 1);
  guest_.describe(Guest::kDescriptors, 1, Guest::kData + 4096, 8192, kDescriptorWrite);
  guest_.make_available(0);
  ring();
  ring_->push(take(), 1);
  const uint64_t first = (Guest::kData + 4096) / 4096;
  const auto marked = [&bits](uint64_t page) {
    return (std::to_integer<int>(*bits.at(page / 8)) >> (page % 8) & 1) != 0;
  };
  EXPECT_FALSE(marked(first - 1));
  EXPECT_TRUE(marked(first));
  EXPECT_TRUE(marked(first + 1));
  EXPECT_FALSE(marked(first + 2));
  EXPECT_TRUE(marked(0x100000 / 4096));
}

class TrackedRingTest : public SplitRingTest {
 protected:
  std::vector<std::byte> region_ =
      std::vector<std::byte>(SplitTracker::region_bytes(Guest::kPlaces));
};

TEST_F(TrackedRingTest, DoesAgainWhatWasNotGivenBackInTheOrderInWhichItWasTaken) {
  SplitTracker tracker(region_.data(), Guest::kPlaces);
  ring(0, &tracker);
  for (const uint16_t head : {6, 2, 4, 1}) {
    ask(head);
  }
  static_cast<void>(take());
  const Chain done = take();
  static_cast<void>(take());
  ring_->push(done, 1);

  SplitTracker next(region_.data(), Guest::kPlaces);
  ring(1, &next);
  EXPECT_EQ(take().id, 6);
  EXPECT_EQ(take().id, 4);
  EXPECT_EQ(take().id, 1);
  EXPECT_EQ(complaint(), "");
}

TEST_F(TrackedRingTest, KnowsWhatWasGivenBackWhenItWasInterruptedMeanwhile) {
  SplitTracker tracker(region_.data(), Guest::kPlaces);
  ring(0, &tracker);
  ask(3);
  ask(5);
  static_cast<void>(take());
  static_cast<void>(take());
  // The index of the ring was moved, and what follows did not happen.
  tracker.prepare_used(3);
  store_le(guest_.at(Guest::kUsed + 4), uint32_t{3});
  store_le(guest_.at(Guest::kUsed + 2), uint16_t{1});

  SplitTracker next(region_.data(), Guest::kPlaces);
  ring(1, &next);
  EXPECT_EQ(take().id, 5);
  EXPECT_FALSE(ring_->has_available());
}

TEST_F(TrackedRingTest, BearsNonsenseInTheTracking) {
  for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
    std::ranges::fill(region_, static_cast<std::byte>(value));
    store_le(region_.data() + 8, uint16_t{1});
    store_le(region_.data() + 10, uint16_t{Guest::kPlaces});
    SplitTracker tracker(region_.data(), Guest::kPlaces);
    ring(0, &tracker);
    for (int i = 0; i < Guest::kPlaces; ++i) {
      Chain chain;
      static_cast<void>(ring_->pop(chain));
    }
  }
}

}  // namespace
}  // namespace cairn::vhost_user
