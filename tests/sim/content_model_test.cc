// Which values the model admits, and which it refuses.
#include "tests/sim/content_model.h"

#include <gtest/gtest.h>

namespace cairn::testing {
namespace {

constexpr uint64_t kLength = 4096;

std::vector<std::byte> pattern(WriteNumber number, uint64_t offset = 0, std::size_t length = 512) {
  std::vector<std::byte> data(length);
  fill_pattern(number, offset, data);
  return data;
}

class ContentModelTest : public ::testing::Test {
 protected:
  void write(WriteNumber number, uint64_t offset = 0, uint64_t length = 512) {
    const auto change = model_.begin_change(offset, length, {.number = number});
    model_.end_change(change, true);
  }
  void flush() { model_.end_flush(model_.begin_flush()); }
  // A read that sees write `number` is fine.
  bool reads(WriteNumber number, uint64_t offset = 0, std::size_t length = 512) {
    const auto read = model_.begin_read();
    return !model_.end_read(read, offset, pattern(number, offset, length));
  }
  // Whether a power cut now may leave write `number`. A copy is asked, so that nothing is settled.
  bool survives(WriteNumber number, uint64_t offset = 0, std::size_t length = 512) {
    ContentModel copy = model_;
    copy.power_cut();
    return !copy.settle(offset, pattern(number, offset, length));
  }

  ContentModel model_{kLength};
};

TEST_F(ContentModelTest, StartsAsZeroes) {
  EXPECT_TRUE(reads(kZeroes, 0, kLength));
  EXPECT_FALSE(reads(1));
}

TEST_F(ContentModelTest, ReadsSeeTheLastAcknowledgedWrite) {
  write(1);
  write(2);
  EXPECT_FALSE(reads(1));
  EXPECT_FALSE(reads(kZeroes));
  EXPECT_TRUE(reads(2));
}

TEST_F(ContentModelTest, DataOfAnotherRangeIsRefused) {
  write(1, 0, 1024);
  const auto read = model_.begin_read();
  const auto wrong = model_.end_read(read, 512, pattern(1, 0, 512));
  ASSERT_TRUE(wrong.has_value());
  EXPECT_NE(wrong->find("found write 1 at offset 0"), std::string::npos) << *wrong;
}

TEST_F(ContentModelTest, AByteThatTwoWritesShareDoesNotBringTheRefutedOneBack) {
  WriteNumber other = 2;
  while (pattern(1, 0, 1) != pattern(other, 0, 1)) {
    ++other;
  }
  const auto first = model_.begin_change(0, 512, {.number = 1});
  const auto second = model_.begin_change(0, 512, {.number = other});
  model_.end_change(first, true);
  model_.end_change(second, true);
  const auto whole = model_.begin_read();
  const auto one_byte = model_.begin_read();
  EXPECT_FALSE(model_.end_read(whole, 0, pattern(other)));
  EXPECT_FALSE(model_.end_read(one_byte, 0, pattern(1, 0, 1)));
  EXPECT_TRUE(reads(other));
}

TEST_F(ContentModelTest, ConcurrentWritesMayEndEitherWayUntilAReadSettlesIt) {
  const auto first = model_.begin_change(0, 512, {.number = 1});
  const auto second = model_.begin_change(0, 512, {.number = 2});
  model_.end_change(first, true);
  model_.end_change(second, true);
  ContentModel copy = model_;
  EXPECT_FALSE(copy.end_read(copy.begin_read(), 0, pattern(2)));
  EXPECT_TRUE(reads(1));
  EXPECT_FALSE(reads(2)) << "the first read has settled it";
}

TEST_F(ContentModelTest, AReadMaySeeAnyStateWhileItRuns) {
  write(1);
  const auto read = model_.begin_read();
  write(2);
  const auto third = model_.begin_change(0, 512, {.number = 3});
  for (const WriteNumber number : {1, 2, 3}) {
    ContentModel copy = model_;
    EXPECT_FALSE(copy.end_read(read, 0, pattern(number))) << number;
  }
  EXPECT_TRUE(model_.end_read(read, 0, pattern(kZeroes)).has_value());
  model_.end_change(third, true);
  EXPECT_TRUE(reads(3));
  EXPECT_FALSE(reads(2));
}

TEST_F(ContentModelTest, FlushedAndLaterValuesSurviveAPowerCut) {
  write(1);
  write(2);
  flush();
  write(3);
  model_.begin_change(0, 512, {.number = 4});
  EXPECT_FALSE(survives(kZeroes));
  EXPECT_FALSE(survives(1));
  EXPECT_TRUE(survives(2));
  EXPECT_TRUE(survives(3));
  EXPECT_TRUE(survives(4));
}

TEST_F(ContentModelTest, AFlushCoversOnlyWhatWasAcknowledgedBeforeItStarted) {
  write(1);
  const auto second = model_.begin_change(0, 512, {.number = 2});
  const auto flush = model_.begin_flush();
  model_.end_change(second, true);
  model_.end_flush(flush);
  EXPECT_FALSE(survives(kZeroes));
  EXPECT_TRUE(survives(1));
  EXPECT_TRUE(survives(2));
}

TEST_F(ContentModelTest, FuaIsDurableWhenAcknowledged) {
  write(1);
  const auto fua = model_.begin_change(0, 512, {.number = 2});
  EXPECT_TRUE(survives(kZeroes));
  model_.end_change(fua, true, true);
  EXPECT_FALSE(survives(1));
  EXPECT_TRUE(survives(2));
}

TEST_F(ContentModelTest, AFailedWriteMayHaveHappenedInPart) {
  write(1, 0, 1024);
  const auto failed = model_.begin_change(0, 1024, {.number = 2});
  model_.end_change(failed, false);
  auto mixed = pattern(2, 0, 1024);
  const auto old = pattern(1, 512, 512);
  std::ranges::copy(old, mixed.begin() + 512);
  EXPECT_FALSE(model_.end_read(model_.begin_read(), 0, mixed));
  EXPECT_FALSE(reads(1, 0)) << "it is settled";
  EXPECT_TRUE(reads(2, 0));
  EXPECT_TRUE(reads(1, 512));
}

TEST_F(ContentModelTest, ADiscardMayLeaveTheDataOrZeroes) {
  write(1);
  flush();
  const auto discard = model_.begin_change(0, 512, {.number = kZeroes, .advice = true});
  model_.end_change(discard, true);
  EXPECT_TRUE(survives(1));
  EXPECT_TRUE(survives(kZeroes));
  EXPECT_TRUE(reads(kZeroes));
  EXPECT_FALSE(reads(1));
  EXPECT_TRUE(survives(1)) << "what a read saw need not be durable yet";
  flush();
  EXPECT_FALSE(survives(1));
}

TEST_F(ContentModelTest, APowerCutMayTearBetweenBytes) {
  write(1);
  auto mixed = pattern(1);
  std::ranges::fill(std::span(mixed).first(200), std::byte{0});
  model_.power_cut();
  EXPECT_FALSE(model_.settle(0, mixed));
  std::vector<std::byte> expected(512);
  model_.expected(0, expected);
  EXPECT_EQ(expected, mixed);
}

TEST_F(ContentModelTest, TheLengthIsKnownAfterAFlushOnly) {
  write(1, 2048, 512);
  flush();
  model_.begin_resize(1024, {.number = kZeroes});
  model_.end_resize(true);
  EXPECT_EQ(model_.length(), 1024U);
  {
    ContentModel copy = model_;
    copy.power_cut();
    EXPECT_TRUE(copy.settle_length(kLength));
    EXPECT_FALSE(copy.settle(2048, pattern(1, 2048, 512)));
  }
  flush();
  ContentModel copy = model_;
  copy.power_cut();
  EXPECT_FALSE(copy.settle_length(kLength));
}

TEST_F(ContentModelTest, GrowingAfterShrinkingReadsZeroes) {
  write(1, 2048, 512);
  model_.begin_resize(1024, {.number = kZeroes});
  model_.end_resize(true);
  model_.begin_resize(kLength, {.number = kZeroes});
  model_.end_resize(true);
  EXPECT_FALSE(reads(1, 2048));
  EXPECT_TRUE(reads(kZeroes, 2048));
}

TEST_F(ContentModelTest, UnwrittenRangesHoldTheBackingContent) {
  write(1, 0, 1024);
  flush();
  ASSERT_TRUE(reads(1, 0, 1024));
  ASSERT_FALSE(model_.settle(0, pattern(1, 0, 1024)));
  ContentModel top(2 * kLength, &model_);
  std::vector<std::byte> content(2 * kLength);
  fill_pattern(1, 0, std::span(content).first(1024));
  EXPECT_FALSE(top.end_read(top.begin_read(), 0, content));
  // A discard may show the backing content again.
  const auto change = top.begin_change(0, 512, {.number = 5});
  top.end_change(change, true);
  const auto discard =
      top.begin_change(0, 512, {.number = kZeroes, .backing = true, .advice = true});
  top.end_change(discard, true);
  EXPECT_FALSE(top.end_read(top.begin_read(), 0, pattern(1)));
}

TEST_F(ContentModelTest, ACopyHoldsWhatWasThereWhileItWasMade) {
  write(1);
  write(2);
  const auto read = model_.begin_read();
  const auto change = model_.begin_change(512, 512, {.number = 3});
  ContentModel copy = model_.copy(read);
  model_.end_change(change, true);
  write(4);
  EXPECT_FALSE(ContentModel(copy).settle(0, pattern(2)));
  EXPECT_TRUE(ContentModel(copy).settle(0, pattern(1)));
  EXPECT_TRUE(ContentModel(copy).settle(0, pattern(4)));
  EXPECT_FALSE(ContentModel(copy).settle(512, pattern(3, 512)));
  EXPECT_FALSE(ContentModel(copy).settle(512, pattern(kZeroes, 512)));
}

TEST_F(ContentModelTest, ReplacingIsDurableAndBringsTheLengthBack) {
  write(1);
  const ContentModel copy = model_.copy(model_.begin_read());
  model_.begin_resize(2 * kLength, {.number = kZeroes});
  model_.end_resize(true);
  write(2);
  flush();
  model_.begin_replace(copy);
  EXPECT_TRUE(survives(1));
  EXPECT_TRUE(survives(2));
  model_.end_replace(true, true);
  EXPECT_EQ(model_.length(), kLength);
  EXPECT_TRUE(reads(1));
  EXPECT_FALSE(survives(2));
}

}  // namespace
}  // namespace cairn::testing
