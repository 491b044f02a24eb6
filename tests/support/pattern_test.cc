// Patterns say where data came from, at any alignment.
#include "tests/support/pattern.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/support/random.h"

namespace cairn::testing {
namespace {

TEST(ScatterTest, IsInvertible) {
  for (uint64_t x = 0; x < 100; ++x) {
    const uint64_t value = x * 0x0123456789abcdefU;
    EXPECT_EQ(gather(scatter(value)), value);
  }
}

TEST(PatternTest, MatchesItselfAtAnyAlignment) {
  std::vector<std::byte> whole(64);
  fill_pattern(7, 1000, whole);
  for (std::size_t start = 0; start < 16; ++start) {
    const auto part = std::span(whole).subspan(start, 30);
    EXPECT_EQ(matching_prefix(7, 1000 + start, part), part.size());
    EXPECT_LT(matching_prefix(8, 1000 + start, part), 4U);
    EXPECT_LT(matching_prefix(7, 1008 + start, part), 4U) << "the offset is part of the pattern";
  }
}

TEST(PatternTest, CountsTheBytesBeforeTheFirstDifference) {
  std::vector<std::byte> data(40);
  fill_pattern(3, 5, data);
  data[29] ^= std::byte{1};
  EXPECT_EQ(matching_prefix(3, 5, data), 29U);
  EXPECT_EQ(matching_prefix(kZeroes, 5, std::vector<std::byte>(9)), 9U);
}

TEST(PatternTest, NamesWhereDataCameFrom) {
  std::vector<std::byte> data(32);
  fill_pattern(12, 4096, data);
  EXPECT_EQ(describe_data(8192, data), "write 12 at offset 4096");
  EXPECT_EQ(describe_data(0, std::vector<std::byte>(8)), "zeroes");
  EXPECT_EQ(describe_data(0, std::vector<std::byte>(8, std::byte{0x55})),
            "bytes that no write wrote (0x5555555555555555)");
}

}  // namespace
}  // namespace cairn::testing
