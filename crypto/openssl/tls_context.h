// TlsContext: credentials of any kind, loaded, checked and ready for connections (TLS 1.2 or later;
// without certificates or keys 1.2 alone, as later versions have nothing without).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <openssl/ssl.h>

#include "base/result.h"
#include "crypto/tls_credentials.h"
#include "io/tls.h"

namespace cairn::crypto {

class TlsContext final : public io::TlsCredentials,
                         public std::enable_shared_from_this<TlsContext> {
 public:
  using Pointer = std::shared_ptr<TlsContext>;

  // As load_credentials() of tls_credentials.h.
  [[nodiscard]] static Result<Pointer> load(const X509Credentials& credentials);
  [[nodiscard]] static Result<Pointer> load(PskCredentials credentials);
  [[nodiscard]] static Result<Pointer> load(const AnonymousCredentials& credentials);

  // For SSL_new().
  [[nodiscard]] SSL_CTX* get() const { return context_.get(); }
  // A server's certificate has to be for the name that the client wants.
  [[nodiscard]] bool verifies_names() const { return verifies_names_; }

  // TlsCredentials
  [[nodiscard]] bool for_server() const override { return server_; }
  [[nodiscard]] bool uses_certificates() const override { return certificates_; }
  [[nodiscard]] Result<std::unique_ptr<io::TlsSession>> start(
      const std::optional<std::string>& host) const override;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  TlsContext(SSL_CTX* context, bool server) : context_(context), server_(server) {}

  [[nodiscard]] static Result<Pointer> make(bool server);
  [[nodiscard]] static Result<void> load_x509(SSL_CTX* context, const X509Credentials& credentials);
  [[nodiscard]] Result<void> set_dh_parameters(const std::optional<std::string>& path) const;
  // OpenSSL asks for keys.
  static unsigned give_server_key(SSL* ssl, const char* user, unsigned char* key, unsigned room);
  static unsigned give_client_key(SSL* ssl, const char* hint, char* user, unsigned user_room,
                                  unsigned char* key, unsigned room);
  [[nodiscard]] unsigned give_key(const std::string& user, unsigned char* key, unsigned room) const;

  std::unique_ptr<SSL_CTX, Free> context_;
  bool server_;
  bool certificates_ = false;
  bool verifies_names_ = false;
  PskCredentials psk_;
};

// Whether a file holds parameters for Diffie-Hellman.
[[nodiscard]] Result<void> check_dh_parameters(const std::string& path);

}  // namespace cairn::crypto
