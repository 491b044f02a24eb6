// Credentials with certificates that openssl(1) makes for the test: what is taken, what is refused
// in which words, and that two ends of a connection agree on them.
#include "crypto/tls_context.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>

namespace cairn::crypto {
namespace {

namespace fs = std::filesystem;

// Made once: ca, another ca, and certificates of all kinds.
class TlsContextTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (fs::temp_directory_path() / "cairn-tls-XXXXXX").string();
    made = mkdtemp(name.data());
    const std::string key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for (const char* ca : {"ca", "ca2"}) {
      shell(
          fmt::format("openssl req -x509 {0} -keyout {1}-key.pem -out {1}-cert.pem -subj /CN={1} "
                      "-days 30",
                      key, ca));
    }
    for (const char* who : {"server", "client"}) {
      shell(
          fmt::format("openssl req {0} -keyout {1}-key.pem -out {1}.csr -subj /CN={1}", key, who));
      sign(fmt::format("{}-cert", who), who, 30, "subjectAltName=DNS:localhost");
    }
    sign("expired", "server", -1, "subjectAltName=DNS:localhost");
    sign("usage", "server", 30, "keyUsage=critical,keyEncipherment");
    sign("purpose", "server", 30, "extendedKeyUsage=critical,clientAuth");
    sign("authority", "server", 30, "basicConstraints=critical,CA:true");
    shell("openssl ec -in server-key.pem -aes128 -passout pass:pw -out encrypted.pem");
    shell("openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out dh.pem");
  }
  static void TearDownTestSuite() { fs::remove_all(made); }

  static void shell(const std::string& command) {
    const std::string quiet = "cd " + made.string() + " && " + command + " >/dev/null 2>&1";
    ASSERT_EQ(std::system(quiet.c_str()), 0) << command;  // NOLINT(concurrency-mt-unsafe)
  }
  static void sign(const std::string& name, const std::string& who, int days,
                   const std::string& extension) {
    std::ofstream(made / "ext") << extension << '\n';
    shell(
        fmt::format("openssl x509 -req -in {}.csr -CA ca-cert.pem -CAkey ca-key.pem "
                    "-CAcreateserial -out {}.pem -days {} -extfile ext",
                    who, name, days));
  }

  // A folder with sound credentials for both ends.
  TlsContextTest() {
    std::string name = (made / "pki-XXXXXX").string();
    dir_ = mkdtemp(name.data());
    for (const char* file : {"ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
                             "client-key.pem"}) {
      fs::copy(made / file, dir_ / file);
    }
  }
  void put(const std::string& from, const std::string& to) const {
    fs::copy(made / from, dir_ / to, fs::copy_options::overwrite_existing);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ / name) << text;
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (dir_ / name).string(); }

  [[nodiscard]] Result<TlsContext::Pointer> load(bool server, bool sanity = true,
                                        std::optional<std::string> password = {}) const {
    return TlsContext::load(X509Credentials{.dir = dir_.string(),
                             .server = server,
                             .verify_peer = true,
                             .sanity_check = sanity,
                             .password = std::move(password)});
  }
  [[nodiscard]] std::string refusal(bool server = true,
                                    std::optional<std::string> password = {}) const {
    const auto context = load(server, true, std::move(password));
    return context ? "accepted" : context.error().message();
  }

  inline static fs::path made;
  fs::path dir_;
};

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
  EXPECT_TRUE(agree(*server, *client));
}

TEST_F(TlsContextTest, AServerTurnsAwayAClientWithoutACertificate) {
  auto server = load(true);
  fs::remove(dir_ / "client-cert.pem");
  auto client = load(false);
  ASSERT_TRUE(client.has_value()) << client.error().message();
  EXPECT_FALSE(agree(*server, *client));
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
