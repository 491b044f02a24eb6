// Byte order, alignment and overflow-checked arithmetic.
#include "base/bytes.h"

#include <array>
#include <limits>

#include <gtest/gtest.h>

namespace cairn {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(BytesTest, LoadsInTheNamedOrderFromAnUnalignedAddress) {
  const std::array<uint8_t, 9> bytes = {0xff, 1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(load_be<uint8_t>(&bytes[1]), 1);
  EXPECT_EQ(load_be<uint16_t>(&bytes[1]), 0x0102);
  EXPECT_EQ(load_be<uint32_t>(&bytes[1]), 0x01020304U);
  EXPECT_EQ(load_be<uint64_t>(&bytes[1]), 0x0102030405060708U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[1]), 0x0807060504030201U);
}

TEST(BytesTest, StoresWhatItLoads) {
  std::array<uint8_t, 9> bytes = {};
  store_be<uint32_t>(&bytes[1], 0xdeadbeef);
  EXPECT_EQ(bytes[1], 0xde);
  EXPECT_EQ(load_be<uint32_t>(&bytes[1]), 0xdeadbeefU);
  store_le<uint32_t>(&bytes[1], 0xdeadbeef);
  EXPECT_EQ(bytes[1], 0xef);
  EXPECT_EQ(load_le<uint32_t>(&bytes[1]), 0xdeadbeefU);
  EXPECT_EQ(bytes[0], 0);
  EXPECT_EQ(bytes[5], 0);
}

TEST(BytesTest, RoundsToAPowerOfTwo) {
  EXPECT_EQ(align_down(4097, 4096), 4096U);
  EXPECT_EQ(align_up(4097, 4096), 8192U);
  EXPECT_EQ(align_up(4096, 4096), 4096U);
  EXPECT_TRUE(is_aligned(0, 512));
  EXPECT_FALSE(is_aligned(513, 512));
  EXPECT_EQ(div_round_up(kMax, 2), kMax / 2 + 1);
  EXPECT_EQ(div_round_up(0, 512), 0U);
}

TEST(BytesTest, CheckedArithmeticRefusesWhatDoesNotFit) {
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_FALSE(checked_add(kMax, 1));
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1), kMax - 0xffffffffU);
  EXPECT_FALSE(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32));
  EXPECT_EQ(checked_align_up(kMax - 4095, 4096), kMax - 4095);
  EXPECT_FALSE(checked_align_up(kMax - 4094, 4096));
}

}  // namespace
}  // namespace cairn
