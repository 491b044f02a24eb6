// Sparse arrays behave as plain ones.
#include "tests/support/sparse_bytes.h"

#include <gtest/gtest.h>

#include "tests/support/pattern.h"

namespace cairn::testing {
namespace {

std::vector<std::byte> pattern(WriteNumber number, uint64_t offset, std::size_t length) {
  std::vector<std::byte> data(length);
  fill_pattern(number, offset, data);
  return data;
}

TEST(SparseBytesTest, ReadsBackWritesAcrossPages) {
  SparseBytes bytes;
  bytes.write(4000, pattern(1, 4000, 10000));
  EXPECT_EQ(bytes.size(), 14000U);
  EXPECT_EQ(bytes.read(4000, 10000), pattern(1, 4000, 10000));
  EXPECT_EQ(bytes.read(0, 4000), std::vector<std::byte>(4000));
}

TEST(SparseBytesTest, ZeroesPartsOfPagesAndWholeOnes) {
  SparseBytes bytes;
  bytes.write(0, pattern(1, 0, 20000));
  bytes.zero(100, 15000);
  EXPECT_EQ(bytes.read(0, 100), pattern(1, 0, 100));
  EXPECT_EQ(bytes.read(100, 15000), std::vector<std::byte>(15000));
  EXPECT_EQ(bytes.read(15100, 4900), pattern(1, 15100, 4900));
}

TEST(SparseBytesTest, ForgetsWhatIsCutOff) {
  SparseBytes bytes;
  bytes.write(0, pattern(1, 0, 9000));
  bytes.resize(1000);
  bytes.resize(9000);
  EXPECT_EQ(bytes.read(0, 1000), pattern(1, 0, 1000));
  EXPECT_EQ(bytes.read(1000, 8000), std::vector<std::byte>(8000));
}

TEST(SparseBytesTest, CopiesDoNotSeeLaterWrites) {
  SparseBytes bytes;
  bytes.write(0, pattern(1, 0, 100));
  const SparseBytes copy = bytes;
  bytes.write(50, pattern(2, 50, 10));
  EXPECT_EQ(copy.read(0, 100), pattern(1, 0, 100));
  EXPECT_EQ(bytes.read(50, 10), pattern(2, 50, 10));
}

TEST(SparseBytesTest, HoldsOffsetsAboveFourGiB) {
  SparseBytes bytes;
  bytes.write(uint64_t{5} << 40, pattern(1, 0, 10));
  EXPECT_EQ(bytes.read((uint64_t{5} << 40) + 2, 4), pattern(1, 2, 4));
  EXPECT_EQ(bytes.read(0, 16), std::vector<std::byte>(16));
}

TEST(SparseBytesTest, SavesAndLoads) {
  SparseBytes bytes;
  bytes.write(123, pattern(1, 123, 5000));
  bytes.resize(100'000);
  const std::string path = ::testing::TempDir() + "sparse_bytes_test.img";
  ASSERT_TRUE(bytes.save(path).has_value());
  auto loaded = SparseBytes::load(path);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->size(), bytes.size());
  EXPECT_EQ(loaded->read(0, 100'000), bytes.read(0, 100'000));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace cairn::testing
