#include "tests/protocols/nbd/scripted_server.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <gtest/gtest.h>

#include "base/nbd_protocol.h"

namespace cairn::testing {

namespace {

uint64_t number(std::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes) {
    value = value << 8 | static_cast<uint8_t>(byte);
  }
  return value;
}

}  // namespace

void Peer::send(std::string_view bytes) const {
  if (trickle_ && bytes.size() > 1) {
    for (const char& byte : bytes) {
      send(std::string_view(&byte, 1));
    }
    return;
  }
  // A client that has hung up is no failure: it may have had enough.
  static_cast<void>(::send(fd_, bytes.data(), std::min(bytes.size(), left_), MSG_NOSIGNAL));
  if (bytes.size() >= left_) {
    shutdown(fd_, SHUT_RDWR);
  }
  left_ -= std::min(bytes.size(), left_);
}

std::string Peer::receive(std::size_t count) const {
  if (count == 0) {  // which recv() would wait for, too
    return {};
  }
  std::string bytes(count, '\0');
  const ssize_t got = recv(fd_, bytes.data(), count, MSG_WAITALL);
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

void Peer::answer(uint32_t option, uint32_t type, std::string_view payload) const {
  send(big(nbd::kOptionReplyMagic) + big(option) + big(type) +
       big(static_cast<uint32_t>(payload.size())) + std::string(payload));
}

void Peer::handshake(const Offer& offer) {
  constexpr uint32_t kAck = 1;
  constexpr uint32_t kUnsupported = 0x80000001;
  extended_ = offer.extended;
  send(big(nbd::kInitMagic) + big(nbd::kOptionMagic) + big(uint16_t{3}));
  receive(4);
  for (;;) {
    const std::string header = receive(16);
    if (header.size() < 16) {
      return;
    }
    const auto option = static_cast<uint32_t>(number(std::string_view(header).substr(8, 4)));
    receive(number(std::string_view(header).substr(12)));
    switch (static_cast<nbd::Option>(option)) {
      case nbd::Option::kExtendedHeaders:
        answer(option, offer.extended ? kAck : kUnsupported);
        break;
      case nbd::Option::kStructuredReply:
        answer(option, offer.structured ? kAck : kUnsupported);
        break;
      case nbd::Option::kSetMetaContext:
        answer(option, 4, big(uint32_t{7}) + "base:allocation");
        answer(option, kAck);
        break;
      case nbd::Option::kGo:
        answer(option, 3, big(uint16_t{0}) + big(offer.size) + big(offer.flags));
        answer(
            option, 3,
            big(uint16_t{3}) + big(offer.min_block) + big(uint32_t{4096}) + big(offer.max_block));
        answer(option, kAck);
        return;
      default:
        answer(option, kUnsupported);
    }
  }
}

Peer::Request Peer::request() const {
  const std::size_t size = extended_ ? nbd::kExtendedRequestSize : nbd::kRequestSize;
  const std::string bytes = receive(size);
  Request request;
  if (bytes.size() == size) {
    const std::string_view view = bytes;
    request.flags = static_cast<uint16_t>(number(view.substr(4, 2)));
    request.command = static_cast<uint16_t>(number(view.substr(6, 2)));
    request.cookie = number(view.substr(8, 8));
    request.offset = number(view.substr(16, 8));
    request.length = number(view.substr(24));
    if (request.command == 1) {
      request.payload = receive(request.length);
    }
  }
  return request;
}

ScriptedServer::ScriptedServer(const std::string& path, std::function<void(Peer&)> script)
    : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(listener_.get(), 1), 0);
  thread_ = std::thread([this, script = std::move(script)] {
    const io::Fd client(accept(listener_.get(), nullptr, nullptr));
    Peer peer(client.get());
    script(peer);
  });
}

ScriptedServer::~ScriptedServer() {
  shutdown(listener_.get(), SHUT_RDWR);
  thread_.join();
}

}  // namespace cairn::testing
