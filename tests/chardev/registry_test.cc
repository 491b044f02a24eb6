// Registry: devices that come, change and go, sockets above all.
#include "chardev/registry.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "io/event.h"
#include "io/reactor.h"
#include "io/socket.h"

namespace cairn::chardev {
namespace {

using BackendKind = schema::ChardevBackendKind;

// Waits for the end of each client.
class Listening final : public Frontend {
 public:
  [[nodiscard]] io::Task<void> serve(Connection& connection, io::CancelToken token) override {
    ++clients;
    came.set();
    std::array<std::byte, 16> buffer;
    Result<size_t> count = 1;
    while (count && *count != 0) {
      count = co_await connection.read_some(buffer, token);
    }
    gone.set();
  }
  int clients = 0;
  io::Event came;
  io::Event gone;
};

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    const char* wanted = std::getenv("CAIRN_IO");
    auto kind = io::parse_backend_kind(wanted ? wanted : "auto");
    reactor_ = std::move(*io::Reactor::create(*kind));
    std::string name = (std::filesystem::temp_directory_path() / "cairn-chardev-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }

 public:
  ~RegistryTest() override {
    reactor_->block_on(registry_.stop());
    std::filesystem::remove_all(folder_);
  }

 protected:
  [[nodiscard]] std::string path(std::string_view name) const { return (folder_ / name).string(); }

  [[nodiscard]] schema::ChardevBackend unix_socket(std::string_view name) const {
    schema::ChardevSocketWrapper wrapper;
    wrapper.data.addr.type = schema::SocketAddressType::kUnix;
    wrapper.data.addr.branch = schema::UnixSocketAddressWrapper{.data = {.path = path(name)}};
    schema::ChardevBackend backend;
    backend.type = BackendKind::kSocket;
    backend.branch = std::move(wrapper);
    return backend;
  }
  static schema::ChardevSocket& socket_of(schema::ChardevBackend& backend) {
    return std::get<schema::ChardevSocketWrapper>(backend.branch).data;
  }
  static schema::ChardevBackend null_backend() {
    schema::ChardevBackend backend;
    backend.type = BackendKind::kNull;
    backend.branch = schema::ChardevCommonWrapper{};
    return backend;
  }

  // The device, or what was wrong.
  std::string add(const std::string& id, const schema::ChardevBackend& backend) {
    const auto device = reactor_->block_on(registry_.add(id, backend));
    return device ? (*device)->filename() : device.error().message();
  }
  std::string remove(const std::string& id) {
    const auto removed = reactor_->block_on(registry_.remove(id));
    return removed ? "" : removed.error().message();
  }
  std::string change(const std::string& id, const schema::ChardevBackend& backend) {
    const auto device = reactor_->block_on(registry_.change(id, backend));
    return device ? (*device)->filename() : device.error().message();
  }
  io::Stream connect(const std::string& where) {
    auto stream = reactor_->block_on(io::Stream::connect(io::SocketAddress::unix_path(where)));
    EXPECT_TRUE(stream.has_value());
    return std::move(*stream);
  }
  static io::Task<void> wait(io::Event& event) { co_await event.wait(); }

  std::unique_ptr<io::Reactor> reactor_;
  std::filesystem::path folder_;
  Listening frontend_;
  Registry registry_;
};

TEST_F(RegistryTest, KnowsDevicesById) {
  EXPECT_EQ(add("z", null_backend()), "null");
  EXPECT_EQ(reactor_->block_on(registry_.add("z", null_backend())).error().code(), EEXIST);
  EXPECT_NE(registry_.find("z"), nullptr);
  EXPECT_EQ(remove("z"), "");
  EXPECT_EQ(remove("z"), "Chardev 'z' not found");
  EXPECT_EQ(registry_.find("z"), nullptr);
}

TEST_F(RegistryTest, KeepsADeviceThatSomethingTalksThrough) {
  add("m", unix_socket("s"));
  registry_.find("m")->attach(frontend_);
  EXPECT_EQ(remove("m"), "Chardev 'm' is busy");
  EXPECT_EQ(change("m", null_backend()), "Chardev user does not support chardev hotswap");
}

TEST_F(RegistryTest, ChangesADeviceInItsPlace) {
  EXPECT_EQ(change("s", null_backend()), "Chardev 's' does not exist");
  add("s", unix_socket("s"));
  registry_.start();
  EXPECT_EQ(change("s", null_backend()), "null");
  EXPECT_FALSE(std::filesystem::exists(path("s")));
  // What can not be opened changes nothing.
  EXPECT_EQ(change("s", unix_socket("no/where")),
            "Failed to add chardev 's': Failed to bind socket to " + path("no/where") +
                ": No such file or directory");
  EXPECT_EQ(registry_.find("s")->filename(), "null");
}

TEST_F(RegistryTest, SocketServesOneClientAfterTheOther) {
  EXPECT_EQ(add("m", unix_socket("s")), "disconnected:unix:" + path("s") + ",server=on");
  registry_.find("m")->attach(frontend_);
  registry_.start();
  io::Stream first = connect(path("s"));
  reactor_->block_on(wait(frontend_.came));
  EXPECT_EQ(registry_.find("m")->filename(), "unix:" + path("s") + ",server=on");
  const io::Stream second = connect(path("s"));
  EXPECT_EQ(frontend_.clients, 1);
  frontend_.came.reset();
  first.close();
  reactor_->block_on(wait(frontend_.came));
  EXPECT_EQ(frontend_.clients, 2);
}

TEST_F(RegistryTest, SocketConnectsAndTellsWhenItCanNot) {
  auto backend = unix_socket("s");
  socket_of(backend).server = false;
  EXPECT_EQ(add("c", backend),
            "Failed to connect to '" + path("s") + "': No such file or directory");
  const auto listeners =
      reactor_->block_on(io::Listener::listen(io::SocketAddress::unix_path(path("s"))));
  EXPECT_EQ(add("c", backend), "disconnected:unix:" + path("s"));
  registry_.find("c")->attach(frontend_);
  registry_.start();
  auto stream = reactor_->block_on((*listeners)[0].accept());
  reactor_->block_on(wait(frontend_.came));
  EXPECT_EQ(registry_.find("c")->filename(), "unix:") << "a client has no name here";
}

TEST_F(RegistryTest, SocketReconnects) {
  auto backend = unix_socket("s");
  socket_of(backend).server = false;
  socket_of(backend).reconnect_ms = 1;
  EXPECT_EQ(add("c", backend), "disconnected:unix:" + path("s"));
  registry_.find("c")->attach(frontend_);
  registry_.start();
  const auto listeners =
      reactor_->block_on(io::Listener::listen(io::SocketAddress::unix_path(path("s"))));
  for (int i = 1; i <= 3; ++i) {
    frontend_.gone.reset();
    auto stream = reactor_->block_on((*listeners)[0].accept());
    ASSERT_TRUE(stream.has_value());
    stream->close();
    reactor_->block_on(wait(frontend_.gone));
    EXPECT_EQ(frontend_.clients, i);
  }
}

TEST_F(RegistryTest, SocketRefusesWhatContradictsItself) {
  auto backend = unix_socket("s");
  socket_of(backend).reconnect_ms = 5;
  EXPECT_EQ(add("s", backend),
            "'reconnect-ms' option is incompatible with socket in server listen mode");
  backend = unix_socket("s");
  socket_of(backend).tls_authz = "a";
  EXPECT_EQ(add("s", backend), "'tls_authz' option requires 'tls_creds' option");
  socket_of(backend).tls_creds = "t";
  EXPECT_EQ(add("s", backend), "'tls_creds' option is incompatible with 'unix' address type");
  backend = unix_socket("s");
  socket_of(backend).server = false;
  socket_of(backend).wait = true;
  EXPECT_EQ(add("s", backend), "'wait' option is incompatible with socket in client connect mode");
}

TEST_F(RegistryTest, OpeningThatWaitsIsGivenUpAtTheEnd) {
  auto backend = unix_socket("s");
  socket_of(backend).wait = true;
  registry_.give_up_opening();
  EXPECT_EQ(reactor_->block_on(registry_.add("s", backend)).error().code(), ECANCELED);
}

TEST_F(RegistryTest, StdioHasOneUser) {
  schema::ChardevBackend stdio;
  stdio.type = BackendKind::kStdio;
  stdio.branch = schema::ChardevStdioWrapper{};
  EXPECT_EQ(add("a", stdio), "stdio");
  EXPECT_EQ(add("b", stdio), "cannot use stdio by multiple character devices");
  EXPECT_EQ(remove("a"), "");
  registry_.forbid_stdio();
  EXPECT_EQ(add("b", stdio), "cannot use stdio with -daemonize");
}

}  // namespace
}  // namespace cairn::chardev
