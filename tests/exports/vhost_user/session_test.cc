// A conversation, message by message, with front-ends that keep to the protocol and others.
#include "exports/vhost_user/session.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "io/timer.h"
#include "tests/exports/vhost_user/device_test.h"
#include "tests/exports/vhost_user/guest.h"

namespace cairn::vhost_user {
namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  }
  return count;
}

class SessionTest : public DeviceTest {
 protected:
  static constexpr auto kPatience = std::chrono::seconds(10);

  void SetUp() override {
    DeviceTest::SetUp();
    if (device_ != nullptr) {
      connect();
    }
  }
  void TearDown() override {
    if (session_ != nullptr) {
      session_->stop();
      run(tasks_.join());
    }
    session_.reset();
    DeviceTest::TearDown();
  }

  void connect() {
    std::array<int, 2> ends{-1, -1};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    client_.reset(ends[0]);
    session_ = std::make_unique<Session>(io::Stream(io::Fd(ends[1])), *device_);
    ended_.reset();
    tasks_.spawn(serve());
  }
  io::Task<void> serve() {
    Result<void> result = co_await session_->run();
    ended_ = std::move(result);
  }
  static io::Task<void> pause() { (void)co_await io::sleep_for(std::chrono::milliseconds(1)); }

  template <typename Done>
  bool until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) {
        return false;
      }
      run(pause());
    }
    return true;
  }

  void send_bytes(const void* bytes, std::size_t size, const std::vector<int>& descriptors = {}) {
    iovec place{const_cast<void*>(bytes), size};
    msghdr message{};
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    std::vector<std::byte> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
      std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size() * sizeof(int));
    }
    ASSERT_EQ(sendmsg(client_.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(size));
  }
  void send(MessageKind kind, const std::vector<std::byte>& payload = {},
            const std::vector<int>& descriptors = {}, uint32_t flags = kVersion) {
    const MessageHeader header{static_cast<uint32_t>(kind), flags,
                               static_cast<uint32_t>(payload.size())};
    std::vector<std::byte> bytes(sizeof header + payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    std::ranges::copy(payload, bytes.begin() + sizeof header);
    send_bytes(bytes.data(), bytes.size(), descriptors);
  }
  template <typename... T>
  static std::vector<std::byte> pack(T... values) {
    std::vector<std::byte> bytes;
    const auto put = [&bytes](auto value) {
      const auto* begin = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), begin, begin + sizeof value);
    };
    (put(values), ...);
    return bytes;
  }
  std::vector<std::byte> receive(std::size_t size) {
    std::vector<std::byte> bytes;
    EXPECT_TRUE(until([&] {
      std::array<std::byte, 4096> some;
      const ssize_t got = recv(client_.get(), some.data(), size - bytes.size(), MSG_DONTWAIT);
      if (got > 0) {
        bytes.insert(bytes.end(), some.begin(), some.begin() + got);
      }
      return got == 0 || bytes.size() == size;
    }));
    return bytes;
  }
  // The payload of the next reply.
  std::vector<std::byte> reply(MessageKind kind) {
    const auto head = receive(sizeof(MessageHeader));
    MessageHeader header{};
    if (head.size() == sizeof header) {
      std::memcpy(&header, head.data(), sizeof header);
    }
    EXPECT_EQ(header.kind, static_cast<uint32_t>(kind));
    EXPECT_EQ(header.flags, kVersion | kReplyFlag);
    return header.size == 0 ? std::vector<std::byte>() : receive(header.size);
  }
  uint64_t number(MessageKind kind) {
    const auto body = reply(kind);
    EXPECT_EQ(body.size(), 8u);
    return body.size() == 8 ? load_le<uint64_t>(body.data()) : 0;
  }
  uint64_t ask(MessageKind kind) {
    send(kind);
    return number(kind);
  }
  // Why the session ended; empty: without anybody's fault.
  std::string end() {
    EXPECT_TRUE(until([this] { return ended_.has_value(); }));
    return !ended_ || *ended_ ? "" : ended_->error().message();
  }
  // What is said of a client that begins with this message.
  std::string complaint(MessageKind kind, const std::vector<std::byte>& payload = {},
                        const std::vector<int>& descriptors = {}) {
    if (ended_) {
      connect();
    }
    send(kind, payload, descriptors);
    return end();
  }

  void agree(uint64_t features = 0) {
    send(MessageKind::kSetProtocolFeatures, pack(ask(MessageKind::kGetProtocolFeatures)));
    send(MessageKind::kSetOwner);
    send(MessageKind::kSetFeatures,
         pack(features | bit(kFeatureProtocol) | bit(kFeatureVersion1) | bit(VIRTIO_BLK_F_FLUSH)));
  }
  void set_up_queue(uint32_t index = 0) {
    send(MessageKind::kSetVringNum, pack(index, uint32_t{Guest::kPlaces}));
    send(MessageKind::kSetVringBase, pack(index, uint32_t{0}));
    send(MessageKind::kSetVringAddr,
         pack(index, uint32_t{0}, Guest::kUser + Guest::kDescriptors, Guest::kUser + Guest::kUsed,
              Guest::kUser + Guest::kAvailable, uint64_t{0}));
    send(MessageKind::kSetVringCall, pack(uint64_t{index}), {call_.get()});
    send(MessageKind::kSetVringErr, pack(uint64_t{index}), {error_.get()});
    send(MessageKind::kSetVringKick, pack(uint64_t{index}), {kick_.get()});
    send(MessageKind::kSetVringEnable, pack(index, uint32_t{1}));
  }
  void share() {
    send(MessageKind::kSetMemTable, pack(uint32_t{1}, uint32_t{0}, Guest::region()), {guest_.fd()});
  }
  void start() {
    agree();
    share();
    set_up_queue();
  }
  // A read of 512 bytes by the descriptors from `head` on.
  void request_read(uint16_t head, uint64_t sector = 0) {
    const uint64_t at = Guest::kFree + uint64_t{4096} * head;
    store_le(guest_.at(at), uint32_t{VIRTIO_BLK_T_IN});
    store_le(guest_.at(at + 8), sector);
    *guest_.at(at + 16 + 512) = std::byte{0xee};
    guest_.describe(0, head, Guest::kBase + at, 16, kDescriptorNext, head + 1);
    guest_.describe(0, head + 1, Guest::kBase + at + 16, 513, kDescriptorWrite);
    guest_.make_available(head);
    notify();
  }
  void notify() { ASSERT_EQ(eventfd_write(kick_.get(), 1), 0); }
  bool signalled(const io::Fd& event) {
    eventfd_t count = 0;
    return eventfd_read(event.get(), &count) == 0;
  }

  io::Fd client_;
  std::unique_ptr<Session> session_;
  std::optional<Result<void>> ended_;
  io::TaskGroup tasks_;
  Guest guest_;
  io::Fd kick_{eventfd(0, EFD_NONBLOCK)};
  io::Fd call_{eventfd(0, EFD_NONBLOCK)};
  io::Fd error_{eventfd(0, EFD_NONBLOCK)};
};

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
