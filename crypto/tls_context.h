// TlsContext: credentials of any kind, loaded, checked and ready for connections (TLS 1.2 or later;
// without certificates or keys 1.2 alone, as later versions have nothing without).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <openssl/ssl.h>

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

class TlsContext final : public io::TlsCredentials,
                         public std::enable_shared_from_this<TlsContext> {
 public:
  using Pointer = std::shared_ptr<TlsContext>;

  // A client may do without a certificate of its own, a server not. Messages name the file.
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

// The file of the credentials' folder, when it can be read; nothing when it is not there and need
// not be.
[[nodiscard]] Result<std::optional<std::string>> find_credential(const std::string& dir,
                                                                 const std::string& name,
                                                                 bool required);

// Whether a file holds parameters for Diffie-Hellman.
[[nodiscard]] Result<void> check_dh_parameters(const std::string& path);

}  // namespace cairn::crypto
