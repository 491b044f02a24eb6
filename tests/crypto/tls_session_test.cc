// Two sessions and the bytes between them, without a socket: who agrees with whom, what is said
// when they do not, and what becomes of records that arrive in pieces or are not what was sent.
#include "crypto/openssl/tls_session.h"

#include <algorithm>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "crypto/openssl/tls_context.h"
#include "tests/crypto/pki.h"

namespace cairn::crypto {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// One end with its side of the wire.
struct End {
  explicit End(const TlsContext::Pointer& context, const std::optional<std::string>& host = {}) {
    auto made = context->start(host);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    session = std::move(*made);
  }
  void take(std::vector<std::byte> records) {
    arrived.insert(arrived.end(), records.begin(), records.end());
    wire.incoming = arrived;
  }
  // Does a step with what has arrived.
  void step() {
    if (!done && failure.empty()) {
      const auto result = session->handshake(wire);
      failure = result ? "" : result.error().message();
      done = result.value_or(false);
    }
    keep_rest();
  }
  void keep_rest() {
    std::vector<std::byte> rest(wire.incoming.begin(), wire.incoming.end());
    arrived = std::move(rest);
    wire.incoming = arrived;
  }
  // All that can be read now, or the error.
  std::string read() {
    std::string text(100000, '\0');
    std::size_t filled = 0;
    for (;;) {
      const auto got = session->read(
          wire, std::as_writable_bytes(std::span(text)).subspan(filled, text.size() - filled));
      if (!got) {
        return got.error().message();
      }
      if (!*got || **got == 0) {
        keep_rest();
        return text.substr(0, filled) + (*got ? "<end>" : "");
      }
      filled += **got;
    }
  }

  std::unique_ptr<io::TlsSession> session;
  io::TlsWire wire;
  std::vector<std::byte> arrived;
  std::string failure;
  bool done = false;
};

// Moves at most `piece` bytes at a time, until nothing moves any more.
void shake_hands(End& server, End& client, std::size_t piece = SIZE_MAX) {
  client.step();
  for (int turn = 0; turn < 100000; ++turn) {
    bool moved = false;
    for (auto [from, to] : {std::pair(&client, &server), std::pair(&server, &client)}) {
      auto& out = from->wire.outgoing;
      const std::size_t count = std::min(piece, out.size());
      if (count != 0) {
        const auto middle = out.begin() + static_cast<std::ptrdiff_t>(count);
        to->take(std::vector(out.begin(), middle));
        out.erase(out.begin(), middle);
        to->step();
        moved = true;
      }
    }
    if (!moved) {
      return;
    }
  }
  FAIL() << "the handshake does not end";
}

class TlsSessionTest : public PkiTest {
 protected:
  // What the two ends say of each other with these certificates: "server: …, client: …".
  std::string outcome(const std::optional<std::string>& host = "localhost") {
    auto server = load(true, false);
    auto client = load(false, false);
    EXPECT_TRUE(server && client);
    End at_server(*server);
    End at_client(*client, host);
    shake_hands(at_server, at_client);
    const auto state = [](End& end) {
      if (end.done) {  // a client may hear of it only when it reads
        const std::string later = end.read();
        return later.empty() ? std::string("good") : later;
      }
      return end.failure;
    };
    const std::string first = state(at_server);
    return "server: " + first + ", client: " + state(at_client);
  }

  static TlsContext::Pointer keys(bool server, const std::string& key,
                                  const std::string& user = "alice") {
    PskCredentials credentials{.server = server, .user = user, .find_key = {}, .dh_parameters = {}};
    credentials.find_key = [key](const std::string& who) -> Result<std::string> {
      if (who != "alice") {
        return fail(ENOENT, "nobody");
      }
      return key;
    };
    if (!server) {
      credentials.find_key = [key](const std::string&) -> Result<std::string> { return key; };
    }
    auto made = TlsContext::load(std::move(credentials));
    EXPECT_TRUE(made.has_value()) << made.error().message();
    return *made;
  }
  static TlsContext::Pointer anonymous(bool server) {
    auto made = TlsContext::load(AnonymousCredentials{.server = server, .dh_parameters = {}});
    EXPECT_TRUE(made.has_value()) << made.error().message();
    return *made;
  }
};

TEST_F(TlsSessionTest, GoodCertificatesAgree) {
  EXPECT_EQ(outcome(), "server: good, client: good");
}

TEST_F(TlsSessionTest, EveryFaultOfTheServersCertificateIsToldApart) {
  put("expired.pem", "server-cert.pem");
  EXPECT_EQ(outcome(),
            "server: The peer says that our certificate has expired, "
            "client: The certificate has expired");
  put("elsewhere.pem", "server-cert.pem");
  EXPECT_EQ(outcome(),
            "server: The peer finds our certificate bad, "
            "client: Certificate does not match the hostname localhost");
  EXPECT_EQ(outcome("10.0.0.2"),
            "server: The peer finds our certificate bad, "
            "client: Certificate does not match the hostname 10.0.0.2");
  EXPECT_EQ(outcome("10.0.0.1"), "server: good, client: good");
  put("unknown.pem", "server-cert.pem");
  EXPECT_EQ(outcome(),
            "server: The peer does not know the issuer of our certificate, "
            "client: The certificate hasn't got a known issuer");
}

TEST_F(TlsSessionTest, EveryFaultOfTheClientsCertificateIsToldApart) {
  put("expired-client.pem", "client-cert.pem");
  EXPECT_EQ(outcome(),
            "server: The certificate has expired, "
            "client: The peer says that our certificate has expired");
  put("unknown-client.pem", "client-cert.pem");
  EXPECT_EQ(outcome(),
            "server: The certificate hasn't got a known issuer, "
            "client: The peer does not know the issuer of our certificate");
  std::filesystem::remove(dir_ / "client-cert.pem");
  EXPECT_EQ(outcome(),
            "server: No certificate was found., "
            "client: The peer wants a certificate, and we have none");
}

TEST_F(TlsSessionTest, AClientNeedsAName) {
  auto client = load(false);
  ASSERT_TRUE(client.has_value());
  const auto session = (*client)->start({});
  ASSERT_FALSE(session.has_value());
  EXPECT_EQ(session.error().message(), "No hostname for certificate validation");
}

TEST_F(TlsSessionTest, TheServerKnowsTheClientByItsName) {
  auto server = load(true);
  auto client = load(false);
  ASSERT_TRUE(server && client);
  End at_server(*server);
  End at_client(*client, "localhost");
  shake_hands(at_server, at_client);
  EXPECT_EQ(at_server.session->peer_identity(), "CN=client");
  EXPECT_EQ(at_client.session->peer_identity(), "CN=server");
}

TEST_F(TlsSessionTest, SharedKeysAgreeOrSaySo) {
  const std::string key(16, 'k');
  const auto server = keys(true, key);
  End at_server(server);
  End at_client(keys(false, key));
  shake_hands(at_server, at_client);
  EXPECT_TRUE(at_server.done && at_client.done);
  EXPECT_EQ(at_server.session->peer_identity(), std::nullopt);

  End again(server);
  End wrong(keys(false, std::string(16, 'x')));
  shake_hands(again, wrong);
  EXPECT_EQ(again.failure, "The peer has another key than we have");
  EXPECT_EQ(wrong.failure, "The peer has another key than we have");

  End once_more(server);
  End stranger(keys(false, key, "bob"));
  shake_hands(once_more, stranger);
  EXPECT_FALSE(once_more.done);
  EXPECT_FALSE(stranger.done);
}

TEST_F(TlsSessionTest, AServerWithACertificateIsNoSubstituteForOneWithTheKey) {
  auto server = load(true, false);
  ASSERT_TRUE(server.has_value());
  End at_server(*server);
  End at_client(keys(false, std::string(16, 'k')));
  shake_hands(at_server, at_client);
  EXPECT_FALSE(at_client.done);
}

TEST_F(TlsSessionTest, NobodyAgreesWithNobodyOnly) {
  End at_server(anonymous(true));
  End at_client(anonymous(false));
  shake_hands(at_server, at_client);
  EXPECT_TRUE(at_server.done && at_client.done);
  auto careful = load(false, false);
  ASSERT_TRUE(careful.has_value());
  End again(anonymous(true));
  End with_certificate(*careful, "localhost");
  shake_hands(again, with_certificate);
  EXPECT_FALSE(with_certificate.done);
  EXPECT_EQ(again.failure, "The peer and we have no kind of credentials in common");
}

TEST_F(TlsSessionTest, RecordsMayArriveByteByByte) {
  const std::string key(16, 'k');
  End server(keys(true, key));
  End client(keys(false, key));
  shake_hands(server, client, 1);
  ASSERT_TRUE(server.done && client.done);
  const std::string text(40000, 'x');
  ASSERT_TRUE(client.session->write(client.wire, bytes_of(text)));
  std::string got;
  for (const std::byte byte : std::exchange(client.wire.outgoing, {})) {
    server.take({byte});
    got += server.read();
  }
  EXPECT_EQ(got, text);
  client.session->finish(client.wire);
  server.take(std::exchange(client.wire.outgoing, {}));
  EXPECT_EQ(server.read(), "<end>");
}

TEST_F(TlsSessionTest, ARecordThatWasChangedIsRefused) {
  const std::string key(16, 'k');
  for (std::size_t at = 0; at < 30; ++at) {
    End server(keys(true, key));
    End client(keys(false, key));
    shake_hands(server, client);
    ASSERT_TRUE(client.session->write(client.wire, bytes_of("some text to be sent")));
    auto records = std::exchange(client.wire.outgoing, {});
    records[at] ^= std::byte{1};
    server.take(std::move(records));
    const std::string got = server.read();
    EXPECT_TRUE(got.empty() || !got.contains("some text")) << at;  // empty: it waits for more
  }
}

TEST_F(TlsSessionTest, PlainTextIsRefused) {
  End server(keys(true, "0123456789abcdef"));
  std::string plain = "IHAVEOPT, and more of what a client says without TLS";
  server.take({bytes_of(plain).begin(), bytes_of(plain).end()});
  server.step();
  EXPECT_FALSE(server.done);
  EXPECT_FALSE(server.failure.empty());
}

}  // namespace
}  // namespace cairn::crypto
