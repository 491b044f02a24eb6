#include "exports/nbd/server.h"

#include <cassert>
#include <cerrno>
#include <unordered_set>
#include <utility>
#include <vector>

#include "exports/nbd/connection.h"
#include "exports/nbd/export_options.h"
#include "exports/nbd/nbd_export.h"
#include "exports/nbd/station.h"
#include "io/call_on.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task_group.h"
#include "io/timer.h"

namespace cairn::nbd {
namespace {

// How often idle clients are looked for, to take back their memory.
constexpr io::Duration kTidyInterval = std::chrono::seconds(5);
// How long accepting pauses when there is no descriptor left.
constexpr io::Duration kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

// One run of the server, from start() to stop().
struct Server::State {
  State(ServerOptions what, const std::function<void(std::size_t)>& client_left)
      : options(std::move(what)),
        gate{.handshake_limit = std::chrono::seconds(options.handshake_max_seconds),
             .tls = options.tls,
             .authorize = options.authorize,
             .on_refused = options.on_refused},
        on_client_left(client_left) {}

  // Both are the server's and outlive the task.
  io::Task<void> accept_loop(const io::Listener& listener, io::Event& admitting);
  io::Task<void> serve(io::Stream stream);
  io::Task<void> tidy();
  void stop_clients();
  // Where an export is served whose settings name this thread (null: none).
  std::shared_ptr<Station> station(const std::shared_ptr<io::Reactor>& thread);
  [[nodiscard]] bool full() const {
    return options.max_connections != 0 && clients.size() >= options.max_connections;
  }

  const ServerOptions options;
  const Gate gate;
  const std::function<void(std::size_t)>& on_client_left;  // the server's
  const std::shared_ptr<Station> home = std::make_shared<Station>();
  std::vector<std::weak_ptr<Station>> stations;  // those that are away
  ExportList exports;
  std::vector<io::Listener> listeners;
  std::unordered_set<Connection*> clients;
  io::CancelSource over;
  io::Event slot_free;
  io::TaskGroup acceptors;
  io::TaskGroup client_tasks;
  io::TaskGroup tidier;
  bool stopping = false;
};

Server::Server(exports::ExportRegistry& registry) : registry_(registry) {}

Server::~Server() { assert(state_ == nullptr && "stop() first"); }

bool Server::running() const { return state_ != nullptr && !state_->stopping; }

block::PermissionSet Server::shared_permissions() const {
  // Clients are told the size once, so nobody may change it.
  return block::PermissionSet::all().without(block::PermissionSet::kResize);
}

io::Task<Result<void>> Server::start(ServerOptions options) {
  if (starting_ || state_ != nullptr) {
    co_return fail(EEXIST, "NBD server already running");
  }
  starting_ = true;
  auto listeners = co_await io::Listener::listen(options.address);
  starting_ = false;
  if (!listeners) {
    co_return pass(listeners);
  }
  state_ = std::make_unique<State>(std::move(options), on_client_left_);
  state_->listeners = std::move(*listeners);
  // With a single connection there is nothing to be shared between several.
  state_->exports.set_multi_conn(state_->options.max_connections != 1);
  for (const io::Listener& listener : state_->listeners) {
    state_->acceptors.spawn(state_->accept_loop(listener, admitting_));
  }
  co_return Result<void>{};
}

Result<void> Server::check_ready() const {
  return running() ? Result<void>() : fail(ENOTCONN, "NBD server not running");
}

io::Task<Result<void>> Server::stop() {
  if (auto ready = check_ready(); !ready) {
    co_return ready;
  }
  state_->stopping = true;
  state_->over.cancel();
  co_await state_->acceptors.join();
  state_->listeners.clear();
  co_await registry_.remove_all(name());
  state_->stop_clients();  // those that are still in their handshake
  co_await state_->client_tasks.join();
  co_await state_->tidier.join();
  state_.reset();
  co_return Result<void>{};
}

io::Task<Result<std::unique_ptr<exports::Export>>> Server::create(
    const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
    std::unique_ptr<block::Edge>& root) {
  if (auto ready = check_ready(); !ready) {
    co_return pass(ready);
  }
  auto view = make_view(options, settings, *root);
  if (!view) {
    co_return pass(view);
  }
  if (state_->exports.find(view->name) != nullptr) {
    co_return fail(EEXIST, "NBD server already has export named '{}'", view->name);
  }
  co_return std::make_unique<NbdExport>(state_->exports, settings, std::move(root),
                                        std::move(*view), state_->station(settings.thread));
}

io::Task<void> Server::State::accept_loop(const io::Listener& listener, io::Event& admitting) {
  while (!over.cancelled()) {
    (void)co_await admitting.wait(over.token());
    if (full()) {
      slot_free.reset();
      (void)co_await slot_free.wait(over.token());
      continue;
    }
    Result<io::Stream> stream = co_await listener.accept(over.token());
    if (stream) {
      stream->set_no_delay(true);
      client_tasks.spawn(serve(std::move(*stream)));
    } else if (!over.cancelled()) {
      (void)co_await io::sleep_for(kAcceptPause, over.token());
    }
  }
}

io::Task<void> Server::State::serve(io::Stream stream) {
  Connection connection(std::move(stream), exports, gate);
  clients.insert(&connection);
  if (tidier.running() == 0) {
    tidier.spawn(tidy());
  }
  co_await connection.run();
  clients.erase(&connection);
  if (connection.served() && on_client_left) {
    on_client_left(clients.size());
  }
  slot_free.set();
}

// Runs while there are clients.
io::Task<void> Server::State::tidy() {
  while (!over.cancelled() && !clients.empty()) {
    (void)co_await io::sleep_for(kTidyInterval, over.token());
    co_await home->tidy();
    const std::vector<std::weak_ptr<Station>> away = stations;
    for (const std::weak_ptr<Station>& one : away) {
      if (const std::shared_ptr<Station> there = one.lock()) {
        auto tidying = io::call_on(there->reactor(), [&there] { return there->tidy(); });
        co_await tidying;
      }
    }
  }
}

std::shared_ptr<Station> Server::State::station(const std::shared_ptr<io::Reactor>& thread) {
  if (thread == nullptr) {
    return home;
  }
  std::erase_if(stations, [](const std::weak_ptr<Station>& one) { return one.expired(); });
  for (const std::weak_ptr<Station>& one : stations) {
    if (std::shared_ptr<Station> there = one.lock(); &there->reactor() == thread.get()) {
      return there;
    }
  }
  auto made = std::make_shared<Station>(thread);
  stations.push_back(made);
  return made;
}

void Server::State::stop_clients() {
  for (Connection* client : clients) {
    client->stop();
  }
}

}  // namespace cairn::nbd
