// Taking requests of the kernel apart, and what is agreed on with it.
#include "exports/fuse/protocol.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "exports/fuse/ring_protocol.h"

namespace cairn::fuse {
namespace {

std::vector<std::byte> bytes_of(uint32_t opcode, std::span<const std::byte> body,
                                uint32_t missing = 0) {
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(sizeof header + body.size()) + missing;
  header.opcode = opcode;
  header.unique = 7;
  std::vector<std::byte> bytes(sizeof header + body.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::ranges::copy(body, bytes.begin() + sizeof header);
  return bytes;
}

TEST(FuseRequest, HasAHeaderArgumentsAndData) {
  fuse_write_in write{};
  write.offset = 4096;
  std::vector<std::byte> body(sizeof write + 3, std::byte{42});
  std::memcpy(body.data(), &write, sizeof write);
  const auto bytes = bytes_of(FUSE_WRITE, body);
  const auto request = Request::parse(bytes);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->opcode(), FUSE_WRITE);
  EXPECT_EQ(request->unique(), 7u);
  ASSERT_TRUE(request->arguments<fuse_write_in>());
  EXPECT_EQ(request->arguments<fuse_write_in>()->offset, 4096u);
  EXPECT_EQ(request->payload_size(sizeof write), 3u);
}

TEST(FuseRequest, ThatIsCutShortIsNone) {
  const auto bytes = bytes_of(FUSE_OPEN, {});
  EXPECT_FALSE(Request::parse(std::span(bytes).first(bytes.size() - 1)));
  EXPECT_FALSE(Request::parse({}));
  EXPECT_FALSE(Request::parse(bytes_of(FUSE_OPEN, {}, 1)));
  const auto request = Request::parse(bytes);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->arguments<fuse_open_in>());
  EXPECT_EQ(request->payload_size(100), 0u);
}

TEST(FuseNegotiation, TakesTheOlderOfTwoVersions) {
  const auto old = negotiate({.major = 7, .minor = 31}, false);
  ASSERT_TRUE(old);
  EXPECT_EQ(old->minor, 31u);
  const auto young = negotiate({.major = 7, .minor = 1000}, false);
  ASSERT_TRUE(young);
  EXPECT_EQ(young->minor, 36u);
  EXPECT_EQ(young->max_write, kLargestWrite);
}

TEST(FuseNegotiation, TakesNoFlagThatIsNotOffered) {
  const auto reply =
      negotiate({.major = 7, .minor = 36, .flags = FUSE_MAX_PAGES | FUSE_POSIX_LOCKS}, false);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->flags, uint32_t{FUSE_MAX_PAGES});
}

TEST(FuseRequest, MayComeInParts) {
  fuse_in_header header{};
  header.opcode = FUSE_WRITE;
  header.unique = 8;
  const std::vector<std::byte> arguments(128, std::byte{1});
  const Request request = Request::from_parts(header, arguments, 4096);
  EXPECT_EQ(request.unique(), 8u);
  ASSERT_TRUE(request.arguments<fuse_write_in>());
  EXPECT_EQ(request.arguments<fuse_write_in>()->size, 0x01010101u);
  EXPECT_EQ(request.payload_size(sizeof(fuse_write_in)), 4096u);
}

TEST(FuseNegotiation, ReadsTheOffersOfOlderKernelsToo) {
  fuse_init_in offer{.major = 7, .minor = 42, .flags = FUSE_INIT_EXT, .flags2 = kOverRing};
  const auto whole = std::as_bytes(std::span(&offer, 1));
  const auto with = [](std::span<const std::byte> body) {
    const auto bytes = bytes_of(FUSE_INIT, body);
    return read_offer(*Request::parse(bytes));
  };
  ASSERT_TRUE(with(whole));
  EXPECT_EQ(with(whole)->flags2, kOverRing);
  EXPECT_TRUE(offers_ring(*with(whole)));
  ASSERT_TRUE(with(whole.first(16)));
  EXPECT_EQ(with(whole.first(16))->minor, 42u);
  EXPECT_FALSE(offers_ring(*with(whole.first(16))));
  EXPECT_FALSE(with(whole.first(15)));
  offer.flags = 0;  // what is in the second word means nothing then
  EXPECT_FALSE(offers_ring(*with(whole)));
}

TEST(FuseNegotiation, AgreesOnRingsWhenItIsTold) {
  const InitOffer offer{.major = 7, .minor = 42, .flags = FUSE_INIT_EXT, .flags2 = ~0u};
  EXPECT_EQ(negotiate(offer, true)->flags2, kOverRing);
  EXPECT_EQ(negotiate(offer, true)->flags, uint32_t{FUSE_INIT_EXT});
  EXPECT_EQ(negotiate(offer, false)->flags2, 0u);
  EXPECT_EQ(negotiate(offer, false)->flags, 0u);
}

TEST(FuseNegotiation, RefusesWhatIsTooOld) {
  EXPECT_FALSE(negotiate({.major = 7, .minor = 30}, false));
  EXPECT_FALSE(negotiate({.major = 6, .minor = 99}, false));
  // A kernel of the future is told our version, and asks again.
  const auto reply = negotiate({.major = 8, .minor = 0}, false);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->major, 7u);
}

}  // namespace
}  // namespace cairn::fuse
