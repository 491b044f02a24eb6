// PkiTest: certificates that openssl(1) makes for the tests: an authority, another one, and
// certificates of all kinds.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "crypto/openssl/tls_context.h"

namespace cairn::crypto {

// Made once: ca, another ca, and certificates of all kinds.
class PkiTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-tls-XXXXXX").string();
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
    sign("expired-client", "client", -1, "subjectAltName=DNS:localhost");
    sign("elsewhere", "server", 30, "subjectAltName=DNS:elsewhere,IP:10.0.0.1");
    sign("unknown", "server", 30, "subjectAltName=DNS:localhost", "ca2");
    sign("unknown-client", "client", 30, "subjectAltName=DNS:localhost", "ca2");
    sign("usage", "server", 30, "keyUsage=critical,keyEncipherment");
    sign("purpose", "server", 30, "extendedKeyUsage=critical,clientAuth");
    sign("authority", "server", 30, "basicConstraints=critical,CA:true");
    shell("openssl ec -in server-key.pem -aes128 -passout pass:pw -out encrypted.pem");
    shell("openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out dh.pem");
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(made); }

  static void shell(const std::string& command) {
    const std::string quiet = "cd " + made.string() + " && " + command + " >/dev/null 2>&1";
    ASSERT_EQ(std::system(quiet.c_str()), 0) << command;  // NOLINT(concurrency-mt-unsafe)
  }
  static void sign(const std::string& name, const std::string& who, int days,
                   const std::string& extension, const std::string& ca = "ca") {
    std::ofstream(made / "ext") << extension << '\n';
    shell(
        fmt::format("openssl x509 -req -in {0}.csr -CA {3}-cert.pem -CAkey {3}-key.pem "
                    "-CAcreateserial -out {1}.pem -days {2} -extfile ext",
                    who, name, days, ca));
  }

  // A folder with sound credentials for both ends.
  PkiTest() {
    std::string name = (made / "pki-XXXXXX").string();
    dir_ = mkdtemp(name.data());
    for (const char* file : {"ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
                             "client-key.pem"}) {
      std::filesystem::copy(made / file, dir_ / file);
    }
  }
  void put(const std::string& from, const std::string& to) const {
    std::filesystem::copy(made / from, dir_ / to,
                          std::filesystem::copy_options::overwrite_existing);
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

  inline static std::filesystem::path made;
  std::filesystem::path dir_;
};

}  // namespace cairn::crypto
