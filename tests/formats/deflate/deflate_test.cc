// Streams made and read by either library, sound, cut off and damaged.
#include "formats/deflate/deflate.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <zlib.h>

#include "formats/deflate/fast_deflate.h"
#include "tests/support/random.h"

namespace cairn::deflate {
namespace {

using Bytes = std::vector<std::byte>;

Bytes text(std::size_t size) {
  testing::Random random(7);
  Bytes bytes;
  while (bytes.size() < size) {
    const std::string word = "word" + std::to_string(random.below(300)) + " ";
    for (const char c : word) {
      bytes.push_back(static_cast<std::byte>(c));
    }
  }
  bytes.resize(size);
  return bytes;
}

Bytes noise(std::size_t size) {
  testing::Random random(8);
  Bytes bytes(size);
  std::ranges::generate(bytes, [&random] { return static_cast<std::byte>(random.below(256)); });
  return bytes;
}

Bytes encoded(const Settings& settings, const Bytes& content) {
  Bytes out(content.size() * 2 + 100);
  const auto length = deflate(settings, content, out);
  EXPECT_TRUE(length && *length > 0);
  out.resize(length.value_or(0));
  return out;
}

// As a reader that has no larger window than a stream may need.
Bytes read_by_zlib(const Settings& settings, Bytes stored, std::size_t size) {
  z_stream stream{};
  const bool bare = settings.wrapping == Wrapping::kBare;
  EXPECT_EQ(inflateInit2(&stream, bare ? -settings.window_bits : settings.window_bits), Z_OK);
  Bytes out(size);
  stream.next_in = reinterpret_cast<Bytef*>(stored.data());
  stream.avail_in = static_cast<uInt>(stored.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_out, 0U);
  inflateEnd(&stream);
  return out;
}

class DeflateTest : public ::testing::TestWithParam<std::tuple<Wrapping, int, int>> {
 protected:
  static Settings settings() {
    const auto [wrapping, window_bits, level] = GetParam();
    return {.wrapping = wrapping, .window_bits = window_bits, .level = level};
  }
};

TEST_P(DeflateTest, StreamsAreReadByZlibWithTheirWindow) {
  for (const Bytes& content : {text(65536), noise(65536), Bytes(65536), text(512), text(1)}) {
    const Bytes stored = encoded(settings(), content);
    EXPECT_EQ(read_by_zlib(settings(), stored, content.size()), content);
    EXPECT_EQ(encoded(settings(), content), stored) << "the same again";
  }
}

TEST_P(DeflateTest, WhatFollowsAStreamIsIgnored) {
  const Bytes content = text(65536);
  Bytes stored = encoded(settings(), content);
  stored.insert(stored.end(), 700, std::byte{0xaa});
  Bytes out(content.size());
  EXPECT_EQ(inflate(settings().wrapping, stored, out), content.size());
  EXPECT_EQ(out, content);
}

TEST_P(DeflateTest, AStreamThatYieldsMoreFillsWhatThereIs) {
  const Bytes content = text(65536);
  const Bytes stored = encoded(settings(), content);
  Bytes out(content.size() / 3);
  EXPECT_EQ(inflate(settings().wrapping, stored, out), out.size());
  EXPECT_TRUE(std::ranges::equal(out, std::span(content).first(out.size())));
}

TEST_P(DeflateTest, AStreamThatYieldsLessSaysHowMuch) {
  const Bytes content = text(5000);
  Bytes out(65536);
  EXPECT_EQ(inflate(settings().wrapping, encoded(settings(), content), out), content.size());
  EXPECT_TRUE(std::ranges::equal(std::span(out).first(content.size()), content));
}

TEST_P(DeflateTest, AStreamThatIsCutOffIsRefused) {
  const Bytes content = text(65536);
  const Bytes stored = encoded(settings(), content);
  Bytes out(content.size());
  for (std::size_t length = 0; length < stored.size() - 8; length += 97) {
    EXPECT_FALSE(inflate(settings().wrapping, std::span(stored).first(length), out)) << length;
  }
  EXPECT_TRUE(inflate(settings().wrapping, stored, out)) << "a failure spoils nothing";
}

TEST_P(DeflateTest, AStreamThatDoesNotFitHasNoLength) {
  const Bytes content = noise(65536);
  Bytes out(content.size() - 1);
  const auto length = deflate(settings(), content, out);
  ASSERT_TRUE(length);
  EXPECT_EQ(*length, 0U);
  const auto none = deflate(settings(), content, std::span<std::byte>());
  ASSERT_TRUE(none);
  EXPECT_EQ(*none, 0U);
}

TEST_P(DeflateTest, DamageNeverHarmsMoreThanTheStream) {
  const Bytes content = text(16384);
  const Bytes stored = encoded(settings(), content);
  testing::Random random(9);
  for (int turn = 0; turn < 500; ++turn) {
    Bytes damaged = stored;
    for (uint64_t i = 0, count = 1 + random.below(4); i < count; ++i) {
      damaged[random.below(damaged.size())] ^= static_cast<std::byte>(1U << random.below(8));
    }
    // It may go unnoticed, but stays within bounds, which sanitizers watch.
    Bytes out(content.size());
    const auto length = inflate(settings().wrapping, damaged, out);
    EXPECT_LE(length.value_or(0), out.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Bare, DeflateTest,
                         ::testing::Combine(::testing::Values(Wrapping::kBare),
                                            ::testing::Values(12, 15),
                                            ::testing::Values(0, 1, 2, 3, 4, 9)));
INSTANTIATE_TEST_SUITE_P(Wrapped, DeflateTest,
                         ::testing::Combine(::testing::Values(Wrapping::kZlib),
                                            ::testing::Values(15),
                                            ::testing::Values(0, 1, 2, 3, 4, 9)));

TEST(LongestTest, IsEnoughForWhatDoesNotShrink) {
  for (const std::size_t size : {1, 512, 65536, 1 << 20}) {
    const Bytes content = noise(size);
    Bytes out(longest(size));
    for (const int level : {0, 1, 2, 3, 9}) {
      for (const Wrapping wrapping : {Wrapping::kBare, Wrapping::kZlib}) {
        const auto length = deflate({.wrapping = wrapping, .level = level}, content, out);
        ASSERT_TRUE(length);
        EXPECT_GT(*length, 0U) << size << " at level " << level;
      }
    }
  }
}

TEST(FastDeflateTest, IsThereWhereItIsInstalled) {
  const Bytes content = text(65536);
  Bytes out(longest(content.size()));
  EXPECT_EQ(fast_deflate({.level = 1}, content, out).has_value(), fast_deflate_available());
  EXPECT_FALSE(fast_deflate({.level = 4}, content, out)) << "that level is zlib's";
}

TEST(FastDeflateTest, HigherLevelsMakeShorterStreams) {
  const Bytes content = text(65536);
  EXPECT_LT(encoded({.level = 9}, content).size(), encoded({.level = 1}, content).size());
}

}  // namespace
}  // namespace cairn::deflate
