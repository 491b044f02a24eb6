// Fuzzes the client's side of a connection: the input decides what a server says, from the greeting
// to the replies to a few requests.
//
// The input is a list of records. Most become messages with right magic numbers and fields that
// come near to what the client expects; some go out as raw bytes. Whatever it was, the client must
// come to an end by itself, and a request that succeeded must have had a complete answer.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "io/task_group.h"
#include "protocols/nbd/connection.h"
#include "protocols/nbd/negotiation.h"
#include "tests/fuzz/input.h"
#include "tests/protocols/nbd/scripted_server.h"

namespace {

using namespace cairn;               // NOLINT(google-build-using-namespace): a program of one page
using namespace cairn::nbd::client;  // NOLINT(google-build-using-namespace)
using testing::big;
using testing::Input;

// Fits into the socket at once, so that nobody has to wait for the other.
constexpr std::size_t kMaxSaid = 100'000;

std::string option_reply(Input& input, uint32_t control) {
  constexpr std::array<uint32_t, 8> kOptions = {11, 8, 10, 7, 3, 9, 6, 5};
  const uint32_t option = kOptions[control & 7];
  uint32_t type = 1;
  std::string payload;
  switch (control >> 3 & 7) {
    case 0:
      break;  // an ACK
    case 1:
      type = 3;
      payload = big(uint16_t{0}) + big(uint64_t{input.number(3)} << 6) +
                big(static_cast<uint16_t>(input.number(2) | 1));
      break;
    case 2:
      type = 3;
      payload = big(uint16_t{3}) + big(uint32_t{1} << (input.number(1) & 31)) +
                big(uint32_t{1} << (input.number(1) & 31)) + big(input.number(4));
      break;
    case 3:
      type = 4;
      payload = big(input.number(1)) + "base:allocation";
      break;
    case 4:
      type = 2;
      payload = big(input.number(1)) + input.text(4);
      break;
    case 5:
      type = 0x80000000U | (input.number(1) & 15);
      payload = input.text(3);
      break;
    default:
      type = input.number(1);
      payload = input.text(input.number(1));
      break;
  }
  return big(nbd::kOptionReplyMagic) + big(option) + big(type) +
         big(static_cast<uint32_t>(payload.size())) + payload;
}

std::string reply(Input& input, uint32_t control) {
  constexpr std::array<uint16_t, 8> kTypes = {0, 1, 2, 5, 6, 0x8001, 0x8002, 9};
  const uint32_t slot = input.number(1) & 7;
  const uint64_t cookie = uint64_t{slot + 1} * 64 + slot;
  if ((control & 1) != 0) {
    return big(nbd::kSimpleReplyMagic) + big(input.number(1)) + big(cookie) +
           std::string((control & 2) != 0 ? 4096 : 0, 'x');
  }
  const uint16_t type = kTypes[control >> 1 & 7];
  std::string payload;
  if (type == 1 || type == 2) {
    const uint32_t length = input.number(2);
    payload = big(uint64_t{input.number(2)});
    payload += type == 1 ? std::string(length, 'x') : big(length);
  } else if (type == 5 || type == 6) {
    payload = big(input.number(1));
    payload += type == 6 ? big(input.number(1)) : "";
    payload += input.text(input.number(1));
  } else if ((type & 0x8000) != 0) {
    payload = big(input.number(1)) + big(static_cast<uint16_t>(input.number(1)));
    payload += input.text(input.number(1));
  } else {
    payload = input.text(input.number(1) & 15);
  }
  const auto flags = static_cast<uint16_t>(input.number(1) & 1);
  const bool extended = (control & 16) != 0;
  return big(extended ? nbd::kExtendedReplyMagic : nbd::kStructuredReplyMagic) + big(flags) +
         big(type) + big(cookie) + (extended ? big(uint64_t{0}) : "") +
         (extended ? big(uint64_t{payload.size()}) : big(static_cast<uint32_t>(payload.size()))) +
         payload;
}

std::string said(Input& input) {
  std::string out;
  const uint32_t start = input.number(1);
  if (start != 0) {
    out = big(nbd::kInitMagic) + big(nbd::kOptionMagic) + big(static_cast<uint16_t>(start & 3));
  }
  while (!input.empty() && out.size() < kMaxSaid) {
    const uint32_t control = input.number(1);
    if (control >= 0xf0) {
      out += input.text(control & 0x0f);
    } else if (control >= 0x80) {
      out += reply(input, control);
    } else {
      out += option_reply(input, control);
    }
  }
  return out.substr(0, kMaxSaid);
}

void require(bool good) {
  if (!good) {
    std::abort();
  }
}

io::Task<void> ask(Connection& connection, nbd::Command command, uint64_t length) {
  std::vector<std::byte> memory(length);
  Exchange exchange(command, 0, length);
  if (command == nbd::Command::kRead || command == nbd::Command::kWrite) {
    exchange.data = io::IoVector(std::span(memory));
  }
  auto running = connection.run(exchange);
  co_await std::move(running);
  const bool good = !exchange.lost && exchange.error == 0;
  require(!good || command != nbd::Command::kRead || exchange.coverage.complete(length));
  require(!good || command != nbd::Command::kBlockStatus || exchange.extent_length != 0);
}

io::Task<void> talk(io::Stream stream, bool list) {
  Negotiation negotiation(stream);
  auto greeting = negotiation.greet();
  const Result<void> greeted = co_await std::move(greeting);
  if (!greeted) {
    co_return;
  }
  if (list) {
    auto listing = negotiation.list();
    [[maybe_unused]] const auto listed = co_await std::move(listing);
    co_return;
  }
  auto choosing = negotiation.go("disk", "base:allocation");
  auto info = co_await std::move(choosing);
  if (!info) {
    co_return;
  }
  const bool status = info->context.has_value();
  Connection connection(std::move(stream), std::move(*info));
  io::TaskGroup group;
  group.spawn(ask(connection, nbd::Command::kRead, 4096));
  group.spawn(ask(connection, nbd::Command::kWrite, 100));
  group.spawn(ask(connection, nbd::Command::kRead, 512));
  group.spawn(ask(connection, nbd::Command::kFlush, 0));
  if (status) {
    group.spawn(ask(connection, nbd::Command::kBlockStatus, 65536));
  }
  co_await group.join();
  auto closing = connection.close();
  co_await std::move(closing);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<io::Reactor> reactor =
      std::move(*io::Reactor::create(io::BackendKind::kEpoll));
  Input input(data, size);
  const bool list = (input.number(1) & 7) == 7;
  const std::string bytes = said(input);
  auto pair = io::Stream::pair();
  require(pair.has_value());
  const io::Stream server = std::move(pair->first);
  const int room = 1 << 20;
  setsockopt(server.fd(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  require(send(server.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT) ==
          static_cast<ssize_t>(bytes.size()));
  server.shutdown(SHUT_WR);
  reactor->block_on(talk(std::move(pair->second), list));
  return 0;
}
