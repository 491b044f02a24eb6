// TLS over sockets: large transfers both ways at once, sending without waiting, ends that are meant
// and ends that are not.
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "crypto/openssl/tls_context.h"
#include "io/socket.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

std::shared_ptr<const TlsCredentials> credentials(bool server) {
  auto made =
      crypto::TlsContext::load(crypto::AnonymousCredentials{.server = server, .dh_parameters = {}});
  EXPECT_TRUE(made.has_value()) << made.error().message();
  return *made;
}

Task<void> secure_one(Stream& stream, bool server, CancelToken token, Result<void>& result) {
  auto session = credentials(server)->start({});
  auto securing = stream.secure(std::move(*session), token);
  result = co_await std::move(securing);
}

Task<void> secure_both(Stream& server, Stream& client) {
  Result<void> at_server;
  Result<void> at_client;
  TaskGroup group;
  group.spawn(secure_one(server, true, {}, at_server));
  group.spawn(secure_one(client, false, {}, at_client));
  co_await group.join();
  EXPECT_TRUE(at_server.has_value()) << at_server.error().message();
  EXPECT_TRUE(at_client.has_value()) << at_client.error().message();
}

Task<void> send_text(Stream& stream, const std::string& text) {
  char* const data = const_cast<char*>(text.data());
  const iovec segments[] = {{data, 1}, {data + 1, 30000}, {data + 30001, text.size() - 30001}};
  auto writing = stream.write_all(std::span<const iovec>(segments));
  const Result<void> written = co_await std::move(writing);
  EXPECT_TRUE(written.has_value()) << written.error().message();
}

Task<void> receive_text(Stream& stream, std::string& text) {
  auto reading = stream.read_exact(std::as_writable_bytes(std::span(text)));
  const Result<void> read = co_await std::move(reading);
  EXPECT_TRUE(read.has_value()) << read.error().message();
}

Task<Result<std::size_t>> read_once(Stream& stream, std::span<std::byte> bytes,
                                    CancelToken token = {}) {
  auto reading = stream.read_some(bytes, token);
  co_return co_await reading;
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>((i * 2654435761U) >> 13);
  }
  return text;
}

class TlsStreamTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    auto pair = Stream::pair();
    ASSERT_TRUE(pair.has_value());
    server_ = std::move(pair->first);
    client_ = std::move(pair->second);
  }
  void secure() { run(secure_both(server_, client_)); }
  // What a read at the server ends with.
  std::string read_at_server() {
    std::byte bytes[10];
    const auto got = run(read_once(server_, bytes));
    return got ? std::to_string(*got) : got.error().message();
  }

  Stream server_;
  Stream client_;
};

Task<void> exchange(Stream& server, Stream& client, const std::string& there,
                    const std::string& back) {
  std::string at_server(there.size(), '\0');
  std::string at_client(back.size(), '\0');
  TaskGroup group;
  group.spawn(send_text(client, there));
  group.spawn(send_text(server, back));
  group.spawn(receive_text(server, at_server));
  group.spawn(receive_text(client, at_client));
  co_await group.join();
  EXPECT_TRUE(at_server == there);
  EXPECT_TRUE(at_client == back);
}

TEST_F(TlsStreamTest, MuchGoesBothWaysAtOnce) {
  secure();
  run(exchange(server_, client_, pattern(5'000'001), pattern(3'000'000)));
  server_.release_buffers();
  client_.release_buffers();
  run(exchange(server_, client_, pattern(40'000), pattern(40'000)));
}

// Sends without waiting whenever the socket has room, until everything is out.
Task<void> push(const Stream& stream, const std::string& text, int& refused) {
  std::size_t done = 0;
  while (done < text.size() || stream.has_unsent()) {
    iovec segment{const_cast<char*>(text.data()) + done, text.size() - done};
    msghdr message{};
    message.msg_iov = &segment;
    message.msg_iovlen = segment.iov_len == 0 ? 0 : 1;
    const int64_t sent = stream.try_send(message);
    if (sent >= 0) {
      done += static_cast<std::size_t>(sent);
    } else {
      EXPECT_EQ(sent, -EAGAIN);
      ++refused;
      auto pause = sleep_for(std::chrono::milliseconds(1));
      co_await pause;
    }
  }
}

Task<void> push_and_receive(Stream& server, Stream& client, const std::string& text, int& refused) {
  std::string got(text.size(), '\0');
  TaskGroup group;
  group.spawn(push(server, text, refused));
  group.spawn(receive_text(client, got));
  co_await group.join();
  EXPECT_TRUE(got == text);
}

TEST_F(TlsStreamTest, SendingWithoutWaitingTakesWhatTheSocketTakes) {
  secure();
  int refused = 0;
  run(push_and_receive(server_, client_, pattern(8'000'000), refused));
  EXPECT_GT(refused, 0) << "the socket never was full";
}

TEST_F(TlsStreamTest, AnEndThatIsMeantIsNoError) {
  secure();
  client_.say_goodbye();
  EXPECT_EQ(read_at_server(), "0");
}

TEST_F(TlsStreamTest, AnEndThatIsNotAnnouncedIsAnError) {
  secure();
  client_.close();
  EXPECT_EQ(read_at_server(), "The TLS connection was cut off");
}

TEST_F(TlsStreamTest, PlainTextInPlaceOfTlsIsRefused) {
  const std::string text = "IHAVEOPT\0\0\0\7 plain text";
  ASSERT_EQ(send(client_.fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  Result<void> result;
  run(secure_one(server_, true, {}, result));
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().message().starts_with("TLS handshake failed: "));
}

TEST_F(TlsStreamTest, AHandshakeCanBeCancelled) {
  CancelSource source;
  const Deadline deadline(source, std::chrono::milliseconds(20));
  Result<void> result;
  run(secure_one(server_, true, source.token(), result));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), ECANCELED);
}

Task<void> cancelled_read(Stream& server, std::span<std::byte> bytes) {
  CancelSource source;
  const Deadline deadline(source, std::chrono::milliseconds(20));
  auto reading = read_once(server, bytes, source.token());
  const Result<std::size_t> got = co_await std::move(reading);
  EXPECT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code(), ECANCELED);
}

TEST_F(TlsStreamTest, ACancelledReadLosesNothing) {
  secure();
  std::byte bytes[10];
  run(cancelled_read(server_, bytes));
  server_.release_buffers();
  run(exchange(server_, client_, pattern(40'000), pattern(40'000)));
}

}  // namespace
}  // namespace cairn::io
