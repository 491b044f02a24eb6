// AlignedBuffer, IoVector and is_zero.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/buffer.h"
#include "io/iovector.h"
#include "io/zero.h"

namespace cairn::io {
namespace {

using Bytes = std::vector<std::byte>;

Bytes counting_bytes(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(i);
  }
  return bytes;
}

TEST(AlignedBufferTest, IsAlignedAndOfTheSizeAskedFor) {
  for (const std::size_t alignment : {1U, 16U, 512U, 4096U, 65536U}) {
    auto buffer = AlignedBuffer::allocate(1000, alignment);
    ASSERT_TRUE(buffer.has_value());
    EXPECT_EQ(buffer->size(), 1000U);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % alignment, 0U);
    std::ranges::fill(buffer->span(), std::byte{1});
  }
}

TEST(AlignedBufferTest, SizesThatDoNotExistFailWithEnomem) {
  for (const uint64_t size : {uint64_t{UINT64_MAX}, uint64_t{1} << 63, uint64_t{1} << 60}) {
    auto buffer = AlignedBuffer::allocate(size);
    ASSERT_FALSE(buffer.has_value());
    EXPECT_EQ(buffer.error().code(), ENOMEM);
  }
}

TEST(AlignedBufferTest, ZeroedIsZeroAndEmptyIsEmpty) {
  auto buffer = AlignedBuffer::allocate_zeroed(100000);
  ASSERT_TRUE(buffer.has_value());
  EXPECT_TRUE(is_zero(buffer->span()));
  auto empty = AlignedBuffer::allocate_zeroed(0);
  ASSERT_TRUE(empty.has_value());
  EXPECT_TRUE(empty->empty());
}

TEST(AlignedBufferTest, MovingLeavesNothingBehind) {
  auto first = AlignedBuffer::allocate(64);
  ASSERT_TRUE(first.has_value());
  const std::byte* data = first->data();
  AlignedBuffer second = std::move(*first);
  EXPECT_EQ(second.data(), data);
  EXPECT_TRUE(first->empty());
}

TEST(IsZeroTest, SeesASingleByteAnywhere) {
  for (const std::size_t size : {1U, 2U, 15U, 16U, 17U, 31U, 32U, 33U, 64U, 100U, 1000U}) {
    Bytes bytes(size + 1);
    for (const std::size_t start : {0U, 1U}) {  // also unaligned
      const auto part = std::span(bytes).subspan(start, size);
      EXPECT_TRUE(is_zero(part));
      for (std::byte& byte : part) {
        byte = std::byte{0x80};
        EXPECT_FALSE(is_zero(part)) << "size " << size << " at " << &byte - part.data();
        byte = std::byte{0};
      }
    }
  }
  EXPECT_TRUE(is_zero({}));
}

TEST(IsZeroTest, IgnoresWhatIsAroundThePart) {
  Bytes bytes(66, std::byte{0xff});
  std::ranges::fill(std::span(bytes).subspan(1, 64), std::byte{0});
  EXPECT_TRUE(is_zero(std::span(bytes).subspan(1, 64)));
}

// A vector of pieces of `bytes`, with gaps of one byte so that none are merged.
IoVector scattered(Bytes& bytes, std::span<const std::size_t> lengths) {
  IoVector vector;
  std::size_t at = 0;
  for (const std::size_t length : lengths) {
    vector.append(bytes.data() + at, length);
    at += length + 1;
  }
  return vector;
}

TEST(IoVectorTest, MergesNeighboursAndDropsEmptySegments) {
  Bytes bytes(100);
  IoVector vector;
  vector.append(bytes.data(), 10);
  vector.append(bytes.data() + 50, 0);
  vector.append(bytes.data() + 10, 20);
  EXPECT_EQ(vector.segments().size(), 1U);
  EXPECT_EQ(vector.size(), 30U);
  vector.append(bytes.data() + 40, 5);
  EXPECT_EQ(vector.segments().size(), 2U);
  vector.clear();
  EXPECT_TRUE(vector.empty());
  EXPECT_TRUE(vector.segments().empty());
}

TEST(IoVectorTest, HoldsAnyNumberOfSegments) {
  Bytes bytes = counting_bytes(250);
  for (std::size_t count = 0; count < 20; ++count) {
    const std::vector<std::size_t> lengths(count, 5);
    const IoVector vector = scattered(bytes, lengths);
    ASSERT_EQ(vector.segments().size(), count);
    EXPECT_EQ(vector.size(), 5 * count);
    const IoVector copy = vector;  // NOLINT(performance-unnecessary-copy-initialization)
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(copy.segments()[i].iov_base, bytes.data() + 6 * i);
    }
    IoVector moved = copy;
    moved.append(bytes.data() + 249, 1);
    EXPECT_EQ(moved.segments().size(), count + 1);
  }
}

TEST(IoVectorTest, EverySliceHasTheBytesOfItsRange) {
  Bytes bytes = counting_bytes(60);
  const std::vector<std::size_t> lengths{3, 7, 1, 12, 2, 9};
  const IoVector vector = scattered(bytes, lengths);
  Bytes flat(vector.size());
  vector.copy_to(0, flat);
  for (std::size_t offset = 0; offset <= flat.size(); ++offset) {
    for (std::size_t length = 0; offset + length <= flat.size(); ++length) {
      const IoVector slice = vector.slice(offset, length);
      ASSERT_EQ(slice.size(), length);
      Bytes got(length);
      slice.copy_to(0, got);
      ASSERT_TRUE(std::ranges::equal(got, std::span(flat).subspan(offset, length)));
    }
  }
}

TEST(IoVectorTest, FillsAndCopiesPartsOnly) {
  Bytes bytes(60);
  const std::vector<std::size_t> lengths{5, 5, 5, 5, 5, 5};
  const IoVector vector = scattered(bytes, lengths);
  vector.fill(std::byte{7}, 4, 12);
  EXPECT_TRUE(vector.is_zero(0, 4));
  EXPECT_FALSE(vector.is_zero(0, 5));
  EXPECT_TRUE(vector.is_zero(16, 14));
  EXPECT_FALSE(vector.is_zero());
  EXPECT_EQ(std::ranges::count(bytes, std::byte{7}), 12);

  const Bytes source = counting_bytes(30);
  vector.copy_from(0, source);
  Bytes got(10);
  vector.copy_to(13, got);
  EXPECT_TRUE(std::ranges::equal(got, std::span(source).subspan(13, 10)));

  Bytes other_bytes(60);
  const std::vector<std::size_t> other_lengths{1, 2, 9, 8};
  const IoVector other = scattered(other_bytes, other_lengths);
  other.fill(std::byte{0xaa});
  vector.copy_from(10, other);
  Bytes all(30);
  vector.copy_to(0, all);
  EXPECT_TRUE(std::ranges::equal(std::span(all).first(10), std::span(source).first(10)));
  EXPECT_EQ(std::ranges::count(all, std::byte{0xaa}), 20);
  vector.fill(std::byte{0});
  EXPECT_TRUE(vector.is_zero());
}

TEST(IoVectorTest, KnowsItsAlignment) {
  auto buffer = AlignedBuffer::allocate(8192);
  ASSERT_TRUE(buffer.has_value());
  IoVector vector;
  vector.append(buffer->data(), 512);
  vector.append(buffer->data() + 4096, 1024);
  EXPECT_TRUE(vector.is_aligned(512));
  EXPECT_FALSE(vector.is_aligned(1024));
  vector.append(buffer->data() + 6144, 1);
  EXPECT_FALSE(vector.is_aligned(512));
  EXPECT_TRUE(vector.is_aligned(1));
}

}  // namespace
}  // namespace cairn::io
