// The NBD server: listens on one address and serves every export of type "nbd" to any number of
// clients, by the public specification (NetworkBlockDevice/nbd, doc/proto.md).
//
// Invariants
// - While it does not run there are no NBD exports and no connections.
// - A connection belongs to the server from accept() until its last reply is sent or dropped.
// - On the graph's home reactor only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "exports/export.h"
#include "io/event.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls.h"

namespace cairn::nbd {

struct ServerOptions {
  io::SocketAddress address;
  // Clients at a time; more wait in the listen queue. 0: no limit.
  uint32_t max_connections = 100;
  // From accept() until the client has chosen an export. 0: no limit.
  uint32_t handshake_max_seconds = 10;
  // Clients get nothing without TLS then. Null: no TLS.
  std::shared_ptr<const io::TlsCredentials> tls = {};
  // Judges the distinguished name of a client's certificate; empty: every good one gets in.
  std::function<Result<void>(const std::string& identity)> authorize = {};
  // Hears why TLS with a client came to nothing; may be empty.
  std::function<void(std::string_view reason)> on_refused = {};
};

class Server final : public exports::ExportType {
 public:
  // Both outlive the server; the caller adds the server to the registry's types.
  explicit Server(exports::ExportRegistry& registry);
  // stop() first.
  ~Server() override;

  // nbd-server-start: listens. Fails when it runs already or the address can not be listened on.
  [[nodiscard]] io::Task<Result<void>> start(ServerOptions options);

  // nbd-server-stop: stops listening, removes the exports, disconnects what is left. Fails when it
  // does not run.
  [[nodiscard]] io::Task<Result<void>> stop();

  [[nodiscard]] bool running() const;

  // While off, clients wait in the listen queue. For a daemon that starts: who connects as soon as
  // the socket is there must find the exports that the command line goes on to make. On at first.
  void admit_clients(bool on) { on ? admitting_.set() : admitting_.reset(); }

  // Called when a client has left that had used an export, with the number of clients that are
  // still there, whether they use one yet or not.
  void set_on_client_left(std::function<void(std::size_t remaining)> callback) {
    on_client_left_ = std::move(callback);
  }

  // ExportType
  [[nodiscard]] std::string_view name() const override { return "nbd"; }
  [[nodiscard]] Result<void> check_ready() const override;
  [[nodiscard]] block::PermissionSet shared_permissions() const override;
  [[nodiscard]] io::Task<Result<std::unique_ptr<exports::Export>>> create(
      const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
      std::unique_ptr<block::Edge>& root) override;

 private:
  struct State;  // server.cc

  exports::ExportRegistry& registry_;
  io::Event admitting_{true};
  std::function<void(std::size_t remaining)> on_client_left_;
  bool starting_ = false;
  std::unique_ptr<State> state_;  // null while it does not run
};

}  // namespace cairn::nbd
