// Connection: one client, from accept() to the end: its handshake at home, then its transmission on
// the station of the export that it has chosen.
//
// Invariants
// - No receive buffer exists before the handshake is over.
// - While the transmission runs, the stream is the station's thread's.
// - When run() completes nothing of the connection is left: no task, no operation, no buffer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "exports/nbd/nbd_export.h"
#include "exports/nbd/negotiation.h"
#include "exports/nbd/transmission.h"
#include "io/backend.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls.h"

namespace cairn::nbd {

// Who gets in, and how soon they have to be.
struct Gate {
  io::Duration handshake_limit{};                      // zero: none
  std::shared_ptr<const io::TlsCredentials> tls = {};  // null: no TLS; else nothing without it
  // Judges the name in a client's certificate; empty: everybody's.
  std::function<Result<void>(const std::string& identity)> authorize = {};
  // Hears why a client was turned away that did not keep to TLS; may be empty.
  std::function<void(std::string_view reason)> on_refused = {};
};

class Connection {
 public:
  // `exports` and `gate` outlive the connection.
  Connection(io::Stream stream, const ExportList& exports, const Gate& gate);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() = default;

  // Serves the client until it leaves, misbehaves, or stop() is called. Once.
  [[nodiscard]] io::Task<void> run();

  // Whether the client has got as far as choosing an export.
  [[nodiscard]] bool served() const { return served_; }

  // Takes no further request; run() completes when those in flight are answered.
  void stop();

 private:
  // handshake.cc
  io::Task<bool> handshake();
  io::Task<bool> start_tls();
  io::Task<void> part();
  io::Task<bool> read_option(Negotiation& negotiation, bool& done);
  io::Task<bool> skip_option_data(uint64_t length);
  io::Task<bool> send_text(const std::string& text);
  bool enter_export(const Agreement& agreement);

  // connection.cc
  io::Task<void> transmit(io::CancelToken token);

  io::Stream stream_;
  const ExportList& exports_;
  const Gate& gate_;
  NbdExport* export_ = nullptr;
  Transmission::Terms terms_;
  io::CancelSource handshake_cancel_;  // it has taken too long, or stop() was called
  io::CancelSource stopping_;
  bool served_ = false;  // an export was chosen
};

}  // namespace cairn::nbd
