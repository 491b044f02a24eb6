// TlsContext: credentials with certificates, loaded, checked and ready for connections.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <openssl/ssl.h>

#include "base/result.h"

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

class TlsContext {
 public:
  // A client may do without a certificate of its own, a server not. Messages name the file.
  [[nodiscard]] static Result<TlsContext> load(const X509Credentials& credentials);

  // For SSL_new(). TLS 1.2 or later.
  [[nodiscard]] SSL_CTX* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  explicit TlsContext(SSL_CTX* context) : context_(context) {}

  std::unique_ptr<SSL_CTX, Free> context_;
};

// The file of the credentials' folder, when it can be read; nothing when it is not there and need
// not be.
[[nodiscard]] Result<std::optional<std::string>> find_credential(const std::string& dir,
                                                                 const std::string& name,
                                                                 bool required);

// Whether a file holds parameters for Diffie-Hellman. They are checked, and OpenSSL chooses its
// own.
[[nodiscard]] Result<void> check_dh_parameters(const std::string& path);

}  // namespace cairn::crypto
