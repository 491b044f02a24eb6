// Setting up, serving and ending.
#include "tools/daemon/daemon.h"

#include <fnmatch.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "chardev/command_line.h"
#include "io/cancel.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "monitor/job_events.h"
#include "monitor/setup.h"
#include "monitor/vote_events.h"
#include "objects/secret.h"
#include "objects/throttle_group.h"
#include "objects/tls_creds.h"
#include "schema/commands.h"
#include "schema/visit_monitor_options.h"
#include "schema/visit_qom.h"
#include "tools/common/drivers.h"
#include "tools/common/report.h"

namespace cairn::tools {

namespace {

// A T from the value of an option.
template <typename T>
Result<T> decode_option(std::string_view text, std::string_view implied_key) {
  auto parsed = parse_schema_text(text, implied_key);
  if (!parsed) {
    return pass(parsed);
  }
  const auto form = parsed->keyval ? schema::InputForm::kKeyval : schema::InputForm::kJson;
  return schema::decode<T>(parsed->value, form);
}

// Limits hold nobody up at the end: every drain lets go what they hold back. Until cancelled.
io::Task<void> let_requests_go(block::Graph& graph, io::CancelToken token) {
  constexpr auto kPause = std::chrono::milliseconds(20);
  for (bool again = true; again;) {
    co_await graph.drain_begin();
    graph.drain_end();
    again = co_await io::sleep_for(kPause, token);
  }
}

}  // namespace

Daemon::Daemon(std::string name, const DaemonOptions& options, const io::SignalWatcher& signals,
               const ServiceManager& manager, Background* background)
    : name_(std::move(name)),
      options_(options),
      signals_(signals),
      manager_(manager),
      background_(background),
      graph_(drivers_),
      exports_(graph_),
      nbd_server_(exports_),
      objects_(options.io),
      services_{.graph = graph_,
                .exports = exports_,
                .nbd_server = nbd_server_,
                .events = events_,
                .chardevs = chardevs_,
                .objects = objects_,
                .jobs = jobs_,
                .stop = stop_,
                .trace = {}} {
  register_all_drivers(drivers_);
  if (options_.daemonize) {
    chardevs_.forbid_stdio();
  }
  exports_.add_type(nbd_server_);
  exports_.add_type(fuse_exports_);
  exports_.add_type(ublk_exports_);
  exports_.add_type(vhost_user_exports_);
  exports_.set_find_thread(
      [this](const std::string& id) { return monitor::find_thread(objects_, id); });
  exports_.set_on_deleted([this](const std::string& id) {
    schema::BlockExportDeletedEvent data;
    data.id = id;
    events_.raise<schema::events::BlockExportDeleted>(data);
  });
  jobs_.set_events(monitor::make_job_events(events_));
  graph_.set_on_warning(
      [](std::string_view message, std::string_view advice) { report_warning(message, advice); });
  graph_.set_on_failure([](std::string_view message) { report_error(message); });
  graph_.set_on_vote([this](const block::VoteReport& report) { monitor::raise(events_, report); });
  graph_.set_credentials_lookup(
      [this](const std::string& id) { return objects::find_credentials(objects_, id, false); });
  graph_.set_throttle_lookup(
      [this](const std::string& id) { return objects::find_throttle(objects_, id); });
  graph_.set_secret_lookup(
      [this](const std::string& id) { return objects::find_secret(objects_, id); });
  chardevs_.set_tls({.credentials =
                         [this](const std::string& id, bool server) {
                           return objects::find_credentials(objects_, id, server);
                         },
                     .authorize =
                         [this](const std::string& id, const std::string& identity) {
                           return monitor::authorize(objects_, id, identity);
                         }});
  graph_.set_on_write_threshold(
      [this](const block::Node& node, uint64_t threshold, uint64_t exceeded) {
        schema::BlockWriteThresholdEvent data;
        data.node_name = node.name();
        data.amount_exceeded = exceeded;
        data.write_threshold = threshold;
        events_.raise<schema::events::BlockWriteThreshold>(data);
      });
  graph_.set_on_corruption([this](const block::Corruption& found) {
    schema::BlockImageCorruptedEvent data;
    data.node_name = found.node_name;
    data.msg = found.message;
    data.offset = found.offset;
    data.size = found.size;
    data.fatal = found.fatal;
    events_.raise<schema::events::BlockImageCorrupted>(data);
  });
}

io::Task<int> Daemon::run() {
  io::CancelSource watching;
  io::TaskGroup watcher;
  watcher.spawn(watch_signals(watching.token()));
  Result<void> done = co_await set_up();
  if (done) {
    watcher.spawn(manager_.keep_alive(watching.token()));
    co_await serve();
  } else if (stop_.is_set()) {
    // A signal came first, which is no failure.
    done = Result<void>();
  } else {
    report(done.error());
  }
  manager_.notify("STOPPING=1");
  watching.cancel();
  co_await watcher.join();
  const Result<void> ended = co_await tear_down();
  if (!ended) {
    report(ended.error());
  }
  pidfile_.reset();
  co_return done&& ended ? EXIT_SUCCESS : EXIT_FAILURE;
}

io::Task<Result<void>> Daemon::set_up() {
  Result<void> traced = enable_trace();
  if (!traced) {
    co_return traced;
  }
  nbd_server_.admit_clients(false);
  for (const Config& config : options_.configs) {
    Result<void> configured = co_await run_config(config, services_);
    if (!configured) {
      co_return configured;
    }
  }
  for (const SetupOption& option : options_.setup) {
    if (stop_.is_set()) {
      co_return fail(EINTR, "Ended by a signal");
    }
    Result<void> applied = co_await apply(option);
    if (!applied) {
      co_return pass(applied, option.spelled() + ": ");
    }
  }
  nbd_server_.admit_clients(true);
  if (options_.pidfile) {
    auto pidfile = PidFile::create(*options_.pidfile);
    if (!pidfile) {
      co_return pass(pidfile, "cannot create PID file: ");
    }
    pidfile_ = std::make_unique<PidFile>(std::move(*pidfile));
  }
  if (background_) {
    Result<void> detached = background_->ready();
    co_return detached;
  }
  co_return Result<void>();
}

// "[enable=]PATTERN": the names of what is reported.
Result<void> Daemon::enable_trace() {
  for (const std::string& text : options_.trace) {
    const std::string pattern = text.starts_with("enable=") ? text.substr(7) : text;
    if (pattern.find_first_of(",=") != pattern.npos) {
      return fail(EINVAL, "--trace {}: only '[enable=]PATTERN' is available", text);
    }
    const std::pair<const char*, bool*> switches[] = {
        {"qmp_command", &services_.trace.commands},
        {"qmp_reply", &services_.trace.replies},
        {"qmp_event", &services_.trace.events},
    };
    for (const auto& [event, enabled] : switches) {
      *enabled = *enabled || fnmatch(pattern.c_str(), event, 0) == 0;
    }
  }
  return {};
}

io::Task<Result<void>> Daemon::apply(const SetupOption& option) {
  Result<void> result;
  switch (option.kind) {
    case SetupOption::Kind::kBlockdev:
      result = co_await add_blockdev(option.text);
      break;
    case SetupOption::Kind::kChardev:
      result = co_await add_chardev(option.text);
      break;
    case SetupOption::Kind::kExport:
      result = co_await add_export(option.text);
      break;
    case SetupOption::Kind::kNbdServer:
      result = co_await start_nbd_server(option.text);
      break;
    case SetupOption::Kind::kMonitor:
      result = add_monitor(option.text);
      break;
    case SetupOption::Kind::kObject:
      result = add_object(option.text);
      break;
  }
  co_return result;
}

io::Task<Result<void>> Daemon::add_blockdev(std::string text) {
  const auto options = decode_option<schema::BlockdevOptions>(text, "driver");
  if (!options) {
    co_return std::unexpected(options.error());
  }
  Result<void> added = co_await monitor::add_node(services_, *options);
  co_return added;
}

io::Task<Result<void>> Daemon::add_chardev(std::string text) {
  auto parsed = chardev::parse_chardev(text);
  if (!parsed) {
    co_return pass(parsed);
  }
  for (const std::string& warning : parsed->warnings) {
    fmt::print(stderr, "{}: --chardev {}: warning: {}\n", name_, text, warning);
  }
  auto adding = chardevs_.add(parsed->id, parsed->backend);
  auto device = co_await std::move(adding);
  if (!device && device.error().code() == EEXIST && device.error().message().empty()) {
    co_return fail(EEXIST, "attempt to add duplicate property '{}' to object (type 'container')",
                   parsed->id);
  }
  if (!device) {
    co_return pass(device);
  }
  if (const std::string_view terminal = (*device)->terminal(); !terminal.empty()) {
    fmt::print("char device redirected to {} (label {})\n", terminal, parsed->id);
    std::fflush(stdout);
  }
  co_return Result<void>();
}

io::Task<Result<void>> Daemon::add_export(std::string text) {
  const auto options = decode_option<schema::BlockExportOptions>(text, "type");
  if (!options) {
    co_return std::unexpected(options.error());
  }
  Result<void> added = co_await exports_.add(*options);
  co_return added;
}

io::Task<Result<void>> Daemon::start_nbd_server(std::string text) {
  const auto options = decode_option<schema::NbdServerOptions>(text, "");
  if (!options) {
    co_return std::unexpected(options.error());
  }
  Result<void> started = co_await monitor::start_nbd_server(services_, *options);
  co_return started;
}

Result<void> Daemon::add_monitor(std::string_view text) {
  const auto options = decode_option<schema::MonitorOptions>(text, "chardev");
  if (!options) {
    return std::unexpected(options.error());
  }
  if (options->mode == schema::MonitorMode::kReadline) {
    return fail(ENOTSUP, "Only QMP is supported");
  }
  chardev::Device* device = chardevs_.find(options->chardev);
  if (!device) {
    return fail(ENOENT, "chardev \"{}\" not found", options->chardev);
  }
  if (device->in_use()) {
    return fail(EBUSY, "Device '{}' is in use", options->chardev);
  }
  monitors_.push_back(
      std::make_unique<monitor::Monitor>(services_, options->pretty.value_or(false)));
  device->attach(*monitors_.back());
  return {};
}

Result<void> Daemon::add_object(std::string_view text) {
  const auto options = decode_option<schema::ObjectOptions>(text, "qom-type");
  if (!options) {
    return std::unexpected(options.error());
  }
  return objects_.add(*options);
}

io::Task<void> Daemon::serve() {
  chardevs_.start();
  manager_.notify("READY=1");
  co_await stop_.wait();
}

io::Task<void> Daemon::watch_signals(io::CancelToken token) {
  const Result<int> signal = co_await signals_.next(token);
  if (signal) {
    stop_.set();
    // Setting up may wait for a client.
    chardevs_.give_up_opening();
  }
}

io::Task<Result<void>> Daemon::tear_down() {
  co_await jobs_.close();
  co_await chardevs_.stop();
  co_await jobs_.close();  // those of commands that were under way
  monitors_.clear();
  io::CancelSource removed;
  io::TaskGroup group;
  group.spawn(let_requests_go(graph_, removed.token()));
  co_await exports_.remove_all();
  removed.cancel();
  co_await group.join();
  if (nbd_server_.running()) {
    const Result<void> stopped = co_await nbd_server_.stop();
    static_cast<void>(stopped);
  }
  Result<void> closed = co_await graph_.close_all();
  co_return closed;
}

void Daemon::report(const Error& error) const {
  fmt::print(stderr, "{}: {}\n", name_, error.message());
  if (!error.hint().empty()) {
    fmt::print(stderr, "{}\n", error.hint());
  }
}

}  // namespace cairn::tools
