#include "tests/exports/nbd/harness.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>

#include "io/cancel.h"
#include "io/timer.h"
#include "schema/types_block_export.h"
#include "schema/types_block_options.h"
#include "tests/io/export_thread.h"

namespace cairn::testing {
namespace {

std::unique_ptr<io::Reactor> make_reactor() {
  const char* const wanted = std::getenv("CAIRN_IO");
  const auto kind = io::parse_backend_kind(wanted != nullptr ? wanted : "auto");
  auto reactor = io::Reactor::create(*kind);
  EXPECT_TRUE(reactor.has_value());
  return std::move(*reactor);
}

std::string make_folder() {
  std::string name = "/tmp/cairn-nbd-XXXXXX";
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  return name;
}

}  // namespace

NbdHarness::NbdHarness(std::size_t disk_size)
    : reactor_(make_reactor()),
      thread_(io::make_export_thread()),
      disk_(disk_size),
      graph_(drivers_),
      registry_(graph_),
      server_(registry_),
      folder_(make_folder()),
      socket_path_(folder_ + "/nbd.sock") {
  drivers_.add(memory_driver_info(disk_));
  drivers_.add(zero_driver_info());
  registry_.add_type(server_);
  registry_.set_find_thread([this](const std::string&) -> Result<exports::Thread> {
    return exports::Thread(thread_, &thread_->reactor());
  });
  registry_.set_on_deleted([this](const std::string& id) { deleted_.push_back(id); });
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kNullCo;
  options.node_name = "disk";
  options.discard = schema::BlockdevDiscardOptions::kUnmap;
  EXPECT_TRUE(reactor_->block_on(graph_.add_monitor_node(options)).has_value());
  options.driver = schema::BlockdevDriver::kNullAio;
  options.node_name = "zeroes";
  EXPECT_TRUE(reactor_->block_on(graph_.add_monitor_node(options)).has_value());
}

NbdHarness::~NbdHarness() {
  disk_.open_gate.set();
  if (server_.running()) {
    EXPECT_TRUE(stop().has_value());
  }
  reactor_->block_on(registry_.remove_all());
  EXPECT_TRUE(reactor_->block_on(graph_.close_all()).has_value());
  rmdir(folder_.c_str());
}

void NbdHarness::start(uint32_t max_connections, uint32_t handshake_seconds) {
  nbd::ServerOptions options{.address = io::SocketAddress::unix_path(socket_path_),
                             .max_connections = max_connections,
                             .handshake_max_seconds = handshake_seconds};
  const auto started = reactor_->block_on(server_.start(std::move(options)));
  ASSERT_TRUE(started.has_value()) << started.error().message();
}

Result<void> NbdHarness::add(std::string name, bool writable, std::string description,
                             std::string node) {
  schema::BlockExportOptions options;
  options.type = schema::BlockExportType::kNbd;
  options.id = name;
  options.node_name = std::move(node);
  options.writable = writable;
  schema::BlockExportOptionsNbd own;
  own.name = std::move(name);
  own.description = std::move(description);
  options.branch = std::move(own);
  if (thread_ != nullptr) {
    options.iothread = "thread";
  }
  return reactor_->block_on(registry_.add(options));
}

void NbdHarness::turn() {
  io::CancelSource unused;
  const io::Deadline deadline(unused, std::chrono::milliseconds(2));
  reactor_->run_once();
}

NbdClient::NbdClient(NbdHarness& harness)
    : harness_(harness), fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, harness.socket_path().c_str(), sizeof address.sun_path - 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  EXPECT_EQ(connect(fd_.get(), generic, sizeof address), 0);
}

void NbdClient::send(std::string_view bytes) {
  const bool sent = harness_.until([&] {
    const ssize_t count =
        ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) {
      return errno != EAGAIN;  // gone: the test sees it when it receives
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
    return bytes.empty();
  });
  EXPECT_TRUE(sent) << "the server does not take what is sent";
}

std::string NbdClient::receive(std::size_t count) {
  std::string out(count, '\0');
  std::size_t filled = 0;
  const bool done = count == 0 || harness_.until([&] {
    const ssize_t got = recv(fd_.get(), out.data() + filled, count - filled, MSG_DONTWAIT);
    if (got <= 0) {
      return got == 0 || errno != EAGAIN;
    }
    filled += static_cast<std::size_t>(got);
    return filled == count;
  });
  EXPECT_TRUE(done) << "the server does not answer";
  out.resize(filled);
  return out;
}

bool NbdClient::sees_end() { return receive(1).empty(); }

void NbdClient::shut_down_writing() { shutdown(fd_.get(), SHUT_WR); }

void NbdClient::shrink_receive_buffer() {
  const int size = 4096;
  EXPECT_EQ(setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

std::string NbdClient::greet(uint32_t flags) {
  std::string greeting = receive(18);
  send(wire(flags));
  return greeting;
}

void NbdClient::send_option(uint32_t option, std::string_view data) {
  std::string message = wire(nbd::kOptionMagic, option, static_cast<uint32_t>(data.size()));
  message += data;
  send(message);
}

std::vector<OptionAnswer> NbdClient::option(uint32_t option, std::string_view data) {
  send_option(option, data);
  std::vector<OptionAnswer> answers;
  do {
    const std::string header = receive(20);
    if (header.size() < 20) {
      return answers;
    }
    WireReader reader(header);
    EXPECT_EQ(reader.take<uint64_t>(), nbd::kOptionReplyMagic);
    EXPECT_EQ(reader.take<uint32_t>(), option);
    OptionAnswer answer{.type = reader.take<uint32_t>()};
    answer.data = receive(reader.take<uint32_t>());
    answers.push_back(std::move(answer));
  } while (answers.back().type > 1 && answers.back().type < 0x80000000);
  return answers;
}

bool NbdClient::go(std::string_view name, bool structured, bool contexts) {
  greet();
  if (structured) {
    EXPECT_EQ(option(8).back().type, 1U);
  }
  const std::string counted = wire(static_cast<uint32_t>(name.size())) + std::string(name);
  if (contexts) {
    const std::string query = "base:allocation";
    EXPECT_EQ(option(10, counted + wire(uint32_t{1}, static_cast<uint32_t>(query.size())) + query)
                  .back()
                  .type,
              1U);
  }
  const auto answers = option(7, counted + wire(uint16_t{0}));
  return !answers.empty() && answers.back().type == 1;
}

void NbdClient::request(nbd::Command command, uint64_t offset, uint32_t length, uint16_t flags,
                        uint64_t cookie, std::string_view payload) {
  std::string message =
      wire(nbd::kRequestMagic, flags, static_cast<uint16_t>(command), cookie, offset, length);
  message += payload;
  send(message);
}

Reply NbdClient::reply(std::size_t data_length) {
  Reply reply;
  WireReader magic(receive(4) + std::string(4, '\0'));
  if (magic.take<uint32_t>() == nbd::kSimpleReplyMagic) {
    WireReader rest(receive(12) + std::string(12, '\0'));
    reply.error = rest.take<uint32_t>();
    reply.cookie = rest.take<uint64_t>();
    if (reply.error == 0) {
      reply.payload = receive(data_length);
    }
    return reply;
  }
  reply.structured = true;
  WireReader rest(receive(16) + std::string(16, '\0'));
  reply.chunk_flags = rest.take<uint16_t>();
  reply.chunk_type = rest.take<uint16_t>();
  reply.cookie = rest.take<uint64_t>();
  reply.payload = receive(rest.take<uint32_t>());
  if ((reply.chunk_type & 0x8000) != 0) {
    reply.error = WireReader(reply.payload).take<uint32_t>();
  }
  return reply;
}

Reply NbdClient::ask(nbd::Command command, uint64_t offset, uint32_t length, uint16_t flags,
                     std::string_view payload) {
  request(command, offset, length, flags, 7, payload);
  return reply(command == nbd::Command::kRead ? length : 0);
}

}  // namespace cairn::testing
