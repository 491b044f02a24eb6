// Taking requests apart and judging them, without a connection.
#include "exports/nbd/request.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "tests/exports/nbd/harness.h"

namespace cairn::nbd {
namespace {

using testing::wire;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

Request make(Command command, uint64_t offset, uint64_t length, uint16_t flags = 0) {
  return {.command = command, .flags = flags, .cookie = 1, .offset = offset, .length = length};
}

constexpr RequestRules kRules{.size = 1 << 20, .writable = true, .structured = true};

TEST(RequestTest, TakesTheCompactFormApart) {
  const std::string text =
      wire(kRequestMagic, uint16_t{1}, uint16_t{6}, uint64_t{0x1122334455667788},
           uint64_t{0x100000000}, uint32_t{0xffffffff});
  const auto request = parse_request(bytes(text), false);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->command, Command::kWriteZeroes);
  EXPECT_TRUE(request->has(kFlagFua));
  EXPECT_EQ(request->cookie, 0x1122334455667788U);
  EXPECT_EQ(request->offset, 0x100000000U);
  EXPECT_EQ(request->length, 0xffffffffU);
}

TEST(RequestTest, TakesTheExtendedFormApart) {
  const std::string text = wire(kExtendedRequestMagic, uint16_t{0}, uint16_t{4}, uint64_t{9},
                                uint64_t{512}, uint64_t{0x1000000000});
  const auto request = parse_request(bytes(text), true);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->command, Command::kTrim);
  EXPECT_EQ(request->length, 0x1000000000U);
}

TEST(RequestTest, TheMagicNumberMustFitTheNegotiatedForm) {
  const std::string compact(wire(kRequestMagic) + std::string(28, '\0'));
  const std::string extended(wire(kExtendedRequestMagic) + std::string(28, '\0'));
  EXPECT_FALSE(parse_request(bytes(compact), true));
  EXPECT_FALSE(parse_request(bytes(extended), false));
  EXPECT_FALSE(parse_request(bytes(std::string(28, 'x')), false));
}

TEST(RequestTest, OnlyWritesCarryDataInTheCompactForm) {
  EXPECT_EQ(payload_length(make(Command::kWrite, 0, 512), false), 512U);
  EXPECT_EQ(payload_length(make(Command::kRead, 0, 512), false), 0U);
  EXPECT_EQ(payload_length(make(Command::kTrim, 0, 512, kFlagPayloadLength), false), 0U);
  EXPECT_EQ(payload_length(make(Command::kBlockStatus, 0, 512, kFlagPayloadLength), true), 512U);
}

TEST(RequestTest, RangesThatLeaveTheExportAreRefused) {
  EXPECT_FALSE(check_request(make(Command::kRead, kRules.size - 1, 1), kRules));
  EXPECT_FALSE(check_request(make(Command::kRead, kRules.size, 0), kRules));
  EXPECT_TRUE(check_request(make(Command::kRead, kRules.size, 1), kRules));
  EXPECT_TRUE(check_request(make(Command::kTrim, kRules.size + 1, 0), kRules));
  EXPECT_TRUE(check_request(make(Command::kWrite, UINT64_MAX, 2), kRules));
  EXPECT_TRUE(check_request(make(Command::kWriteZeroes, 1, UINT64_MAX), kRules));
}

TEST(RequestTest, DataIsLimitedButZeroesAreNot) {
  RequestRules big = kRules;
  big.size = uint64_t{1} << 40;
  EXPECT_FALSE(check_request(make(Command::kRead, 0, kMaxPayload), big));
  EXPECT_TRUE(check_request(make(Command::kRead, 0, kMaxPayload + 1), big));
  EXPECT_TRUE(check_request(make(Command::kWrite, 0, kMaxPayload + 1), big));
  EXPECT_TRUE(check_request(make(Command::kCache, 0, kMaxPayload + 1), big));
  EXPECT_FALSE(check_request(make(Command::kWriteZeroes, 0, UINT32_MAX), big));
  EXPECT_FALSE(check_request(make(Command::kTrim, 0, UINT32_MAX), big));
}

TEST(RequestTest, AReadOnlyExportIsNotWritten) {
  RequestRules rules = kRules;
  rules.writable = false;
  for (const Command command : {Command::kWrite, Command::kTrim, Command::kWriteZeroes}) {
    const auto refusal = check_request(make(command, 0, 512), rules);
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->error, WireError::kInvalid);
  }
  EXPECT_FALSE(check_request(make(Command::kRead, 0, 512), rules));
  EXPECT_FALSE(check_request(make(Command::kFlush, 0, 0), rules));
}

TEST(RequestTest, FlagsBelongToTheirCommands) {
  EXPECT_FALSE(check_request(make(Command::kRead, 0, 512, kFlagFua | kFlagDf), kRules));
  EXPECT_FALSE(
      check_request(make(Command::kWriteZeroes, 0, 512, kFlagNoHole | kFlagFastZero), kRules));
  EXPECT_TRUE(check_request(make(Command::kWrite, 0, 512, kFlagNoHole), kRules));
  EXPECT_TRUE(check_request(make(Command::kRead, 0, 512, kFlagReqOne), kRules));
  EXPECT_TRUE(check_request(make(Command::kTrim, 0, 512, 0x8000), kRules));
  RequestRules simple = kRules;
  simple.structured = false;
  EXPECT_TRUE(check_request(make(Command::kRead, 0, 512, kFlagDf), simple));
}

TEST(RequestTest, BlockStatusNeedsAContextAndALength) {
  RequestRules rules = kRules;
  EXPECT_TRUE(check_request(make(Command::kBlockStatus, 0, 512), rules));
  rules.contexts = true;
  EXPECT_FALSE(check_request(make(Command::kBlockStatus, 0, 512, kFlagReqOne), rules));
  EXPECT_TRUE(check_request(make(Command::kBlockStatus, 0, 0), rules));
}

TEST(RequestTest, UnknownCommandsAreRefused) {
  EXPECT_TRUE(check_request(make(static_cast<Command>(8), 0, 0), kRules));
  EXPECT_TRUE(check_request(make(static_cast<Command>(0xffff), 0, 0), kRules));
}

TEST(RequestTest, EveryErrnoHasAWireValue) {
  EXPECT_EQ(wire_error(ENOSPC), WireError::kNoSpace);
  EXPECT_EQ(wire_error(EDQUOT), WireError::kNoSpace);
  EXPECT_EQ(wire_error(EROFS), WireError::kPerm);
  EXPECT_EQ(wire_error(ENOTSUP), WireError::kNotSupported);
  EXPECT_EQ(wire_error(EBADF), WireError::kIo);
  EXPECT_EQ(wire_error(EINVAL), WireError::kInvalid);
}

}  // namespace
}  // namespace cairn::nbd
