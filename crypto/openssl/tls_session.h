// One side of a TLS connection on OpenSSL, without I/O; see io/tls.h.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <openssl/ssl.h>

#include "base/result.h"
#include "crypto/openssl/tls_context.h"
#include "io/tls.h"

namespace cairn::crypto {

class OpensslSession final : public io::TlsSession {
 public:
  // The context outlives the session. `host`: whom a server's certificate must be for.
  [[nodiscard]] static Result<std::unique_ptr<io::TlsSession>> make(
      std::shared_ptr<const TlsContext> context, const std::optional<std::string>& host);

  [[nodiscard]] Result<bool> handshake(io::TlsWire& wire) override;
  [[nodiscard]] Result<std::optional<std::size_t>> read(io::TlsWire& wire,
                                                        std::span<std::byte> plain) override;
  [[nodiscard]] Result<void> write(io::TlsWire& wire, std::span<const std::byte> plain) override;
  void finish(io::TlsWire& wire) override;
  [[nodiscard]] std::optional<std::string> peer_identity() const override;

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  OpensslSession(std::shared_ptr<const TlsContext> context, SSL* ssl, BIO* bio)
      : context_(std::move(context)), ssl_(ssl), bio_(bio) {}

  void use(io::TlsWire& wire);
  [[nodiscard]] std::unexpected<Error> failure(int rc) const;

  std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<SSL, Free> ssl_;
  BIO* bio_;  // belongs to ssl_
  std::string host_;
};

}  // namespace cairn::crypto
