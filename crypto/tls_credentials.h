// Credentials for TLS connections, of three kinds: loaded and checked once, for any number of
// connections (io/tls.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/tls.h"

namespace cairn::crypto {

struct X509Credentials {
  // ca-cert.pem, {server,client}-{cert,key}.pem, and where they are there ca-crl.pem,
  // dh-params.pem.
  std::string dir;
  bool server = false;
  bool verify_peer = true;
  bool sanity_check = true;
  std::optional<std::string> password;  // of the private key
};

// Keys that both sides know (RFC 4279; RFC 8446, 4.2.11).
struct PskCredentials {
  bool server = false;
  std::string user;  // of a client
  // The key of a user, or why there is none.
  std::function<Result<std::string>(const std::string& user)> find_key;
  std::optional<std::string> dh_parameters;  // a file
};

// Nothing at all: who listens in learns nothing, but anybody can be at the other end.
struct AnonymousCredentials {
  bool server = false;
  std::optional<std::string> dh_parameters;  // a file
};

using Credentials = std::shared_ptr<const io::TlsCredentials>;

// A client may do without a certificate of its own, a server not. Messages name the file.
[[nodiscard]] Result<Credentials> load_credentials(const X509Credentials& credentials);
[[nodiscard]] Result<Credentials> load_credentials(PskCredentials credentials);
[[nodiscard]] Result<Credentials> load_credentials(const AnonymousCredentials& credentials);

// The file of the credentials' folder, when it can be read; nothing when it is not there and need
// not be.
[[nodiscard]] Result<std::optional<std::string>> find_credential(const std::string& dir,
                                                                 const std::string& name,
                                                                 bool required);

}  // namespace cairn::crypto
