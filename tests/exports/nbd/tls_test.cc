// The server with TLS, over a real socket: who gets in, and that nothing from before counts.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "crypto/tls_credentials.h"
#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using nbd::Command;

std::shared_ptr<const io::TlsCredentials> anonymous(bool server) {
  auto made =
      crypto::load_credentials(crypto::AnonymousCredentials{.server = server, .dh_parameters = {}});
  EXPECT_TRUE(made.has_value()) << made.error().message();
  return *made;
}

// A client that can start TLS, and says and hears through it from then on.
class TlsClient {
 public:
  static constexpr std::size_t kPiece = 1 << 20;

  explicit TlsClient(NbdHarness& harness) : harness_(harness), plain(harness) {}

  // What it says to start TLS; `more` follows in plain text at once.
  bool start(const std::string& more = {}) {
    plain.greet();
    plain.send(wire(nbd::kOptionMagic, uint32_t{5}, uint32_t{0}) + more);
    WireReader reader(plain.receive(20));
    (void)reader.take<uint64_t>();
    (void)reader.take<uint32_t>();
    if (reader.take<uint32_t>() != 1) {
      return false;
    }
    session_ = std::move(*anonymous(false)->start({}));
    bool done = false;
    const bool ended = harness_.until([&] {
      const auto result = session_->handshake(wire_);
      push();
      done = result.value_or(false);
      return done || !result || !pull();
    });
    return ended && done;
  }
  void send(const std::string& text) {
    EXPECT_TRUE(session_->write(wire_, std::as_bytes(std::span(text))));
    push();
  }
  std::string receive(std::size_t count) {
    std::string text(count, '\0');
    std::size_t filled = 0;
    harness_.until([&] {
      const auto got = session_->read(
          wire_, std::as_writable_bytes(std::span(text)).subspan(filled, count - filled));
      if (got && *got) {
        filled += **got;
        return **got == 0 || filled == count;
      }
      return !got || !pull();
    });
    text.resize(filled);
    return text;
  }

 private:
  void push() {
    plain.send({reinterpret_cast<const char*>(wire_.outgoing.data()), wire_.outgoing.size()});
    wire_.outgoing.clear();
  }
  // Takes in what has arrived; false at the end.
  bool pull() {
    arrived_ = std::vector(wire_.incoming.begin(), wire_.incoming.end());
    const std::size_t before = arrived_.size();
    arrived_.resize(before + kPiece);
    const ssize_t got = recv(plain.fd(), arrived_.data() + before, kPiece, MSG_DONTWAIT);
    arrived_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    wire_.incoming = arrived_;
    return got > 0 || (got < 0 && errno == EAGAIN);
  }

  NbdHarness& harness_;

 public:
  NbdClient plain;

 private:
  std::unique_ptr<io::TlsSession> session_;
  io::TlsWire wire_;
  std::vector<std::byte> arrived_;
};

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    nbd::ServerOptions options{
        .address = io::SocketAddress::unix_path(harness_.socket_path()),
        .handshake_max_seconds = 0,
        .tls = anonymous(true),
        .on_refused = [this](std::string_view why) { refused_.emplace_back(why); }};
    ASSERT_TRUE(harness_.reactor().block_on(harness_.server().start(std::move(options))));
    ASSERT_TRUE(harness_.add("e"));
  }
  static std::string go() {
    return wire(nbd::kOptionMagic, uint32_t{7}, uint32_t{7}, uint32_t{1}) + "e" + wire(uint16_t{0});
  }

  NbdHarness harness_;
  std::vector<std::string> refused_;
};

TEST_F(TlsTest, ServesThroughTls) {
  TlsClient client(harness_);
  ASSERT_TRUE(client.start());
  // The two pieces of information and the consent, then requests of every size.
  client.send(go());
  EXPECT_EQ(client.receive(20 + 14 + 20 + 12 + 20).size(), 86U);
  for (const uint32_t size : {1U, 4096U, 65536U, 1000000U}) {
    const std::string data(size, static_cast<char>('a' + size % 26));
    client.send(wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{1}, uint64_t{1}, uint64_t{7}, size) +
                data);
    EXPECT_EQ(client.receive(16), wire(nbd::kSimpleReplyMagic, uint32_t{0}, uint64_t{1}));
    client.send(wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{0}, uint64_t{2}, uint64_t{7}, size));
    EXPECT_EQ(client.receive(16), wire(nbd::kSimpleReplyMagic, uint32_t{0}, uint64_t{2}));
    EXPECT_TRUE(client.receive(size) == data);
  }
  // A proper end is answered by one.
  client.send(
      wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{2}, uint64_t{3}, uint64_t{0}, uint32_t{0}));
  EXPECT_EQ(client.receive(1), "");
  EXPECT_TRUE(refused_.empty());
}

TEST_F(TlsTest, WithoutTlsNothingIsServed) {
  NbdClient client(harness_);
  EXPECT_FALSE(client.go("e"));
  EXPECT_EQ(client.option(3).back().type, 0x80000005U);
}

TEST_F(TlsTest, PlainTextBehindTheOptionIsNotTakenForMore) {
  TlsClient client(harness_);
  EXPECT_FALSE(client.start(go()));
  ASSERT_TRUE(harness_.until([&] { return !refused_.empty(); }));
  EXPECT_TRUE(refused_[0].starts_with("TLS handshake failed: ")) << refused_[0];
}

TEST_F(TlsTest, ManyRequestsAtOnceAreAllAnswered) {
  TlsClient client(harness_);
  ASSERT_TRUE(client.start());
  client.send(go());
  EXPECT_EQ(client.receive(86).size(), 86U);
  constexpr std::size_t kRequests = 100;
  std::string batch;
  for (uint64_t i = 0; i < kRequests; ++i) {
    batch += wire(nbd::kRequestMagic, uint16_t{0}, uint16_t{0}, i, uint64_t{0}, uint32_t{65536});
  }
  client.send(batch);
  EXPECT_EQ(client.receive(kRequests * (16 + 65536)).size(), kRequests * (16 + 65536));
}

TEST_F(TlsTest, AClientThatLeavesAnywhereLeavesNothingBehind) {
  for (int left = 0; left < 40; ++left) {
    NbdClient client(harness_);
    client.greet();
    client.send_option(5);
    client.receive(20);
    client.send(std::string(static_cast<std::size_t>(left), '\x16'));
    harness_.turn();
  }
  ASSERT_TRUE(harness_.stop().has_value());
}

TEST(TlsHandshakeTime, IsLimited) {
  NbdHarness harness;
  nbd::ServerOptions options{.address = io::SocketAddress::unix_path(harness.socket_path()),
                             .handshake_max_seconds = 1,
                             .tls = anonymous(true)};
  ASSERT_TRUE(harness.reactor().block_on(harness.server().start(std::move(options))));
  NbdClient client(harness);
  client.greet();
  client.send_option(5);
  EXPECT_EQ(client.receive(20).size(), 20U);
  EXPECT_TRUE(client.sees_end());
}

}  // namespace
}  // namespace cairn::testing
