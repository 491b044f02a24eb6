// Every command in the transmission phase, in the forms that clients can negotiate.
#include <algorithm>
#include <cerrno>

#include <gtest/gtest.h>

#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using nbd::Command;

class CommandsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.start();
    ASSERT_TRUE(harness_.add("e"));
  }

  void fill(std::size_t offset, std::size_t length, uint8_t value) {
    std::fill_n(harness_.disk().bytes.begin() + static_cast<std::ptrdiff_t>(offset), length,
                std::byte{value});
  }
  [[nodiscard]] uint8_t at(std::size_t offset) {
    return std::to_integer<uint8_t>(harness_.disk().bytes[offset]);
  }

  NbdHarness harness_;
};

TEST_F(CommandsTest, SimpleRepliesCarryReadData) {
  fill(100, 8, 'x');
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  const Reply reply = client.ask(Command::kRead, 99, 10);
  EXPECT_FALSE(reply.structured);
  EXPECT_EQ(reply.cookie, 7U);
  EXPECT_EQ(reply.payload, std::string("\0xxxxxxxx\0", 10));
}

TEST_F(CommandsTest, StructuredRepliesCarryReadDataWithItsOffset) {
  fill(100, 8, 'x');
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e", true));
  const Reply reply = client.ask(Command::kRead, 100, 4, nbd::kFlagDf);
  EXPECT_TRUE(reply.structured);
  EXPECT_EQ(reply.chunk_flags, nbd::kReplyDone);
  EXPECT_EQ(reply.chunk_type, 1);
  EXPECT_EQ(reply.payload, wire(uint64_t{100}) + "xxxx");
}

TEST_F(CommandsTest, LargeReadsOfKnownZeroesAreAnsweredAsHoles) {
  ASSERT_TRUE(harness_.add("z", true, {}, "zeroes"));
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("z", true));
  constexpr uint32_t kLength = 65536;
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1} << 19}) {
    const Reply hole = client.ask(Command::kRead, offset, kLength);
    EXPECT_EQ(hole.chunk_type, 2);
    EXPECT_EQ(hole.chunk_flags, nbd::kReplyDone);
    EXPECT_EQ(hole.payload, wire(offset, kLength));
  }
  // Not where the client wants one piece of data, nor where one piece of metadata does not say it.
  const std::string zeroes(kLength, '\0');
  EXPECT_EQ(client.ask(Command::kRead, 0, kLength, nbd::kFlagDf).payload,
            wire(uint64_t{0}) + zeroes);
  const uint64_t across = (1 << 19) - 512;
  EXPECT_EQ(client.ask(Command::kRead, across, kLength).payload, wire(across) + zeroes);
  EXPECT_EQ(client.ask(Command::kRead, 0, 512).chunk_type, 1);
  NbdClient simple(harness_);
  ASSERT_TRUE(simple.go("z"));
  EXPECT_EQ(simple.ask(Command::kRead, 0, kLength).payload, zeroes);
}

TEST_F(CommandsTest, ReadsOfNothingSucceed) {
  NbdClient simple(harness_);
  ASSERT_TRUE(simple.go("e"));
  EXPECT_EQ(simple.ask(Command::kRead, 0, 0).error, 0U);
  NbdClient structured(harness_);
  ASSERT_TRUE(structured.go("e", true));
  const Reply reply = structured.ask(Command::kRead, 0, 0);
  EXPECT_TRUE(reply.structured);
  EXPECT_EQ(reply.chunk_type, 0);
}

TEST_F(CommandsTest, WritesOfEverySizeArrive) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  uint8_t value = 1;
  for (const std::size_t size : {1UL, 4096UL, 65536UL, 65537UL, 300000UL, 1000000UL}) {
    const std::string data(size, static_cast<char>(++value));
    EXPECT_EQ(client.ask(Command::kWrite, 3, static_cast<uint32_t>(size), 0, data).error, 0U);
    EXPECT_EQ(at(3), value);
    EXPECT_EQ(at(3 + size - 1), value);
    EXPECT_NE(at(3 + size), value);
    EXPECT_EQ(client.ask(Command::kRead, 3, static_cast<uint32_t>(size)).payload, data);
  }
  EXPECT_EQ(harness_.disk().flushes, 0);
}

TEST_F(CommandsTest, ManyWritesInOneBatchKeepTheirData) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  // Held back, so that all payloads are in use at once while more arrive.
  harness_.disk().open_gate.reset();
  std::string batch;
  for (uint32_t i = 0; i < 100; ++i) {
    batch += wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{1}, uint64_t{i}, uint64_t{i} * 4096,
                  uint32_t{4096});
    batch += std::string(4096, static_cast<char>(i + 1));
  }
  client.send(batch);
  ASSERT_TRUE(harness_.until([&] { return harness_.disk().waiting == 100; }));
  harness_.disk().open_gate.set();
  for (uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(client.reply().error, 0U);
  }
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(at(i * 4096), i + 1);
    EXPECT_EQ(at(i * 4096 + 4095), i + 1);
  }
}

TEST_F(CommandsTest, FuaMakesDurable) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kWrite, 0, 4, nbd::kFlagFua, "abcd").error, 0U);
  EXPECT_EQ(harness_.disk().flushes, 1);
  EXPECT_EQ(client.ask(Command::kTrim, 0, 4096, nbd::kFlagFua).error, 0U);
  EXPECT_EQ(harness_.disk().flushes, 2);
  EXPECT_EQ(client.ask(Command::kWriteZeroes, 0, 4096, nbd::kFlagFua).error, 0U);
  EXPECT_EQ(harness_.disk().flushes, 3);
  EXPECT_EQ(client.ask(Command::kRead, 0, 1, nbd::kFlagFua).error, 0U);
}

TEST_F(CommandsTest, FlushReachesTheNode) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kWrite, 0, 4, 0, "abcd").error, 0U);
  EXPECT_EQ(client.ask(Command::kFlush, 5, 5).error, 0U);  // reserved fields are ignored
  EXPECT_EQ(harness_.disk().flushes, 1);
}

TEST_F(CommandsTest, WriteZeroesSaysWhetherHolesAreWelcome) {
  fill(0, 8192, 'x');
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kWriteZeroes, 0, 4096).error, 0U);
  EXPECT_TRUE(harness_.disk().last_zero.may_unmap);
  EXPECT_FALSE(harness_.disk().last_zero.no_fallback);
  EXPECT_EQ(client.ask(Command::kWriteZeroes, 0, 4096, nbd::kFlagNoHole | nbd::kFlagFastZero).error,
            0U);
  EXPECT_FALSE(harness_.disk().last_zero.may_unmap);
  EXPECT_TRUE(harness_.disk().last_zero.no_fallback);
  EXPECT_EQ(at(4095), 0);
  EXPECT_EQ(at(4096), 'x');
}

TEST_F(CommandsTest, AFastZeroThatWouldBeSlowIsRefused) {
  harness_.disk().zero_error = ENOTSUP;
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kWriteZeroes, 0, 4096, nbd::kFlagFastZero).error, 95U);
  fill(0, 4096, 'x');
  EXPECT_EQ(client.ask(Command::kWriteZeroes, 0, 4096).error, 0U);  // written out instead
  EXPECT_EQ(at(0), 0);
}

TEST_F(CommandsTest, TrimReachesTheNode) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kTrim, 0, 65536).error, 0U);
  EXPECT_EQ(harness_.disk().discards, 1);
}

TEST_F(CommandsTest, CacheReadsWithoutAnswering) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kCache, 0, 1 << 20).error, 0U);
  EXPECT_GT(harness_.disk().reads, 0);
}

TEST_F(CommandsTest, BlockStatusTellsHolesAndMergesThem) {
  fill(131072, 65536, 'x');
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e", true, true));
  const Reply reply = client.ask(Command::kBlockStatus, 0, 1 << 20);
  EXPECT_EQ(reply.chunk_type, 5);
  EXPECT_EQ(reply.chunk_flags, nbd::kReplyDone);
  EXPECT_EQ(reply.payload, wire(uint32_t{0}, uint32_t{131072}, uint32_t{3}, uint32_t{65536},
                                uint32_t{0}, uint32_t{851968}, uint32_t{3}));
  const Reply one = client.ask(Command::kBlockStatus, 65536, 1 << 19, nbd::kFlagReqOne);
  EXPECT_EQ(one.payload, wire(uint32_t{0}, uint32_t{65536}, uint32_t{3}));
}

TEST_F(CommandsTest, BlockStatusOfAScatteredDiskIsBounded) {
  harness_.disk().zero_granularity = 16;
  for (std::size_t i = 0; i < harness_.disk().bytes.size(); i += 32) {
    harness_.disk().bytes[i] = std::byte{1};
  }
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e", true, true));
  const Reply reply = client.ask(Command::kBlockStatus, 0, 1 << 20);
  EXPECT_EQ(reply.error, 0U);
  EXPECT_EQ(reply.payload.size(), 4U + 1024 * 8);
}

TEST_F(CommandsTest, ErrorsOfTheNodeReachTheClient) {
  harness_.disk().read_error = EIO;
  harness_.disk().write_error = ENOSPC;
  NbdClient simple(harness_);
  ASSERT_TRUE(simple.go("e"));
  EXPECT_EQ(simple.ask(Command::kRead, 0, 512).error, 5U);
  EXPECT_EQ(simple.ask(Command::kWrite, 0, 4, 0, "abcd").error, 28U);
  NbdClient structured(harness_);
  ASSERT_TRUE(structured.go("e", true));
  const Reply reply = structured.ask(Command::kRead, 0, 512);
  EXPECT_EQ(reply.error, 5U);
  EXPECT_EQ(reply.chunk_type, 0x8001);
  EXPECT_EQ(reply.payload.substr(6), "Input/output error");
  // The connections are as good as before.
  harness_.disk().read_error = 0;
  harness_.disk().write_error = 0;
  EXPECT_EQ(simple.ask(Command::kRead, 0, 512).error, 0U);
  EXPECT_EQ(structured.ask(Command::kRead, 0, 512).error, 0U);
}

TEST_F(CommandsTest, RefusedWritesAreSkippedWithTheirData) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  const uint32_t size = 1 << 20;
  EXPECT_EQ(client.ask(Command::kWrite, size - 256, 512, 0, std::string(512, 'x')).error, 22U);
  EXPECT_EQ(client.ask(Command::kWrite, 0, 512, nbd::kFlagDf, std::string(512, 'x')).error, 22U);
  EXPECT_EQ(client.ask(Command::kWrite, size, 500000, 0, std::string(500000, 'x')).error, 22U);
  EXPECT_EQ(client.ask(Command::kRead, 0, 4).payload, std::string(4, '\0'));
  EXPECT_EQ(harness_.disk().writes, 0);
}

TEST_F(CommandsTest, AWriteAboveTheMaximumIsRefusedAndSkipped) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  const uint32_t length = nbd::kMaxPayload + 1;
  EXPECT_EQ(client.ask(Command::kWrite, 0, length, 0, std::string(length, 'x')).error, 22U);
  EXPECT_EQ(client.ask(Command::kFlush, 0, 0).error, 0U);
}

TEST_F(CommandsTest, AReadOnlyExportRefusesWrites) {
  ASSERT_TRUE(harness_.add("r", false));
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("r"));
  EXPECT_EQ(client.ask(Command::kWrite, 0, 4, 0, "abcd").error, 22U);
  EXPECT_EQ(client.ask(Command::kTrim, 0, 4096).error, 22U);
  EXPECT_EQ(client.ask(Command::kRead, 0, 4).error, 0U);
}

TEST_F(CommandsTest, RepliesComeInTheOrderOfCompletion) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  harness_.disk().open_gate.reset();
  client.request(Command::kRead, 0, 4, 0, 1);
  ASSERT_TRUE(harness_.until([&] { return harness_.disk().waiting == 1; }));
  client.request(Command::kTrim, 1 << 21, 1, 0, 2);  // fails at once
  EXPECT_EQ(client.reply().cookie, 2U);
  harness_.disk().open_gate.set();
  EXPECT_EQ(client.reply(4).cookie, 1U);
}

TEST_F(CommandsTest, RequestsWithOneCookieAreAllAnswered) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  for (int i = 0; i < 3; ++i) {
    client.request(Command::kFlush, 0, 0, 0, 7);
  }
  for (int i = 0; i < 3; ++i) {
    const Reply reply = client.reply();
    EXPECT_EQ(reply.cookie, 7U);
    EXPECT_EQ(reply.error, 0U);
  }
  EXPECT_EQ(client.ask(Command::kRead, 0, 4).payload.size(), 4U);
}

TEST_F(CommandsTest, DisconnectAnswersWhatIsInFlight) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  harness_.disk().open_gate.reset();
  client.request(Command::kRead, 0, 4, 0, 1);
  client.request(Command::kDisconnect, 0, 0, 0, 2);
  ASSERT_TRUE(harness_.until([&] { return harness_.disk().waiting == 1; }));
  harness_.disk().open_gate.set();
  EXPECT_EQ(client.reply(4).cookie, 1U);
  EXPECT_TRUE(client.sees_end());
}

TEST_F(CommandsTest, AHalfClosedConnectionGetsItsAnswers) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  client.request(Command::kRead, 0, 4, 0, 1);
  client.shut_down_writing();
  EXPECT_EQ(client.reply(4).cookie, 1U);
  EXPECT_TRUE(client.sees_end());
}

TEST_F(CommandsTest, ExtendedHeadersCarryLongLengths) {
  NbdClient client(harness_);
  client.greet();
  ASSERT_EQ(client.option(11).back().type, 1U);
  const std::string query = "base:allocation";
  ASSERT_EQ(client.option(10, wire(uint32_t{1}) + "e" + wire(uint32_t{1}, uint32_t{15}) + query)
                .back()
                .type,
            1U);
  ASSERT_EQ(client.option(7, wire(uint32_t{1}) + "e" + wire(uint16_t{0})).back().type, 1U);
  const auto request = [&client](uint16_t flags, uint16_t command, uint64_t length) {
    client.send(wire(nbd::kExtendedRequestMagic, flags, command, uint64_t{3}, uint64_t{0}, length));
  };
  const auto header = [](uint16_t type, uint64_t length) {
    return wire(nbd::kExtendedReplyMagic, nbd::kReplyDone, type, uint64_t{3}, uint64_t{0}, length);
  };
  request(0, 0, 4);
  EXPECT_EQ(client.receive(32), header(1, 12));
  EXPECT_EQ(client.receive(12), wire(uint64_t{0}) + std::string(4, '\0'));
  request(nbd::kFlagPayloadLength, 1, 4);
  client.send("abcd");
  EXPECT_EQ(client.receive(32), header(0, 0));
  EXPECT_EQ(at(3), 'd');
  request(0, 7, 1 << 20);
  EXPECT_EQ(client.receive(32), header(6, 8 + 32));
  EXPECT_EQ(client.receive(40), wire(uint32_t{0}, uint32_t{2}, uint64_t{65536}, uint64_t{0},
                                     uint64_t{983040}, uint64_t{3}));
  request(0, 4, uint64_t{1} << 40);  // beyond the end
  WireReader error(client.receive(32));
  (void)error.take<uint32_t>();
  (void)error.take<uint16_t>();
  EXPECT_EQ(error.take<uint16_t>(), 0x8001);
  (void)error.take<uint64_t>();
  (void)error.take<uint64_t>();
  client.receive(error.take<uint64_t>());
  request(nbd::kFlagPayloadLength, 3, 5);  // a flush with data, which is skipped
  client.send("xxxxx");
  WireReader flush(client.receive(32));
  (void)flush.take<uint64_t>();
  (void)flush.take<uint64_t>();
  (void)flush.take<uint64_t>();
  client.receive(flush.take<uint64_t>());
  request(0, 0, 1);
  EXPECT_EQ(client.receive(32), header(1, 9));
}

}  // namespace
}  // namespace cairn::testing
