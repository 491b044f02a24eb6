// Credentials with certificates that openssl(1) makes for the test: what is taken, what is refused
// in which words, and that two ends of a connection agree on them.
#include "crypto/openssl/tls_context.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "tests/crypto/pki.h"

namespace cairn::crypto {
namespace {

namespace fs = std::filesystem;

class TlsContextTest : public PkiTest {};

// A handshake of the two in memory.
bool agree(const TlsContext& server, const TlsContext& client) {
  SSL* ends[] = {SSL_new(server.get()), SSL_new(client.get())};
  BIO* wire[2] = {};
  BIO_new_bio_pair(&wire[0], 0, &wire[1], 0);
  for (int i = 0; i < 2; ++i) {
    SSL_set_bio(ends[i], wire[i], wire[i]);
  }
  SSL_set_accept_state(ends[0]);
  SSL_set_connect_state(ends[1]);
  int done[2] = {};
  for (int turn = 0; turn < 20; ++turn) {
    for (int i = 0; i < 2; ++i) {
      done[i] = done[i] == 1 ? 1 : SSL_do_handshake(ends[i]);
    }
  }
  for (SSL* end : ends) {
    SSL_free(end);
  }
  return done[0] == 1 && done[1] == 1;
}

TEST_F(TlsContextTest, EndsWithTheSameAuthorityAgree) {
  auto server = load(true);
  auto client = load(false);
  ASSERT_TRUE(server.has_value()) << server.error().message();
  ASSERT_TRUE(client.has_value()) << client.error().message();
  EXPECT_TRUE(agree(**server, **client));
}

TEST_F(TlsContextTest, AServerTurnsAwayAClientWithoutACertificate) {
  auto server = load(true);
  fs::remove(dir_ / "client-cert.pem");
  auto client = load(false);
  ASSERT_TRUE(client.has_value()) << client.error().message();
  EXPECT_FALSE(agree(**server, **client));
}

TEST_F(TlsContextTest, NamesTheFileThatIsMissing) {
  for (const char* file : {"server-key.pem", "server-cert.pem", "ca-cert.pem"}) {
    fs::remove(dir_ / file);
    EXPECT_EQ(refusal(),
              "Unable to access credentials " + path(file) + ": No such file or directory");
  }
}

TEST_F(TlsContextTest, RefusesCertificatesThatAreUnfit) {
  const std::string own = path("server-cert.pem");
  const std::pair<const char*, std::string> cases[] = {
      {"expired.pem", "The server certificate " + own + " has expired"},
      {"usage.pem", "Certificate " + own + " usage does not permit digital signature"},
      {"purpose.pem", "Certificate " + own + " purpose does not allow use with a TLS server"},
      {"authority.pem",
       "The certificate " + own + " basic constraints show a CA, but we need one for a server"},
      {"ca-key.pem", "Unable to import server certificate " + own + ": no start line"},
  };
  for (const auto& [file, message] : cases) {
    put(file, "server-cert.pem");
    EXPECT_EQ(refusal(), message) << file;
  }
  put("expired.pem", "server-cert.pem");
  EXPECT_TRUE(load(true, false).has_value());
}

TEST_F(TlsContextTest, RefusesAuthoritiesThatAreNone) {
  const std::string authority = path("ca-cert.pem");
  put("ca2-cert.pem", "ca-cert.pem");
  EXPECT_EQ(refusal(), "Our own certificate " + path("server-cert.pem") +
                           " failed validation against " + authority +
                           ": The certificate hasn't got a known issuer");
  put("server-cert.pem", "ca-cert.pem");
  EXPECT_EQ(refusal(), "The certificate " + authority + " is missing basic constraints for a CA");
  write("ca-cert.pem", "junk");
  EXPECT_EQ(refusal(), "Unable to import CA certificate list " + authority);
}

TEST_F(TlsContextTest, RefusesKeysThatDoNotFitOrCanNotBeRead) {
  const std::string pair = "Cannot load certificate '" + path("server-cert.pem") + "' & key '" +
                           path("server-key.pem") + "': ";
  put("client-key.pem", "server-key.pem");
  EXPECT_EQ(refusal(), pair + "The certificate and the given key do not match.");
  put("encrypted.pem", "server-key.pem");
  EXPECT_EQ(refusal(), pair + "Decryption has failed.");
  EXPECT_EQ(refusal(true, "other"), pair + "Decryption has failed.");
  EXPECT_EQ(refusal(true, "pw"), "accepted");
}

TEST_F(TlsContextTest, ChecksTheFilesThatNeedNotBeThere) {
  put("dh.pem", "dh-params.pem");
  EXPECT_EQ(refusal(), "accepted");
  write("dh-params.pem", "junk");
  EXPECT_EQ(refusal().find("Unable to load DH parameters from " + path("dh-params.pem") + ": "),
            0U);
  EXPECT_EQ(refusal(false), "accepted");
  write("ca-crl.pem", "junk");
  EXPECT_EQ(refusal(false), "Cannot load CRL '" + path("ca-crl.pem") + "': no start line");
}

}  // namespace
}  // namespace cairn::crypto
