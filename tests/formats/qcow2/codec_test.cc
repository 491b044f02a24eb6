// Decoding compressed clusters, sound and damaged ones.
#include "formats/qcow2/codec.h"

#include <vector>

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

namespace cairn::qcow2 {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(i / 7 * 31);
  }
  return bytes;
}

// Raw deflate with a window of 2^12 bytes, as images have it.
std::vector<std::byte> deflated(const std::vector<std::byte>& content) {
  std::vector<std::byte> out(content.size() + 1024);
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::vector<std::byte> input = content;
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::vector<std::byte> zstd_compressed(const std::vector<std::byte>& content) {
  std::vector<std::byte> out(ZSTD_compressBound(content.size()));
  const std::size_t size = ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 3);
  EXPECT_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

class Qcow2CodecTest : public ::testing::TestWithParam<CompressionType> {
 protected:
  static std::vector<std::byte> stored(const std::vector<std::byte>& content) {
    return GetParam() == CompressionType::kZstd ? zstd_compressed(content) : deflated(content);
  }
  static Result<void> decode(const std::vector<std::byte>& stored, std::vector<std::byte>& unit) {
    return codec_for(GetParam()).decode({}, stored, unit);
  }
};

TEST_P(Qcow2CodecTest, DecodesAndIgnoresWhatFollowsTheStream) {
  const auto content = pattern(65536);
  auto bytes = stored(content);
  bytes.insert(bytes.end(), 700, std::byte{0xaa});
  std::vector<std::byte> unit(content.size());
  for (int i = 0; i < 3; ++i) {  // the decoder is used again
    ASSERT_TRUE(decode(bytes, unit));
    EXPECT_EQ(unit, content);
  }
}

TEST_P(Qcow2CodecTest, RefusesTruncatedAndShortStreams) {
  const auto content = pattern(4096);
  auto bytes = stored(content);
  std::vector<std::byte> larger(content.size() + 1);
  const auto too_short = decode(bytes, larger);
  ASSERT_FALSE(too_short);
  EXPECT_EQ(too_short.error().code(), EIO);
  std::vector<std::byte> unit(content.size());
  bytes.resize(bytes.size() / 2);
  EXPECT_FALSE(decode(bytes, unit));
  EXPECT_FALSE(decode({}, unit));
  ASSERT_TRUE(decode(stored(content), unit)) << "a failure must not spoil the next call";
}

TEST_P(Qcow2CodecTest, RefusesGarbage) {
  std::vector<std::byte> unit(65536);
  const std::vector<std::byte> garbage(4096, std::byte{0xff});
  const auto result = decode(garbage, unit);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), EIO);
}

INSTANTIATE_TEST_SUITE_P(Both, Qcow2CodecTest,
                         ::testing::Values(CompressionType::kDeflate, CompressionType::kZstd));

}  // namespace
}  // namespace cairn::qcow2
