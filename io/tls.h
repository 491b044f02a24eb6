// What TLS is to a stream: a session that turns plain bytes into records and back, and credentials
// that sessions are made with. No I/O is done here: TlsStream (tls_stream.h) moves the bytes, and
// crypto/ implements both on a library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace cairn::io {

// The records of both directions, between the session and the socket.
struct TlsWire {
  // What came from the peer. The session takes bytes from its front.
  std::span<const std::byte> incoming;
  // What is to be sent to the peer. The session appends to it.
  std::vector<std::byte> outgoing;
};

// One side of one connection. After a failure it is of no more use, but what it left in `outgoing`
// tells the peer about it. `wire` is the same in every call.
class TlsSession {
 public:
  TlsSession() = default;
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  virtual ~TlsSession() = default;

  // Goes on with the handshake: true when it is over, false when it waits for more from the peer.
  // Fails when the peer is not who it has to be; the message says why.
  [[nodiscard]] virtual Result<bool> handshake(TlsWire& wire) = 0;

  // The rest is for after the handshake.

  // Plain bytes: how many were put into `plain` (which is not empty); 0 when the peer has said that
  // there will be no more, nothing when it takes more records.
  [[nodiscard]] virtual Result<std::optional<std::size_t>> read(TlsWire& wire,
                                                                std::span<std::byte> plain) = 0;
  [[nodiscard]] virtual Result<void> write(TlsWire& wire, std::span<const std::byte> plain) = 0;
  // Tells the peer that there will be no more.
  virtual void finish(TlsWire& wire) = 0;

  // Who the peer is, by its certificate: a distinguished name. Nothing without a certificate.
  [[nodiscard]] virtual std::optional<std::string> peer_identity() const = 0;
};

// Credentials for one side.
class TlsCredentials {
 public:
  TlsCredentials() = default;
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;
  virtual ~TlsCredentials() = default;

  [[nodiscard]] virtual bool for_server() const = 0;
  // The peer shows a certificate, and is known by the name in it.
  [[nodiscard]] virtual bool uses_certificates() const = 0;

  // A client insists that the server's certificate is for `host`, a name or an address. Without one
  // it fails where certificates are verified.
  [[nodiscard]] virtual Result<std::unique_ptr<TlsSession>> start(
      const std::optional<std::string>& host) const = 0;
};

}  // namespace cairn::io
