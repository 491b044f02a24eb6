// Transport: the bytes of a connection to a monitor, as they are or through TLS.
//
// Calls block. What has come of a record that is not whole yet is kept.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/fd.h"
#include "io/tls.h"

namespace cairn::ctl {

using Clock = std::chrono::steady_clock;

// How to talk through TLS; without credentials there is none.
struct TlsWish {
  std::shared_ptr<const io::TlsCredentials> credentials;
  std::optional<std::string> host;  // whom the certificate must be for
};

class Transport {
 public:
  explicit Transport(io::Fd fd) : fd_(std::move(fd)) {}

  // Does the handshake. ETIMEDOUT at `deadline`, EACCES when one end does not accept the other.
  [[nodiscard]] Result<void> secure(const TlsWish& wish, Clock::time_point deadline);

  [[nodiscard]] Result<void> send(std::string_view text);

  enum class Got : uint8_t {
    kBytes,
    kNothing,  // at `deadline`
    kEnd,
  };
  // Waits for bytes and appends them to `text`. EINTR when a signal came that has a handler.
  [[nodiscard]] Result<Got> receive(std::string& text, std::optional<Clock::time_point> deadline);

 private:
  [[nodiscard]] Result<void> send_plain(std::string_view bytes) const;
  [[nodiscard]] Result<Got> receive_plain(std::string& bytes,
                                          std::optional<Clock::time_point> deadline) const;
  [[nodiscard]] Result<void> send_records();
  [[nodiscard]] Result<Got> receive_records(std::optional<Clock::time_point> deadline);
  [[nodiscard]] Result<std::optional<Got>> decrypt(std::string& text);

  io::Fd fd_;
  std::unique_ptr<io::TlsSession> session_;  // null for a plain connection
  std::unique_ptr<io::TlsWire> wire_;        // the session knows where it is
  std::string records_;                      // received; wire_->incoming is its rest
};

}  // namespace cairn::ctl
