// What bounds a client: requests and bytes in flight, slow readers, garbage, idleness.
#include <sys/socket.h>

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "exports/nbd/connection.h"
#include "exports/nbd/nbd_export.h"
#include "exports/nbd/station.h"
#include "io/task_group.h"
#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using nbd::Command;
using nbd::Connection;
using nbd::Transmission;

class LimitsTest : public ::testing::Test {
 protected:
  void start(std::size_t disk_size = 1 << 20) {
    harness_.emplace(disk_size);
    harness_->start();
    ASSERT_TRUE(harness_->add("e"));
  }
  // Lets the server do what it can. From an export's thread requests come a few at a time.
  void settle() {
    const auto& disk = harness_->disk();
    int before = 0;
    do {
      before = disk.reads + disk.writes + disk.waiting;
      for (int i = 0; i < 50; ++i) {
        harness_->turn();
      }
    } while (disk.reads + disk.writes + disk.waiting != before);
  }
  // Reads with cookies from 0 on, as one piece of bytes: a socket holds few small ones.
  static std::string reads(uint64_t count, uint32_t length) {
    std::string out;
    for (uint64_t i = 0; i < count; ++i) {
      out += wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{0}, i, uint64_t{0}, length);
    }
    return out;
  }

  std::optional<NbdHarness> harness_;
};

TEST_F(LimitsTest, RequestsInFlightAreBounded) {
  start();
  NbdClient client(*harness_);
  ASSERT_TRUE(client.go("e"));
  harness_->disk().open_gate.reset();
  const int count = 2 * static_cast<int>(Transmission::kMaxRequests);
  client.send(reads(static_cast<uint64_t>(count), 1));
  settle();
  EXPECT_EQ(harness_->disk().waiting, static_cast<int>(Transmission::kMaxRequests));
  harness_->disk().open_gate.set();
  std::set<uint64_t> answered;  // in whatever order
  for (int i = 0; i < count; ++i) {
    answered.insert(client.reply(1).cookie);
  }
  EXPECT_EQ(answered.size(), static_cast<std::size_t>(count));
  EXPECT_EQ(*answered.rbegin(), static_cast<uint64_t>(count) - 1);
}

TEST_F(LimitsTest, BytesInFlightAreBounded) {
  start(std::size_t{40} << 20);
  NbdClient client(*harness_);
  ASSERT_TRUE(client.go("e"));
  harness_->disk().open_gate.reset();
  constexpr uint32_t kLength = 12 << 20;
  for (uint64_t i = 0; i < 6; ++i) {
    client.request(Command::kRead, 0, kLength, 0, i);
  }
  settle();
  EXPECT_EQ(harness_->disk().waiting, 2);  // three would be above 32 MiB
  harness_->disk().open_gate.set();
  for (uint64_t i = 0; i < 6; ++i) {
    const Reply reply = client.reply(kLength);
    EXPECT_EQ(reply.cookie, i);
    EXPECT_EQ(reply.payload.size(), kLength);
  }
}

TEST_F(LimitsTest, TheLargestRequestIsAlwaysAdmitted) {
  start(std::size_t{40} << 20);
  NbdClient client(*harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kRead, 0, nbd::kMaxPayload).payload.size(), nbd::kMaxPayload);
}

TEST_F(LimitsTest, AClientThatDoesNotReadStopsOnlyItself) {
  start();
  NbdClient slow(*harness_);
  slow.shrink_receive_buffer();
  ASSERT_TRUE(slow.go("e"));
  slow.send(reads(1000, 65536));
  settle();
  const int reads = harness_->disk().reads;
  EXPECT_LT(reads, 1000);
  settle();
  EXPECT_EQ(harness_->disk().reads, reads);  // nothing more until it reads
  NbdClient other(*harness_);
  ASSERT_TRUE(other.go("e"));
  EXPECT_EQ(other.ask(Command::kRead, 0, 4).payload.size(), 4U);
  for (uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(slow.reply(65536).cookie, i);
  }
}

TEST_F(LimitsTest, GarbageEndsTheConnectionAlone) {
  start();
  NbdClient good(*harness_);
  ASSERT_TRUE(good.go("e"));
  NbdClient bad(*harness_);
  ASSERT_TRUE(bad.go("e"));
  bad.send(std::string(1000, 'x'));
  EXPECT_TRUE(bad.sees_end());
  EXPECT_EQ(good.ask(Command::kRead, 0, 4).error, 0U);
}

TEST_F(LimitsTest, AClientThatLeavesInTheMiddleOfAWriteWritesNothing) {
  start();
  {
    NbdClient client(*harness_);
    ASSERT_TRUE(client.go("e"));
    client.request(Command::kWrite, 0, 500000, 0, 1, std::string(1000, 'x'));
    settle();
  }
  settle();
  EXPECT_EQ(harness_->disk().writes, 0);
  EXPECT_TRUE(harness_->registry().remove("e", exports::RemoveMode::kSafe));
}

TEST_F(LimitsTest, AClientThatLeavesWithRequestsInFlightIsForgottenAfterThem) {
  start();
  harness_->disk().open_gate.reset();
  {
    NbdClient client(*harness_);
    ASSERT_TRUE(client.go("e"));
    for (int i = 0; i < 10; ++i) {
      client.request(Command::kRead, 0, 4096);
    }
    ASSERT_TRUE(harness_->until([&] { return harness_->disk().waiting == 10; }));
  }
  settle();
  EXPECT_FALSE(harness_->registry().remove("e", exports::RemoveMode::kSafe));
  harness_->disk().open_gate.set();
  EXPECT_TRUE(harness_->until(
      [&] { return harness_->registry().remove("e", exports::RemoveMode::kSafe).has_value(); }));
}

TEST_F(LimitsTest, RequestsMayArriveByteByByte) {
  start();
  NbdClient client(*harness_);
  ASSERT_TRUE(client.go("e"));
  const std::string text =
      wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{1}, uint64_t{1}, uint64_t{0}, uint32_t{5}) +
      "abcde";
  for (const char c : text) {
    client.send(std::string(1, c));
    harness_->turn();
  }
  EXPECT_EQ(client.reply().error, 0U);
  EXPECT_EQ(client.ask(Command::kRead, 0, 5).payload, "abcde");
}

TEST_F(LimitsTest, AClientMayLeaveAtEveryByte) {
  start();
  const std::string query =
      wire(uint32_t{1}) + "e" + wire(uint32_t{1}, uint32_t{15}) + "base:allocation";
  const std::string talk =
      wire(uint32_t{3}, nbd::kOptionMagic, uint32_t{11}, uint32_t{0}, nbd::kOptionMagic,
           uint32_t{10}, static_cast<uint32_t>(query.size())) +
      query + wire(nbd::kOptionMagic, uint32_t{7}, uint32_t{7}, uint32_t{1}) + "e" +
      wire(uint16_t{0}) +
      wire(nbd::kExtendedRequestMagic, nbd::kFlagPayloadLength, uint16_t{1}, uint64_t{1},
           uint64_t{0}, uint64_t{9}) +
      "some data" +
      wire(nbd::kExtendedRequestMagic, nbd::kFlagPayloadLength, uint16_t{7}, uint64_t{2},
           uint64_t{0}, uint64_t{12}, uint64_t{512}, uint32_t{0}) +
      wire(nbd::kExtendedRequestMagic, uint16_t{0}, uint16_t{0}, uint64_t{3}, uint64_t{0},
           uint64_t{9});
  for (std::size_t length = 0; length <= talk.size(); ++length) {
    NbdClient client(*harness_);
    client.send(std::string_view(talk).substr(0, length));
    if (length % 2 == 0) {
      client.shut_down_writing();  // it may still get what it has asked for
      std::string answer;
      while (!(answer = client.receive(1)).empty()) {
      }
    }
  }
  NbdClient client(*harness_);
  ASSERT_TRUE(client.go("e"));
  EXPECT_EQ(client.ask(Command::kRead, 0, 9).payload, "some data");
}

TEST(IdleTest, AClientWhoseRequestsAreAnsweredLateGivesItsBufferBackAsWell) {
  NbdHarness harness;
  nbd::ExportList exports;
  const auto station = std::make_shared<nbd::Station>();
  const nbd::Gate gate;
  auto root = harness.graph().attach(harness.graph().find("disk"), {},
                                     {.used = block::PermissionSet::kConsistentRead});
  ASSERT_TRUE(root.has_value());
  nbd::NbdView view;
  view.name = "e";
  const nbd::NbdExport entry(exports, {.id = "e", .node_name = "disk"}, std::move(*root),
                             std::move(view), station);
  auto pair = io::Stream::pair();
  ASSERT_TRUE(pair.has_value());
  const io::Stream client = std::move(pair->second);
  Connection connection(std::move(pair->first), exports, gate);
  io::TaskGroup group;
  group.spawn(connection.run());
  const auto say = [&client](const std::string& text) {
    EXPECT_EQ(send(client.fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  };
  const auto hears = [&](ssize_t count) {
    std::string text(4096, '\0');
    return harness.until([&] {
      const ssize_t got = recv(client.fd(), text.data(), text.size(), MSG_DONTWAIT);
      count -= std::max<ssize_t>(got, 0);
      return count == 0;
    });
  };
  say(wire(uint32_t{3}, nbd::kOptionMagic, uint32_t{1}, uint32_t{1}) + "e");
  EXPECT_TRUE(hears(18 + 10));
  for (int round = 0; round < 2; ++round) {
    harness.disk().open_gate.reset();
    say(wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{0}, uint64_t{1}, uint64_t{0}, uint32_t{1}));
    EXPECT_TRUE(harness.until([&] { return harness.disk().waiting == 1; }));
    EXPECT_FALSE(station->relax());  // not while something is in flight
    harness.disk().open_gate.set();
    EXPECT_TRUE(hears(16 + 1));
    EXPECT_FALSE(station->relax());  // it has just been active
    EXPECT_TRUE(station->relax());
    EXPECT_TRUE(harness.until(
        [&] { return station->pool().idle_bytes() >= nbd::ReceiveBuffer::kCapacity; }));
  }
  connection.stop();
  EXPECT_TRUE(harness.until([&] { return group.running() == 0; }));
}

}  // namespace
}  // namespace cairn::testing
