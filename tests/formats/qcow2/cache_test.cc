// The caches of metadata: what they are allowed to hold, and that they give back what nobody uses.
#include <algorithm>
#include <chrono>
#include <vector>

#include <gtest/gtest.h>

#include "formats/qcow2/page_memory.h"
#include "io/timer.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;

constexpr uint64_t kPageReach = 512 * kPageCluster;  // guest bytes that a page of L2 entries maps
constexpr uint64_t kPages = 64;

class Qcow2CacheTest : public Qcow2Test {
 protected:
  // An image with so many L2 tables of a page each.
  void start_large() {
    Qcow2Builder builder({.cluster_bits = 12, .size = kPages * kPageReach});
    start(builder);
    for (uint64_t page = 0; page < kPages; ++page) {
      ASSERT_TRUE(image_.write(1, page * kPageReach, 512));
    }
    ASSERT_TRUE(image_.close());
    open();
  }
  bool reads(uint64_t page) { return image_.holds(1, page * kPageReach, 512); }
  void pass(std::chrono::seconds time) { EXPECT_TRUE(image_.run(sleep(time))); }
  static io::Task<bool> sleep(std::chrono::seconds time) { co_return co_await io::sleep_for(time); }
  std::size_t cached_pages() { return image_.driver().mapping().cached_bytes() / kPageCluster; }
};

TEST(PageMemoryTest, TakesChunksAndGivesThemBack) {
  for (const uint32_t size : {512u, 4096u, 65536u, 2u << 20}) {
    PageMemory memory(size);
    EXPECT_EQ(memory.held(), 0u);
    std::vector<std::byte*> pages;
    for (int i = 0; i < 200; ++i) {
      const auto page = memory.take();
      ASSERT_TRUE(page);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(*page) % size, 0u);
      std::fill_n(*page, size, static_cast<std::byte>(i));
      pages.push_back(*page);
    }
    for (int i = 0; i < 200; ++i) {  // nobody wrote to another's
      EXPECT_EQ(*pages[i], static_cast<std::byte>(i));
      EXPECT_EQ(pages[i][size - 1], static_cast<std::byte>(i));
    }
    const std::size_t full = memory.held();
    EXPECT_LE(full, 200 * size + (1u << 20));
    for (std::byte* const page : pages) {
      memory.give_back(page);
    }
    EXPECT_LE(memory.held(), std::max<std::size_t>(size, 1 << 20));
    EXPECT_LT(memory.held(), full);
  }
}

TEST_F(Qcow2CacheTest, HoldsNoMoreThanItMay) {
  image_.options().l2_cache_size = 16 * kPageCluster;
  start_large();
  testing::Random random(1);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(reads(random.below(kPages)));
    ASSERT_LE(cached_pages(), 16u);
  }
  EXPECT_EQ(cached_pages(), 16u);
  // Changed pages are written out before they make it outgrow its limit by more than one.
  for (int i = 0; i < 500; ++i) {
    const uint64_t at = random.below(kPages) * kPageReach + random.between(1, 511) * kPageCluster;
    ASSERT_TRUE(image_.write(2, at, 512));
    ASSERT_LE(cached_pages(), 17u);
  }
  close_clean();
}

TEST_F(Qcow2CacheTest, ForgetsWhatNobodyUsesForAnInterval) {
  image_.options().cache_clean_interval = 10;
  start_large();
  for (uint64_t page = 0; page < kPages; ++page) {
    ASSERT_TRUE(reads(page));
  }
  EXPECT_EQ(cached_pages(), kPages);
  pass(std::chrono::seconds(15));  // one look, which finds them used
  EXPECT_EQ(cached_pages(), kPages);
  ASSERT_TRUE(reads(3));
  ASSERT_TRUE(image_.write(2, 7 * kPageReach + kPageCluster, 512));
  pass(std::chrono::seconds(10));
  EXPECT_EQ(cached_pages(), 2u);
  pass(std::chrono::seconds(30));
  EXPECT_EQ(cached_pages(), 1u) << "a page that changed stays until it is written out";
  ASSERT_TRUE(image_.flush());
  pass(std::chrono::seconds(30));
  EXPECT_EQ(cached_pages(), 0u);
  EXPECT_TRUE(reads(3));
  EXPECT_TRUE(image_.holds(2, 7 * kPageReach + kPageCluster, 512));
  close_clean();
}

TEST_F(Qcow2CacheTest, ForgetsNothingWhenToldSo) {
  image_.options().cache_clean_interval = 0;
  start_large();
  ASSERT_TRUE(reads(0));
  pass(std::chrono::hours(100));
  EXPECT_EQ(cached_pages(), 1u);
  close_clean();
}

TEST_F(Qcow2CacheTest, LooksEveryTenMinutesByDefault) {
  start_large();
  ASSERT_TRUE(reads(0));
  pass(std::chrono::minutes(11));
  EXPECT_EQ(cached_pages(), 1u);
  pass(std::chrono::minutes(10));
  EXPECT_EQ(cached_pages(), 0u);
  close_clean();
}

TEST_F(Qcow2CacheTest, RefusesIntervalsThatAreNone) {
  Qcow2Builder builder({.cluster_bits = 12, .size = kPageReach});
  image_.world().add("image", builder.finish());
  for (const int64_t interval : {int64_t{-1}, int64_t{1} << 32}) {
    image_.options().cache_clean_interval = interval;
    const auto opened = image_.open();
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().message(), "Cache clean interval too big");
  }
}

}  // namespace
}  // namespace cairn::qcow2
