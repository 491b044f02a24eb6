// Fuzzes the conversation with a front-end: the input is a list of messages, most with a right
// header, which bring memory, events, a socket or nothing. Notifications come in between. In the
// end the session must end by itself and leave nothing behind.
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "block/graph.h"
#include "exports/vhost_user/session.h"
#include "io/reactor.h"
#include "io/timer.h"
#include "schema/types_block_options.h"
#include "tests/exports/nbd/memory_driver.h"
#include "tests/exports/vhost_user/guest.h"
#include "tests/fuzz/input.h"

namespace {

using namespace cairn::vhost_user;  // NOLINT(google-build-using-namespace): a program of one page
namespace block = cairn::block;
namespace io = cairn::io;
namespace schema = cairn::schema;
using cairn::Result;
using cairn::testing::MemoryDisk;

using cairn::testing::Input;

constexpr std::size_t kDiskSize = 65536;

struct World {
  World()
      : reactor(*io::Reactor::create(io::BackendKind::kEpoll)), disk(kDiskSize), graph(drivers) {
    drivers.add(cairn::testing::memory_driver_info(disk));
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kNullCo;
    options.branch.emplace<schema::BlockdevOptionsNull>();
    auto node = reactor->block_on(graph.open(options));
    using P = block::PermissionSet;
    root = std::move(*graph.attach(std::move(*node), "",
                                   {.used = P::kConsistentRead | P::kWrite, .shared = P::all()}));
    device = std::make_unique<BlockDevice>(*root, DeviceSettings{.writable = true, .queues = 2});
  }
  std::unique_ptr<io::Reactor> reactor;
  MemoryDisk disk;
  block::DriverTable drivers;
  block::Graph graph;
  std::unique_ptr<block::Edge> root;
  std::unique_ptr<BlockDevice> device;
};

io::Task<void> turn() { co_await io::yield_now(); }

io::Task<void> serve(Session& session, bool& over) {
  const Result<void> ended = co_await session.run();
  static_cast<void>(ended);
  over = true;
}

void send(int socket, const std::string& bytes, int descriptor) {
  iovec place{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  static_cast<void>(sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

// A payload that makes sense now and then: numbers near what the guest has.
std::string payload(Input& input) {
  std::string bytes;
  const uint32_t words = input.number(1) % 9;
  for (uint32_t i = 0; i < words; ++i) {
    const uint32_t how = input.number(1);
    uint64_t value = how & 0x3f;
    if ((how & 0xc0) == 0x40) {
      value = Guest::kUser + value * 4096;
    } else if ((how & 0xc0) == 0x80) {
      value = Guest::kBase + value * 4096;
    } else if ((how & 0xc0) == 0xc0) {
      value = uint64_t{1} << value;
    }
    bytes.append(reinterpret_cast<const char*>(&value), (how & 0x20) != 0 ? 4 : 8);
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  static Guest guest;
  Input input(data, size);
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    std::abort();
  }
  io::Fd client(ends[0]);
  const io::Fd event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const std::string ring = input.text(128);
  std::memcpy(guest.at(0), ring.data(), ring.size());
  const std::string indices = input.text(24);
  std::memcpy(guest.at(Guest::kAvailable), indices.data(), indices.size());

  bool over = false;
  Session session(io::Stream(io::Fd(ends[1])), *world.device);
  io::TaskGroup tasks;
  tasks.spawn(serve(session, over));
  for (int count = 0; !input.empty() && !over && count < 64; ++count) {
    const uint32_t kind = input.number(1);
    if (kind >= 0xf0) {
      send(client.get(), input.text(kind & 0xf), -1);
    } else {
      const std::string body = payload(input);
      const std::array header{kind % 48, kVersion | (kind & 0x40) >> 3,
                              static_cast<uint32_t>(body.size())};
      const std::array descriptors{-1, guest.fd(), event.get(), client.get()};
      send(client.get(),
           std::string(reinterpret_cast<const char*>(header.data()), sizeof header) + body,
           descriptors[input.number(1) % descriptors.size()]);
    }
    eventfd_write(event.get(), 1);
    for (int i = 0; i < 4; ++i) {
      world.reactor->block_on(turn());
    }
  }
  client.reset();
  for (int i = 0; !over && i < 1000; ++i) {
    world.reactor->block_on(turn());
  }
  session.stop();
  world.reactor->block_on(tasks.join());
  return 0;
}
