// Addresses, listeners and streams, on Unix sockets and TCP.
#include "io/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/cancel.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

class SocketTest : public ReactorTest {
 public:
  ~SocketTest() override { std::filesystem::remove_all(directory_); }

 protected:
  SocketTest() {
    std::string pattern = "/tmp/cairn-socket-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
};

Task<Listener> listen_or_fail(SocketAddress address) {
  auto listening = Listener::listen(std::move(address));
  auto listeners = co_await std::move(listening);
  EXPECT_TRUE(listeners.has_value()) << listeners.error().message();
  co_return listeners ? std::move(listeners->front()) : Listener();
}

Task<Stream> connect_or_fail(SocketAddress address) {
  auto connecting = Stream::connect(std::move(address));
  auto stream = co_await std::move(connecting);
  EXPECT_TRUE(stream.has_value()) << stream.error().message();
  co_return stream ? std::move(*stream) : Stream();
}

// Sends back what comes until the stream ends.
Task<void> echo(Stream& stream) {
  std::vector<std::byte> buffer(10000);
  for (;;) {
    auto read = stream.read_some(buffer);
    auto count = co_await read;
    EXPECT_TRUE(count.has_value());
    if (!count || *count == 0) {
      stream.shutdown(SHUT_WR);
      co_return;
    }
    auto writing = stream.write_all(IoVector(buffer.data(), *count));
    auto written = co_await std::move(writing);
    EXPECT_TRUE(written.has_value());
  }
}

Task<void> accept_and_echo(const Listener& listener) {
  auto accepting = listener.accept();
  auto stream = co_await std::move(accepting);
  EXPECT_TRUE(stream.has_value());
  auto echoing = echo(*stream);
  co_await std::move(echoing);
}

Task<void> send_pieces(const Stream& stream, std::vector<std::byte>& data) {
  // Thousands of segments, some of them empty, and more bytes than a socket buffers.
  std::vector<iovec> segments;
  std::size_t at = 0;
  for (std::size_t length = 0; at < data.size(); length = (length + 37) % 1000) {
    const std::size_t piece = std::min(length, data.size() - at);
    segments.push_back({.iov_base = data.data() + at, .iov_len = piece});
    at += piece;
  }
  EXPECT_GT(segments.size(), 2000U);
  auto writing = stream.write_all(segments);
  auto written = co_await std::move(writing);
  EXPECT_TRUE(written.has_value());
  stream.shutdown(SHUT_WR);
}

Task<void> round_trip(SocketAddress address) {
  auto listening = listen_or_fail(address);
  const Listener listener = co_await std::move(listening);
  const auto bound = listener.local_address();
  EXPECT_TRUE(bound.has_value());
  TaskGroup group;
  group.spawn(accept_and_echo(listener));
  auto connecting = connect_or_fail(*bound);
  const Stream stream = co_await std::move(connecting);
  std::vector<std::byte> data(2'000'000);
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<std::byte>(i * 31 + i / 4096);
  }
  group.spawn(send_pieces(stream, data));
  std::vector<std::byte> back(data.size());
  auto reading = stream.read_exact(back);
  auto read = co_await std::move(reading);
  EXPECT_TRUE(read.has_value());
  EXPECT_EQ(back, data);
  auto at_end = stream.read_exact(std::span(back).first(1));
  auto end = co_await std::move(at_end);
  EXPECT_EQ(end.error().code(), ECONNRESET);
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(SocketTest, CarriesDataOverUnixSockets) {
  run(round_trip(SocketAddress::unix_path(path("s"))));
  EXPECT_FALSE(std::filesystem::exists(path("s")));  // the listener removed it
}

TEST_F(SocketTest, CarriesDataOverAbstractUnixSockets) {
  SocketAddress address = SocketAddress::unix_path("cairn-test-" + std::to_string(getpid()));
  address.abstract = true;
  run(round_trip(address));
}

TEST_F(SocketTest, CarriesDataOverTcp) { run(round_trip(SocketAddress::inet("127.0.0.1", "0"))); }

Task<void> listen_on_localhost() {
  auto listening = Listener::listen(SocketAddress::inet("localhost", "0"));
  auto listeners = co_await std::move(listening);
  EXPECT_TRUE(listeners.has_value());
  for (const Listener& listener : *listeners) {
    EXPECT_EQ(listener.local_address()->port, listeners->front().local_address()->port);
  }
}

TEST_F(SocketTest, AllAddressesOfANameListenOnOnePort) { run(listen_on_localhost()); }

Task<void> replace_sockets(std::string path) {
  auto first_listening = listen_or_fail(SocketAddress::unix_path(path));
  Listener first = co_await std::move(first_listening);
  auto second_listening = listen_or_fail(SocketAddress::unix_path(path));
  Listener second = co_await std::move(second_listening);
  first.close();  // must not remove the other's socket
  EXPECT_TRUE(std::filesystem::exists(path));
  second.close();
  EXPECT_FALSE(std::filesystem::exists(path));

  std::ofstream(path) << "precious";
  auto onto_file = Listener::listen(SocketAddress::unix_path(path));
  auto refused = co_await std::move(onto_file);
  EXPECT_EQ(refused.error().code(), EADDRINUSE);
  EXPECT_EQ(std::filesystem::file_size(path), 8U);
}

TEST_F(SocketTest, OldSocketsAreReplacedButNoOtherFiles) { run(replace_sockets(path("s"))); }

Task<void> use_bad_addresses(std::string missing) {
  auto to_nobody = Stream::connect(SocketAddress::unix_path(missing));
  auto nobody = co_await std::move(to_nobody);
  EXPECT_EQ(nobody.error().code(), ENOENT);
  auto too_long = Listener::listen(SocketAddress::unix_path(std::string(109, 'x')));
  auto refused = co_await std::move(too_long);
  EXPECT_EQ(refused.error().code(), EINVAL);
  auto no_path = Stream::connect(SocketAddress::unix_path(""));
  auto empty = co_await std::move(no_path);
  EXPECT_EQ(empty.error().code(), EINVAL);
  auto bad_port = Stream::connect(SocketAddress::inet("127.0.0.1", "no-such-service"));
  auto bad = co_await std::move(bad_port);
  EXPECT_FALSE(bad.has_value());
  // A port that nobody listens on.
  auto listening = listen_or_fail(SocketAddress::inet("127.0.0.1", "0"));
  Listener listener = co_await std::move(listening);
  const SocketAddress free = *listener.local_address();
  listener.close();
  auto to_closed = Stream::connect(free);
  auto closed = co_await std::move(to_closed);
  EXPECT_EQ(closed.error().code(), ECONNREFUSED);
  EXPECT_EQ(Listener::adopt(Fd(dup(0))).error().code(), EINVAL);
}

Task<std::string> refusal_of(SocketAddress address) {
  auto listening = Listener::listen(std::move(address));
  auto refused = co_await std::move(listening);
  co_return refused ? "" : refused.error().message();
}

Task<void> listen_on_one_of_several_ports() {
  auto listening = listen_or_fail(SocketAddress::inet("127.0.0.1", "0"));
  const Listener first = co_await std::move(listening);
  SocketAddress taken = *first.local_address();
  auto again = refusal_of(taken);
  const std::string message = co_await std::move(again);
  EXPECT_EQ(message, "Failed to find an available port: Address already in use");
  const int port = std::stoi(taken.port);
  taken.last_port = static_cast<uint16_t>(std::min(port + 50, 65535));
  auto nearby = listen_or_fail(taken);
  const Listener second = co_await std::move(nearby);
  EXPECT_GT(std::stoi(second.local_address()->port), port);
}

TEST_F(SocketTest, ListensOnTheFirstFreePortOfSeveral) { run(listen_on_one_of_several_ports()); }

Task<void> use_descriptors() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  auto connecting = Stream::connect(SocketAddress::descriptor(fds[0]));
  auto stream = co_await std::move(connecting);
  EXPECT_TRUE(stream.has_value());
  EXPECT_EQ(stream->fd(), fds[0]);
  auto connected = refusal_of(SocketAddress::descriptor(fds[1]));
  std::string message = co_await std::move(connected);
  EXPECT_EQ(message, fmt::format("File descriptor {} is not a listening socket", fds[1]));
  auto no_socket = refusal_of(SocketAddress::descriptor(9999));
  message = co_await std::move(no_socket);
  EXPECT_EQ(message, "File descriptor '9999' is not a socket");
}

TEST_F(SocketTest, DescriptorsAreTakenOver) { run(use_descriptors()); }

Task<void> use_bad_vsock_addresses() {
  auto no_cid = refusal_of(SocketAddress::vsock("host", "1"));
  std::string message = co_await std::move(no_cid);
  EXPECT_EQ(message, "Failed to parse cid 'host'");
  auto no_port = refusal_of(SocketAddress::vsock("2", "-1"));
  message = co_await std::move(no_port);
  EXPECT_EQ(message, "Failed to parse port '-1'");
}

TEST_F(SocketTest, VsockAddressesAreNumbers) { run(use_bad_vsock_addresses()); }

TEST_F(SocketTest, BadAddressesFailWithTheirErrno) { run(use_bad_addresses(path("missing"))); }

Task<void> accept_into(const Listener& listener, CancelToken token, int& outcome) {
  auto accepting = listener.accept(token);
  auto stream = co_await std::move(accepting);
  outcome = stream ? 1 : -stream.error().code();
}

Task<void> cancel_accept(std::string path) {
  auto listening = listen_or_fail(SocketAddress::unix_path(path));
  const Listener listener = co_await std::move(listening);
  CancelSource source;
  TaskGroup group;
  int outcome = 0;
  group.spawn(accept_into(listener, source.token(), outcome));
  co_await yield_now();
  EXPECT_EQ(outcome, 0);
  source.cancel();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(outcome, -ECANCELED);
}

TEST_F(SocketTest, AcceptCanBeCancelled) { run(cancel_accept(path("s"))); }

Task<void> read_into(const Stream& stream, CancelToken token, int& outcome) {
  std::array<std::byte, 8> buffer{};
  auto read = stream.read_some(buffer, token);
  auto count = co_await read;
  outcome = count ? static_cast<int>(*count) : -count.error().code();
}

Task<void> end_reads() {
  auto streams = Stream::pair();
  auto& [near, far] = *streams;
  CancelSource source;
  TaskGroup group;
  int outcome = 99;
  group.spawn(read_into(near, source.token(), outcome));
  co_await yield_now();
  near.shutdown(SHUT_RDWR);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(outcome, 0);  // as at the end of the stream

  auto others = Stream::pair();
  group.spawn(read_into(others->first, source.token(), outcome));
  co_await yield_now();
  source.cancel();
  auto join_cancelled = group.join();
  co_await std::move(join_cancelled);
  EXPECT_EQ(outcome, -ECANCELED);
}

TEST_F(SocketTest, ShutdownAndCancellationEndAReadThatWaits) { run(end_reads()); }

Task<void> write_to_nobody() {
  auto streams = Stream::pair();
  streams->second.close();
  std::array<std::byte, 8> bytes{};
  auto writing = streams->first.write_all(IoVector(bytes));
  auto written = co_await std::move(writing);
  EXPECT_EQ(written.error().code(), EPIPE);  // and no SIGPIPE
}

TEST_F(SocketTest, WritingToAClosedPeerFailsWithoutASignal) { run(write_to_nobody()); }

Task<void> fill_then_cancel(const Stream& stream, CancelToken token, int& outcome) {
  std::vector<std::byte> much(8 << 20);
  auto writing = stream.write_all(IoVector(much), token);
  auto written = co_await std::move(writing);
  outcome = written ? 0 : written.error().code();
}

Task<void> cancel_write() {
  auto streams = Stream::pair();
  CancelSource source;
  TaskGroup group;
  int outcome = -1;
  group.spawn(fill_then_cancel(streams->first, source.token(), outcome));
  co_await yield_now();
  EXPECT_EQ(outcome, -1);
  source.cancel();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(outcome, ECANCELED);
}

TEST_F(SocketTest, AWriteThatWaitsCanBeCancelled) { run(cancel_write()); }

Task<void> adopt_a_listener(std::string path) {
  auto listening = listen_or_fail(SocketAddress::unix_path(path));
  const Listener original = co_await std::move(listening);
  auto adopted = Listener::adopt(Fd(dup(original.fd())));
  EXPECT_TRUE(adopted.has_value());
  TaskGroup group;
  int outcome = 0;
  group.spawn(accept_into(*adopted, {}, outcome));
  auto connecting = connect_or_fail(SocketAddress::unix_path(path));
  const Stream stream = co_await std::move(connecting);
  const auto peer = stream.peer();
  EXPECT_TRUE(peer.has_value());
  EXPECT_EQ(peer->path, path);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(outcome, 1);
  adopted->close();
  EXPECT_TRUE(std::filesystem::exists(path));  // it is for who made it to remove
}

TEST_F(SocketTest, ASocketThatListensAlreadyCanBeTakenOver) { run(adopt_a_listener(path("s"))); }

TEST(SocketAddressTest, PrintsAsPeopleWriteThem) {
  EXPECT_EQ(SocketAddress::unix_path("/run/x").to_string(), "unix:/run/x");
  EXPECT_EQ(SocketAddress::inet("localhost", "10809").to_string(), "localhost:10809");
  EXPECT_EQ(SocketAddress::inet("::1", "10809").to_string(), "[::1]:10809");
  EXPECT_EQ(SocketAddress::vsock("2", "10809").to_string(), "vsock:2:10809");
  EXPECT_EQ(SocketAddress::descriptor(3).to_string(), "fd:3");
}

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(getsockopt(fd, level, name, &value, &length), 0);
  return value;
}

Task<void> check_keep_alive() {
  auto address = SocketAddress::inet("127.0.0.1", "0");
  address.keep_alive = KeepAlive{.count = 3, .idle = 50, .interval = 7};
  auto listening = listen_or_fail(address);
  const Listener listener = co_await std::move(listening);
  address.port = listener.local_address()->port;
  address.keep_alive = KeepAlive{};
  auto connecting = connect_or_fail(address);
  const Stream client = co_await std::move(connecting);
  auto accepting = listener.accept();
  const auto server = co_await std::move(accepting);
  EXPECT_TRUE(server.has_value());
  EXPECT_EQ(option_of(client.fd(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of(server->fd(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of(server->fd(), IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(option_of(server->fd(), IPPROTO_TCP, TCP_KEEPIDLE), 50);
  EXPECT_EQ(option_of(server->fd(), IPPROTO_TCP, TCP_KEEPINTVL), 7);
  EXPECT_NE(option_of(client.fd(), IPPROTO_TCP, TCP_KEEPCNT), 3);
}

TEST_F(SocketTest, KeepAliveIsSetAtBothEnds) { run(check_keep_alive()); }

}  // namespace
}  // namespace cairn::io
