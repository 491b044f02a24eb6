// SessionTest: a session with a device, and a front-end that says what it is told, byte by byte.
// All of it on one thread: while the front-end waits, the reactor turns.
#pragma once

#include <linux/virtio_blk.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exports/vhost_user/session.h"
#include "io/timer.h"
#include "tests/exports/vhost_user/device_test.h"
#include "tests/exports/vhost_user/guest.h"

namespace cairn::vhost_user {

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

}  // namespace cairn::vhost_user
