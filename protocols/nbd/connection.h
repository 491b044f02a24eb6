// Connection: one connection to a server, in the transmission phase.
//
// Any number of requests are in flight (more wait for a place); replies find theirs by the cookie.
// One task sends what is queued, several requests with one system call when there are several; one
// receives, and puts payloads where the request wants them.
//
// Invariants
// - An exchange is over when it is answered (or lost) and has been sent (or never will be): only
//   then does its owner go on, and nothing touches its memory any more.
// - Whatever a server must not do breaks the connection: alive() is false from then on, every
//   exchange in flight is lost, and reason() says why.
// - On one reactor's thread. close() before destruction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/cancel.h"
#include "io/semaphore.h"
#include "io/socket.h"
#include "io/socket_address.h"
#include "io/task.h"
#include "io/task_group.h"
#include "protocols/nbd/exchange.h"
#include "protocols/nbd/negotiation.h"
#include "protocols/nbd/receiver.h"

namespace cairn::nbd::client {

// What to connect to.
struct Target {
  io::SocketAddress address;
  std::string export_name;
  std::string context;  // the meta context to ask for
  TlsWish tls = {};
};

class Connection {
 public:
  // Connects and negotiates. `token` cancels it.
  [[nodiscard]] static io::Task<Result<std::shared_ptr<Connection>>> open(Target target,
                                                                          io::CancelToken token);
  Connection(io::Stream stream, ExportInfo info);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] const ExportInfo& info() const { return info_; }
  [[nodiscard]] bool alive() const { return alive_; }
  // Why it is not; with an empty message while it is.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  // Requests that are in flight or wait for a place.
  [[nodiscard]] std::size_t load() const { return load_; }

  // Completes when the exchange is over; its owner reads the outcome from it. `exchange` outlives
  // the task. The request must suit what was negotiated.
  [[nodiscard]] io::Task<void> run(Exchange& exchange);

  // Takes leave of the server, if that is possible, and completes when no task runs any more.
  [[nodiscard]] io::Task<void> close();

 private:
  static constexpr std::size_t kMaxInFlight = 64;
  using Header = std::array<std::byte, kExtendedRequestSize>;

  // The header of a reply, in any of its three forms.
  struct Reply {
    bool simple = false;
    bool done = false;
    uint16_t type = 0;  // a Chunk
    uint64_t length = 0;
    uint32_t error = 0;  // of a simple reply
    Exchange* exchange = nullptr;
  };

  void send(Exchange& exchange);
  void encode(const Exchange& exchange, Header& header) const;
  [[nodiscard]] io::Task<void> send_queued();
  void sent(Exchange& exchange);

  [[nodiscard]] io::Task<void> receive_all();
  [[nodiscard]] io::Task<Result<Reply>> receive_header();
  [[nodiscard]] Exchange* find(uint64_t cookie) const;
  [[nodiscard]] io::Task<Result<void>> receive_reply();
  [[nodiscard]] io::Task<Result<void>> receive_data(Exchange& exchange, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> receive_hole(Exchange& exchange, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> receive_extents(Exchange& exchange, uint64_t length,
                                                       bool extended);
  [[nodiscard]] io::Task<Result<void>> receive_error(Exchange& exchange, uint64_t length);
  [[nodiscard]] Result<void> check_complete(const Exchange& exchange) const;
  void finish(Exchange& exchange);
  void break_off(const Error& why);

  io::Stream stream_;
  const ExportInfo info_;
  Receiver receiver_;
  bool alive_ = true;
  std::string reason_;
  std::size_t load_ = 0;
  io::Semaphore places_{kMaxInFlight};
  std::array<Exchange*, kMaxInFlight> slots_{};
  std::size_t in_flight_ = 0;
  uint64_t generation_ = 0;
  std::vector<Exchange*> queue_;  // to be sent
  bool sending_ = false;          // send_queued() runs
  bool started_ = false;          // receive_all() was started
  io::TaskGroup tasks_;
};

}  // namespace cairn::nbd::client
