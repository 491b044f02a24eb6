#include "exports/vhost_user/message_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "io/operation.h"

namespace cairn::vhost_user {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(kMostDescriptors * sizeof(int));

// Takes over what came along with some bytes. False: there was more than there may be.
bool take_descriptors(const msghdr& message, std::vector<io::Fd>& descriptors) {
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
       head = CMSG_NXTHDR(const_cast<msghdr*>(&message), head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(head) + i * sizeof number, sizeof number);
      descriptors.emplace_back(number);
    }
  }
  return (message.msg_flags & MSG_CTRUNC) == 0 && descriptors.size() <= kMostDescriptors;
}

io::Task<Result<void>> wait_until(int fd, uint32_t events, io::CancelToken token) {
  const io::OperationRequest request{
      .kind = io::OperationRequest::Kind::kPoll, .fd = fd, .flags = events};
  io::OperationAwaiter poll(request, token);
  const int64_t ready = co_await poll;
  if (ready < 0) {
    co_return std::unexpected(Error::from_errno(static_cast<int>(-ready)));
  }
  co_return Result<void>();
}

}  // namespace

io::Task<Result<bool>> MessageSocket::fill(std::span<std::byte> bytes,
                                           std::vector<io::Fd>& descriptors,
                                           io::CancelToken token) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  bool begun = false;
  while (!bytes.empty()) {
    iovec place{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(stream_.fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0) {
      if (!take_descriptors(message, descriptors)) {
        co_return fail(EPROTO, "a message brings too many descriptors");
      }
      begun = true;
      bytes = bytes.subspan(static_cast<std::size_t>(got));
      continue;
    }
    if (got == 0) {
      co_return begun ? fail(EPROTO, "the connection ended within a message") : Result<bool>(false);
    }
    if (errno == EINTR) {
      continue;
    }
    if (errno != EAGAIN) {
      co_return std::unexpected(Error::from_errno(errno));
    }
    auto waiting = wait_until(stream_.fd(), POLLIN, token);
    auto readable = co_await std::move(waiting);
    if (!readable) {
      co_return pass(readable);
    }
  }
  co_return true;
}

io::Task<Result<std::optional<Message>>> MessageSocket::receive(io::CancelToken token) {
  Message message;
  MessageHeader header;
  auto reading = fill(std::as_writable_bytes(std::span(&header, 1)), message.descriptors, token);
  auto there = co_await std::move(reading);
  if (!there) {
    co_return pass(there);
  }
  if (!*there) {
    co_return std::nullopt;
  }
  if ((header.flags & kVersionMask) != kVersion) {
    co_return fail(EPROTO, "message {} has the flags {:#x} of another version of the protocol",
                   header.kind, header.flags);
  }
  if (header.size > kLargestPayload) {
    co_return fail(EPROTO, "message {} claims to have {} bytes", header.kind, header.size);
  }
  message.kind = static_cast<MessageKind>(header.kind);
  message.wants_reply = (header.flags & kNeedReplyFlag) != 0;
  message.payload.resize(header.size);
  auto rest = fill(message.payload, message.descriptors, token);
  auto complete = co_await std::move(rest);
  if (!complete) {
    co_return pass(complete);
  }
  if (!*complete) {
    co_return fail(EPROTO, "the connection ended within a message");
  }
  co_return std::optional(std::move(message));
}

io::Task<Result<void>> MessageSocket::reply(MessageKind kind, std::vector<std::byte> body,
                                            io::CancelToken token, int descriptor) {
  MessageHeader header{.kind = static_cast<uint32_t>(kind),
                       .flags = kVersion | kReplyFlag,
                       .size = static_cast<uint32_t>(body.size())};
  std::vector<std::byte> bytes(sizeof header + body.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::ranges::copy(body, bytes.begin() + sizeof header);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    iovec rest{bytes.data() + sent, bytes.size() - sent};
    msghdr message{};
    message.msg_iov = &rest;
    message.msg_iovlen = 1;
    if (descriptor >= 0 && sent == 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof descriptor);
      std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    }
    const ssize_t went = sendmsg(stream_.fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (went >= 0) {
      sent += static_cast<std::size_t>(went);
      continue;
    }
    if (errno == EINTR) {
      continue;
    }
    if (errno != EAGAIN) {
      co_return std::unexpected(Error::from_errno(errno));
    }
    auto waiting = wait_until(stream_.fd(), POLLOUT, token);
    auto writable = co_await std::move(waiting);
    if (!writable) {
      co_return writable;
    }
  }
  co_return Result<void>();
}

}  // namespace cairn::vhost_user
