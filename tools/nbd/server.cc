// Setting up, serving and ending.
#include "tools/nbd/server.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <utility>

#include "io/fd.h"
#include "io/task_group.h"
#include "monitor/setup.h"
#include "objects/tls_creds.h"
#include "schema/json.h"
#include "schema/visit_block_export.h"
#include "tools/common/object.h"
#include "tools/common/report.h"
#include "tools/nbd/image.h"

namespace cairn::tools {
namespace {

using schema::JsonObject;
using schema::JsonValue;

// Where the kernel comes, and others may, too, unless the options name another place: the field's.
std::string listening_path(const NbdOptions& options) {
  const std::string& device = options.device;
  return options.socket_path.value_or("/var/lock/qemu-nbd-" + device.substr(device.rfind('/') + 1));
}

JsonValue listening_address(const NbdOptions& options, std::optional<int> descriptor) {
  JsonObject object;
  if (descriptor) {
    object.add("type", "fd");
    object.add("str", std::to_string(*descriptor));
  } else if (options.socket_path || !options.device.empty()) {
    object.add("type", "unix");
    object.add("path", listening_path(options));
  } else {
    object.add("type", "inet");
    object.add("host", options.host());
    object.add("port", options.port_text());
  }
  return JsonValue(std::move(object));
}

}  // namespace

NbdServer::NbdServer(Session& session, const NbdOptions& options, const io::SignalWatcher& signals,
                     Background* background, std::optional<int> descriptor)
    : graph_(session.graph()),
      options_(options),
      signals_(signals),
      background_(background),
      descriptor_(descriptor),
      exports_(graph_),
      nbd_server_(exports_),
      services_{.graph = graph_,
                .exports = exports_,
                .nbd_server = nbd_server_,
                .events = events_,
                .chardevs = chardevs_,
                .objects = program_objects(),
                .jobs = jobs_,
                .stop = stop_,
                .trace = {}},
      device_(stop_) {
  exports_.add_type(nbd_server_);
  nbd_server_.admit_clients(false);
  if (!options_.persistent && options_.device.empty()) {
    nbd_server_.set_on_client_left([this](std::size_t remaining) {
      if (remaining == 0) {
        // Who waits in the queue is too late.
        nbd_server_.admit_clients(false);
        stop_.set();
      }
    });
  }
}

io::Task<int> NbdServer::run() {
  io::CancelSource watching;
  io::TaskGroup watcher;
  watcher.spawn(watch_signals(watching.token()));
  Result<void> done = co_await set_up();
  if (done) {
    co_await stop_.wait();
  } else {
    report_error(done.error());
  }
  watching.cancel();
  co_await watcher.join();
  const Result<void> ended = co_await tear_down();
  if (!ended) {
    report_error(ended.error());
  }
  co_return done&& ended ? EXIT_SUCCESS : EXIT_FAILURE;
}

io::Task<Result<void>> NbdServer::set_up() {
  for (const std::string& definition : options_.objects) {
    Result<void> added = tools::add_object(definition);
    if (!added) {
      co_return added;
    }
  }
  Result<void> done = co_await listen();
  if (done) {
    auto root = co_await open_served(graph_, options_);
    if (root) {
      root_ = std::move(*root);
    } else {
      done = pass(root);
    }
  }
  if (done) {
    done = co_await add_export();
  }
  if (done && !options_.device.empty()) {
    nbd_server_.admit_clients(true);
    done = co_await device_.connect(options_);
  }
  if (done && !options_.pid_file.empty()) {
    auto pid_file = PidFile::create(options_.pid_file, PidFile::AtEnd::kKeep);
    if (pid_file) {
      pid_file_.emplace(std::move(*pid_file));
    } else {
      done = pass(pid_file);
    }
  }
  if (done && background_ != nullptr) {
    done = background_->ready();
  }
  if (done) {
    nbd_server_.admit_clients(true);
  }
  co_return done;
}

io::Task<Result<void>> NbdServer::listen() {
  JsonObject object;
  object.add("addr", listening_address(options_, descriptor_));
  object.add("max-connections", static_cast<int64_t>(options_.shared));
  object.add("handshake-max-seconds", static_cast<int64_t>(options_.handshake_limit));
  if (options_.tls_creds) {
    const auto credentials =
        objects::find_credentials(services_.objects, *options_.tls_creds, true);
    if (!credentials) {
      co_return fail(credentials.error().code(), "Failed to get TLS creds: {}",
                     credentials.error().message());
    }
    object.add("tls-creds", *options_.tls_creds);
  }
  if (options_.tls_authz) {
    object.add("tls-authz", *options_.tls_authz);
  }
  const JsonValue value(std::move(object));
  const auto server = schema::decode<schema::NbdServerOptions>(value);
  if (!server) {
    co_return std::unexpected(server.error());
  }
  Result<void> started = co_await monitor::start_nbd_server(services_, *server);
  if (started && !options_.device.empty()) {
    started = co_await device_.reach(listening_path(options_));
  }
  if (!started && descriptor_) {
    co_return pass(started, "Failed to use socket activation: ");
  }
  co_return started;
}

io::Task<Result<void>> NbdServer::add_export() {
  JsonObject object;
  object.add("type", "nbd");
  object.add("id", "cairn-nbd");
  object.add("node-name", root_->node().name());
  object.add("name", options_.export_name.value_or(""));
  object.add("writable", !options_.read_only);
  object.add("writethrough", options_.cache.writethrough);
  if (options_.description) {
    object.add("description", *options_.description);
  }
  if (options_.allocation_depth) {
    object.add("allocation-depth", true);
  }
  if (!options_.bitmaps.empty()) {
    schema::JsonArray bitmaps;
    for (const std::string& name : options_.bitmaps) {
      bitmaps.push_back(name);
    }
    object.add("bitmaps", std::move(bitmaps));
  }
  const JsonValue value(std::move(object));
  const auto exported = schema::decode<schema::BlockExportOptions>(value);
  if (!exported) {
    co_return std::unexpected(exported.error());
  }
  Result<void> added = co_await services_.exports.add(*exported);
  co_return added;
}

io::Task<void> NbdServer::watch_signals(io::CancelToken token) {
  const Result<int> signal = co_await signals_.next(token);
  if (signal) {
    stop_.set();
  }
}

io::Task<Result<void>> NbdServer::tear_down() {
  Result<void> served = co_await device_.end();
  if (nbd_server_.running()) {
    const Result<void> stopped = co_await nbd_server_.stop();
    static_cast<void>(stopped);
  }
  if (!root_) {
    co_return served;
  }
  Result<void> closed = co_await graph_.detach(std::move(root_));
  co_return served ? closed : served;
}

namespace {

Result<int> run_server(const NbdOptions& options, std::optional<int> descriptor) {
  std::optional<Background> background;
  if (options.fork || (!options.device.empty() && !options.verbose)) {
    auto entered = Background::enter();
    if (!entered) {
      return pass(entered);
    }
    background.emplace(std::move(*entered));
  }
  if (options.selinux_label) {
    return fail(ENOTSUP,
                "Cannot set SELinux socket create context to {}: this version has no support for "
                "SELinux",
                *options.selinux_label);
  }
  std::signal(SIGPIPE, SIG_IGN);
  // Asks other tools for their progress.
  std::signal(SIGUSR1, SIG_IGN);
  const auto signals = io::SignalWatcher::create({SIGINT, SIGTERM, SIGHUP});
  if (!signals) {
    return std::unexpected(signals.error());
  }
  const auto session = Session::create();
  if (!session) {
    return std::unexpected(session.error());
  }
  (*session)->reactor().set_polling(io::serving_poll_settings());
  NbdServer server(**session, options, *signals, background ? &*background : nullptr, descriptor);
  return (*session)->run(server.run());
}

}  // namespace

int serve_image(const NbdOptions& options, std::optional<int> descriptor) {
  const Result<int> code = run_server(options, descriptor);
  if (!code) {
    report_error(code.error());
    return EXIT_FAILURE;
  }
  return *code;
}

}  // namespace cairn::tools
