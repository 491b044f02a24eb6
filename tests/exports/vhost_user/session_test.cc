// A conversation, message by message, with front-ends that keep to the protocol and others.
#include "exports/vhost_user/session.h"

#include <fcntl.h>

#include <string>
#include <vector>

#include "tests/exports/vhost_user/session_fixture.h"

namespace cairn::vhost_user {
namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  }
  return count;
}

TEST_F(SessionTest, OffersWhatItCan) {
  const uint64_t features = ask(MessageKind::kGetFeatures);
  EXPECT_NE(features & bit(kFeatureProtocol), 0u);
  EXPECT_EQ(features & bit(VIRTIO_BLK_F_RO), 0u);
  EXPECT_EQ(ask(MessageKind::kGetQueueNum), 2u);
  EXPECT_EQ(ask(MessageKind::kGetMaxMemSlots), kMostRegions);
  EXPECT_EQ(ask(MessageKind::kGetStatus), 0u);
}

TEST_F(SessionTest, EndsWhenTheFrontEndLeaves) {
  agree();
  client_.reset();
  EXPECT_EQ(end(), "");
}

TEST_F(SessionTest, ServesRequests) {
  disk_.bytes[512] = std::byte{'d'};
  start();
  request_read(0, 1);
  ASSERT_TRUE(until([this] { return guest_.used_index() == 1; }));
  EXPECT_EQ(guest_.used_length(0), 513u);
  EXPECT_EQ(*guest_.at(Guest::kFree + 16), std::byte{'d'});
  EXPECT_EQ(*guest_.at(Guest::kFree + 16 + 512), std::byte{VIRTIO_BLK_S_OK});
  EXPECT_TRUE(until([this] { return signalled(call_); }));
}

TEST_F(SessionTest, WaitsForRequestsInFlightBeforeAQueueEnds) {
  start();
  disk_.open_gate.reset();
  request_read(0);
  ASSERT_TRUE(until([this] { return disk_.waiting == 1; }));
  send(MessageKind::kGetVringBase, pack(uint32_t{0}, uint32_t{0}));
  for (int i = 0; i < 20; ++i) {
    run(pause());
  }
  std::byte some{};
  EXPECT_EQ(recv(client_.get(), &some, 1, MSG_DONTWAIT), -1) << "no answer yet";
  disk_.open_gate.set();
  const auto body = reply(MessageKind::kGetVringBase);
  EXPECT_EQ(body, pack(uint32_t{0}, uint32_t{1}));
  EXPECT_EQ(guest_.used_index(), 1);
  request_read(2);
  for (int i = 0; i < 20; ++i) {
    run(pause());
  }
  EXPECT_EQ(guest_.used_index(), 1) << "it has ended";
}

TEST_F(SessionTest, GoesOnAfterAChangeOfMemoryWithoutANewNotification) {
  start();
  request_read(0);
  ASSERT_TRUE(until([this] { return guest_.used_index() == 1; }));
  disk_.open_gate.reset();
  request_read(2);
  ASSERT_TRUE(until([this] { return disk_.waiting == 1; }));
  share();
  disk_.open_gate.set();
  guest_.describe(0, 4, Guest::kBase + Guest::kFree, 16, kDescriptorNext, 5);
  guest_.describe(0, 5, Guest::kBase + Guest::kFree + 16, 513, kDescriptorWrite);
  guest_.make_available(4);
  EXPECT_TRUE(until([this] { return guest_.used_index() == 3; }));
}

TEST_F(SessionTest, LetsADisabledQueueBe) {
  start();
  request_read(0);
  ASSERT_TRUE(until([this] { return guest_.used_index() == 1; }));
  send(MessageKind::kSetVringEnable, pack(uint32_t{0}, uint32_t{0}));
  EXPECT_EQ(ask(MessageKind::kGetQueueNum), 2u);
  request_read(2);
  for (int i = 0; i < 20; ++i) {
    run(pause());
  }
  EXPECT_EQ(guest_.used_index(), 1);
  send(MessageKind::kSetVringEnable, pack(uint32_t{0}, uint32_t{1}));
  EXPECT_TRUE(until([this] { return guest_.used_index() == 2; }));
}

TEST_F(SessionTest, LooksForRequestsOfADriverThatDoesNotTell) {
  start();
  send(MessageKind::kSetVringKick, pack(kNoDescriptorFlag));
  request_read(0);
  EXPECT_TRUE(until([this] { return guest_.used_index() == 1; }));
}

TEST_F(SessionTest, PartsWithADriverThatBreaksTheRules) {
  start();
  guest_.make_available(99);
  notify();
  EXPECT_EQ(end(), "queue 0: a request begins with descriptor 99 of 8");
  EXPECT_TRUE(signalled(error_));
}

TEST_F(SessionTest, PartsWithADriverWhoseMemoryGoesAway) {
  start();
  request_read(0);
  ASSERT_TRUE(until([this] { return guest_.used_index() == 1; }));
  ASSERT_EQ(ftruncate(guest_.fd(), 0), 0);
  notify();
  EXPECT_EQ(end(), "queue 0: memory of the guest was taken away");
}

TEST_F(SessionTest, PartsWithADriverWhoseQueueIsNowhere) {
  start();
  send(MessageKind::kSetVringAddr,
       pack(uint32_t{0}, uint32_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{0}));
  notify();
  EXPECT_EQ(end(), "queue 0: it is said to be where there is no memory");
}

TEST_F(SessionTest, RefusesMessagesThatAreNone) {
  EXPECT_NE(complaint(static_cast<MessageKind>(99)).find("message 99"), std::string::npos);
  connect();
  const MessageHeader version{1, 2, 0};
  send_bytes(&version, sizeof version);
  EXPECT_NE(end().find("another version"), std::string::npos);
  connect();
  const MessageHeader large{1, kVersion, 0xffffffff};
  send_bytes(&large, sizeof large);
  EXPECT_NE(end().find("4294967295 bytes"), std::string::npos);
  connect();
  send_bytes(&large, 5);
  client_.reset();
  EXPECT_NE(end().find("ended within"), std::string::npos);
}

TEST_F(SessionTest, RefusesPayloadsOfAnotherSize) {
  const MessageKind kinds[] = {
      MessageKind::kSetFeatures,    MessageKind::kSetMemTable,   MessageKind::kSetLogBase,
      MessageKind::kSetVringNum,    MessageKind::kSetVringAddr,  MessageKind::kSetVringBase,
      MessageKind::kGetVringBase,   MessageKind::kSetVringKick,  MessageKind::kSetVringCall,
      MessageKind::kSetVringEnable, MessageKind::kGetConfig,     MessageKind::kSetConfig,
      MessageKind::kGetInflightFd,  MessageKind::kSetInflightFd, MessageKind::kAddMemReg,
      MessageKind::kRemMemReg,      MessageKind::kSetStatus,     MessageKind::kSetProtocolFeatures};
  for (const MessageKind kind : kinds) {
    EXPECT_NE(complaint(kind, std::vector<std::byte>(7)), "") << static_cast<int>(kind);
    EXPECT_NE(complaint(kind), "") << static_cast<int>(kind);
  }
}

TEST_F(SessionTest, RefusesQueuesThatAreNotThere) {
  EXPECT_NE(complaint(MessageKind::kSetVringNum, pack(uint32_t{2}, uint32_t{8})), "");
  EXPECT_NE(complaint(MessageKind::kSetVringNum, pack(~uint32_t{0}, uint32_t{8})), "");
  EXPECT_NE(complaint(MessageKind::kSetVringKick, pack(uint64_t{255})), "");
  EXPECT_NE(complaint(MessageKind::kSetVringNum, pack(uint32_t{0}, uint32_t{0})), "");
  EXPECT_NE(complaint(MessageKind::kSetVringNum, pack(uint32_t{0}, uint32_t{65536})), "");
}

TEST_F(SessionTest, RefusesFeaturesThatWereNotOffered) {
  EXPECT_NE(complaint(MessageKind::kSetFeatures, pack(uint64_t{1} << 63)), "");
  EXPECT_NE(complaint(MessageKind::kSetProtocolFeatures, pack(uint64_t{1} << 2)), "");
}

TEST_F(SessionTest, RefusesDescriptorsThatAreSomethingElse) {
  const io::Fd other(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(complaint(MessageKind::kSetVringKick, pack(uint64_t{0}), {guest_.fd()}), "");
  EXPECT_NE(complaint(MessageKind::kSetVringCall, pack(uint64_t{0}), {other.get()}), "");
  EXPECT_NE(complaint(MessageKind::kSetVringCall, pack(uint64_t{0})), "");
  EXPECT_NE(complaint(MessageKind::kSetBackendReqFd, {}, {kick_.get()}), "");
  EXPECT_NE(complaint(MessageKind::kSetBackendReqFd), "");
  EXPECT_NE(complaint(MessageKind::kSetMemTable, pack(uint32_t{1}, uint32_t{0}, Guest::region()),
                      {kick_.get()}),
            "");
  EXPECT_NE(complaint(MessageKind::kSetMemTable, pack(uint32_t{1}, uint32_t{0}, Guest::region()),
                      {guest_.fd(), guest_.fd()}),
            "");
  EXPECT_NE(complaint(MessageKind::kSetMemTable, pack(uint32_t{33}, uint32_t{0})), "");
  EXPECT_NE(complaint(MessageKind::kGetFeatures, {}, std::vector<int>(40, kick_.get())), "");
}

TEST_F(SessionTest, LeavesNoDescriptorBehind) {
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(complaint(MessageKind::kSetMemTable, pack(uint32_t{2}, uint32_t{0}),
                        {guest_.fd(), kick_.get(), call_.get()}),
              "");
    EXPECT_NE(complaint(MessageKind::kGetFeatures, {}, std::vector<int>(40, kick_.get())), "");
    EXPECT_NE(complaint(static_cast<MessageKind>(99), {}, {kick_.get(), kick_.get()}), "");
  }
  connect();
  start();
  client_.reset();
  EXPECT_EQ(end(), "");
  session_.reset();
  EXPECT_EQ(open_descriptors(), before - 2);  // the first pair of sockets is gone, too
}

TEST_F(SessionTest, AcknowledgesWhatItIsAskedTo) {
  agree();
  send(MessageKind::kAddMemReg, pack(uint64_t{0}, Guest::region()), {guest_.fd()},
       kVersion | kNeedReplyFlag);
  EXPECT_EQ(number(MessageKind::kAddMemReg), 0u);
  send(MessageKind::kRemMemReg, pack(uint64_t{0}, Guest::region()), {}, kVersion | kNeedReplyFlag);
  EXPECT_EQ(number(MessageKind::kRemMemReg), 0u);
  send(MessageKind::kRemMemReg, pack(uint64_t{0}, Guest::region()), {}, kVersion | kNeedReplyFlag);
  EXPECT_NE(number(MessageKind::kRemMemReg), 0u);
  EXPECT_NE(end(), "");
}

TEST_F(SessionTest, TellsTheConfigurationInParts) {
  agree();
  send(MessageKind::kGetConfig, pack(uint32_t{34}, uint32_t{2}, uint32_t{0}, uint16_t{0}));
  EXPECT_EQ(reply(MessageKind::kGetConfig),
            pack(uint32_t{34}, uint32_t{2}, uint32_t{0}, uint16_t{2}));
  send(MessageKind::kGetConfig, pack(uint32_t{250}, uint32_t{7}, uint32_t{0}));
  EXPECT_TRUE(reply(MessageKind::kGetConfig).empty());
  send(MessageKind::kGetConfig, pack(~uint32_t{0}, ~uint32_t{0}, uint32_t{0}));
  EXPECT_TRUE(reply(MessageKind::kGetConfig).empty());
  send(MessageKind::kSetConfig, pack(uint32_t{0}, uint32_t{1}, uint32_t{0}, uint8_t{1}), {},
       kVersion | kNeedReplyFlag);
  EXPECT_NE(number(MessageKind::kSetConfig), 0u);
  EXPECT_EQ(ask(MessageKind::kGetQueueNum), 2u) << "it is still there";
}

TEST_F(SessionTest, GivesMemoryForWhatIsInFlight) {
  for (const std::size_t size : {20u, 24u}) {
    auto area =
        pack(InflightArea{.size = 0, .offset = 0, .queues = 2, .queue_size = 128, .padding = 0});
    area.resize(size);
    send(MessageKind::kGetInflightFd, area);
    const auto answer = reply(MessageKind::kGetInflightFd);
    ASSERT_EQ(answer.size(), size) << "as it was asked";
    EXPECT_EQ(load_le<uint64_t>(answer.data()), 2 * SplitTracker::region_bytes(128));
  }
  for (const auto& [queues, places] : {std::pair{0, 128}, {257, 128}, {1, 0}, {1, 65535}}) {
    const InflightArea area{.size = 0,
                            .offset = 0,
                            .queues = static_cast<uint16_t>(queues),
                            .queue_size = static_cast<uint16_t>(places),
                            .padding = 0};
    EXPECT_NE(complaint(MessageKind::kGetInflightFd, pack(area)), "") << queues << ", " << places;
  }
}

TEST_F(SessionTest, RefusesMemoryForWhatIsInFlightThatIsTooSmall) {
  const InflightArea area{.size = 64, .offset = 0, .queues = 1, .queue_size = 128, .padding = 0};
  EXPECT_NE(complaint(MessageKind::kSetInflightFd, pack(area), {guest_.fd()}), "");
  InflightArea odd{.size = 4096, .offset = 4, .queues = 1, .queue_size = 8, .padding = 0};
  EXPECT_NE(complaint(MessageKind::kSetInflightFd, pack(odd), {guest_.fd()}), "");
  odd.offset = Guest::kSize;
  EXPECT_NE(complaint(MessageKind::kSetInflightFd, pack(odd), {guest_.fd()}), "");
  EXPECT_NE(complaint(MessageKind::kSetInflightFd, pack(area)), "");
}

TEST_F(SessionTest, TellsOfAChangedConfigurationWhoWantsToHear) {
  session_->announce_config_change();
  std::array<int, 2> ends{-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const io::Fd ours(ends[0]);
  const io::Fd theirs(ends[1]);
  agree();
  send(MessageKind::kSetBackendReqFd, {}, {theirs.get()});
  EXPECT_EQ(ask(MessageKind::kGetQueueNum), 2u);
  session_->announce_config_change();
  MessageHeader header{};
  ASSERT_EQ(recv(ours.get(), &header, sizeof header, MSG_DONTWAIT), ssize_t{sizeof header});
  EXPECT_EQ(header.kind, kBackendConfigChange);
  EXPECT_EQ(header.size, 0u);
  // Nobody reads, and nobody is held up.
  for (int i = 0; i < 100000; ++i) {
    session_->announce_config_change();
  }
}

TEST_F(SessionTest, AnswersWhenTheLogIsThere) {
  agree();
  send(MessageKind::kSetLogBase, pack(LogArea{.size = 4096, .offset = 0}), {guest_.fd()});
  EXPECT_EQ(number(MessageKind::kSetLogBase), 0u);
  EXPECT_NE(complaint(MessageKind::kSetLogBase, pack(LogArea{.size = Guest::kSize, .offset = 1}),
                      {guest_.fd()}),
            "");
}

TEST_F(SessionTest, BeginsAnewAfterAReset) {
  start();
  request_read(0);
  ASSERT_TRUE(until([this] { return guest_.used_index() == 1; }));
  send(MessageKind::kSetStatus, pack(uint64_t{4}));
  EXPECT_EQ(ask(MessageKind::kGetStatus), 4u);
  send(MessageKind::kResetDevice);
  EXPECT_EQ(ask(MessageKind::kGetStatus), 0u);
  request_read(2);
  for (int i = 0; i < 20; ++i) {
    run(pause());
  }
  EXPECT_EQ(guest_.used_index(), 1);
}

}  // namespace
}  // namespace cairn::vhost_user
