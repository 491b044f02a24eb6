// The handshake over a real socket: framing, time-outs, hostile clients.
#include <sys/socket.h>

#include <cerrno>

#include <gtest/gtest.h>

#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using nbd::Command;

class HandshakeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.start();
    ASSERT_TRUE(harness_.add("e", true, "words"));
  }
  NbdHarness harness_;
};

TEST_F(HandshakeTest, GreetsAndEntersTransmission) {
  NbdClient client(harness_);
  EXPECT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kRead, 0, 4).payload, std::string(4, '\0'));
}

TEST_F(HandshakeTest, ExportNameEntersTransmissionWithoutAReplyHeader) {
  NbdClient client(harness_);
  client.greet();
  client.send_option(1, "e");
  WireReader reader(client.receive(10));
  EXPECT_EQ(reader.take<uint64_t>(), harness_.disk().bytes.size());
  const auto flags = reader.take<uint16_t>();
  EXPECT_EQ(flags, nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kSendTrim |
                       nbd::kSendWriteZeroes | nbd::kCanMultiConn | nbd::kSendCache |
                       nbd::kSendFastZero);
  EXPECT_EQ(client.ask(Command::kFlush, 0, 0).error, 0U);
}

TEST_F(HandshakeTest, AReadOnlyExportSaysSo) {
  ASSERT_TRUE(harness_.add("r", false));
  NbdClient client(harness_);
  client.greet();
  client.send_option(1, "r");
  WireReader reader(client.receive(10));
  (void)reader.take<uint64_t>();
  EXPECT_EQ(reader.take<uint16_t>(), nbd::kHasFlags | nbd::kReadOnly | nbd::kSendFlush |
                                         nbd::kSendFua | nbd::kCanMultiConn | nbd::kSendCache);
}

TEST_F(HandshakeTest, OptionsMayArriveByteByByte) {
  NbdClient client(harness_);
  client.receive(18);
  const std::string text = wire(uint32_t{3}, nbd::kOptionMagic, uint32_t{1}, uint32_t{1}) + "e";
  for (const char c : text) {
    client.send(std::string(1, c));
    harness_.turn();
  }
  EXPECT_EQ(client.receive(10).size(), 10U);
}

TEST_F(HandshakeTest, OptionsMayArriveAllAtOnceWithTheFirstRequests) {
  NbdClient client(harness_);
  client.send(
      wire(uint32_t{3}, nbd::kOptionMagic, uint32_t{99}, uint32_t{2}) + "xx" +
      wire(nbd::kOptionMagic, uint32_t{1}, uint32_t{1}) + "e" +
      wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{0}, uint64_t{5}, uint64_t{0}, uint32_t{3}));
  client.receive(18);
  WireReader refused(client.receive(20));
  (void)refused.take<uint64_t>();
  EXPECT_EQ(refused.take<uint32_t>(), 99U);
  EXPECT_EQ(refused.take<uint32_t>(), 0x80000001U);
  client.receive(refused.take<uint32_t>());
  EXPECT_EQ(client.receive(10).size(), 10U);
  EXPECT_EQ(client.reply(3).cookie, 5U);
}

TEST_F(HandshakeTest, AWrongMagicNumberEndsTheConnection) {
  NbdClient client(harness_);
  client.greet();
  client.send(wire(uint64_t{1}, uint32_t{3}, uint32_t{0}));
  EXPECT_TRUE(client.sees_end());
}

TEST_F(HandshakeTest, UnknownClientFlagsEndTheConnection) {
  NbdClient client(harness_);
  client.greet(0x10);
  EXPECT_TRUE(client.sees_end());
}

TEST_F(HandshakeTest, OversizedOptionsAreSkippedUpToALimit) {
  NbdClient client(harness_);
  client.greet();
  EXPECT_EQ(client.option(99, std::string(100000, 'x')).back().type, 0x80000001U);
  EXPECT_EQ(client.option(7, std::string(100000, 'x')).back().type, 0x80000009U);
  client.send(wire(nbd::kOptionMagic, uint32_t{99}, uint32_t{0xffffffff}));
  EXPECT_TRUE(client.sees_end());
}

TEST_F(HandshakeTest, AbortIsAnsweredBeforeTheEnd) {
  NbdClient client(harness_);
  client.greet();
  EXPECT_EQ(client.option(2).back().type, 1U);
  EXPECT_TRUE(client.sees_end());
}

TEST_F(HandshakeTest, AClientThatLeavesInTheMiddleIsForgotten) {
  {
    NbdClient client(harness_);
    client.greet();
    client.send("IHAVE");
  }
  NbdClient other(harness_);
  EXPECT_TRUE(other.go("e"));
}

TEST_F(HandshakeTest, AnUnknownExportLeavesRoomForAnotherTry) {
  NbdClient client(harness_);
  EXPECT_FALSE(client.go("nope"));
  EXPECT_EQ(client.option(7, wire(uint32_t{1}) + "e" + wire(uint16_t{0})).back().type, 1U);
}

TEST(HandshakeLimitTest, AClientThatSaysNothingIsDroppedWhenItsTimeIsUp) {
  NbdHarness harness;
  harness.start(100, 1);
  ASSERT_TRUE(harness.add("e"));
  NbdClient talker(harness);
  ASSERT_TRUE(talker.go("e"));
  NbdClient silent(harness);
  EXPECT_EQ(silent.receive(18).size(), 18U);
  EXPECT_TRUE(silent.sees_end());
  // The limit is for the handshake alone.
  EXPECT_EQ(talker.ask(Command::kFlush, 0, 0).error, 0U);
}

TEST(HandshakeLimitTest, AClientThatGoesOnSayingLittleIsDroppedAsWell) {
  NbdHarness harness;
  harness.start(100, 1);
  NbdClient slow(harness);
  slow.greet();
  char byte = 0;
  EXPECT_TRUE(harness.until([&] {
    slow.send("I");
    const ssize_t got = recv(slow.fd(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }));
}

TEST(HandshakeLimitTest, ClientsAboveTheLimitWaitForTheirTurn) {
  NbdHarness harness;
  harness.start(1);
  ASSERT_TRUE(harness.add("e"));
  auto first = std::make_unique<NbdClient>(harness);
  ASSERT_TRUE(first->go("e"));
  NbdClient second(harness);
  for (int i = 0; i < 20; ++i) {
    harness.turn();
  }
  char byte = 0;
  EXPECT_LT(recv(second.fd(), &byte, 1, MSG_DONTWAIT), 0) << "greeted above the limit";
  first.reset();
  EXPECT_TRUE(second.go("e"));
}

TEST(HandshakeLimitTest, ASingleConnectionIsNotMultiConn) {
  NbdHarness harness;
  harness.start(1);
  ASSERT_TRUE(harness.add("e"));
  NbdClient client(harness);
  client.greet();
  client.send_option(1, "e");
  WireReader reader(client.receive(10));
  (void)reader.take<uint64_t>();
  EXPECT_EQ(reader.take<uint16_t>() & nbd::kCanMultiConn, 0);
}

}  // namespace
}  // namespace cairn::testing
