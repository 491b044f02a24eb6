// Daemon: everything that cairnd owns while it runs, and the order in which it comes and goes.
//
// Setup follows the configuration files, then the command line. The end, whether asked for by quit,
// by a signal or by a failure during setup, goes the other way: monitors, exports, the NBD server,
// nodes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/driver_table.h"
#include "block/graph.h"
#include "chardev/registry.h"
#include "exports/export.h"
#include "exports/fuse/fuse_export.h"
#include "exports/nbd/server.h"
#include "exports/ublk/ublk_export.h"
#include "exports/vhost_user/vhost_user_export.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/signal.h"
#include "io/task.h"
#include "monitor/events.h"
#include "monitor/monitor.h"
#include "monitor/services.h"
#include "objects/registry.h"
#include "tools/common/process.h"
#include "tools/daemon/options.h"
#include "tools/daemon/service.h"

namespace cairn::tools {

class Daemon {
 public:
  // `name` is the name the program was called by, for messages. All outlive the daemon;
  // `background` may be null.
  Daemon(std::string name, const DaemonOptions& options, const io::SignalWatcher& signals,
         const ServiceManager& manager, Background* background);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // The exit code.
  [[nodiscard]] io::Task<int> run();

 private:
  [[nodiscard]] Result<void> enable_trace();
  [[nodiscard]] io::Task<Result<void>> set_up();
  [[nodiscard]] io::Task<Result<void>> apply(const SetupOption& option);
  [[nodiscard]] io::Task<Result<void>> add_blockdev(std::string text);
  [[nodiscard]] io::Task<Result<void>> add_chardev(std::string text);
  [[nodiscard]] io::Task<Result<void>> add_export(std::string text);
  [[nodiscard]] io::Task<Result<void>> start_nbd_server(std::string text);
  [[nodiscard]] Result<void> add_monitor(std::string_view text);
  [[nodiscard]] Result<void> add_object(std::string_view text);
  [[nodiscard]] io::Task<void> serve();
  [[nodiscard]] io::Task<void> watch_signals(io::CancelToken token);
  [[nodiscard]] io::Task<Result<void>> tear_down();
  void report(const Error& error) const;

  std::string name_;
  const DaemonOptions& options_;
  const io::SignalWatcher& signals_;
  const ServiceManager& manager_;
  Background* background_;

  block::DriverTable drivers_;
  block::Graph graph_;
  exports::ExportRegistry exports_;
  nbd::Server nbd_server_;
  fuse::FuseExports fuse_exports_;
  ublk::UblkExports ublk_exports_;
  vhost_user::VhostUserExports vhost_user_exports_;
  monitor::EventHub events_;
  chardev::Registry chardevs_;
  objects::Registry objects_;
  jobs::JobList jobs_;
  io::Event stop_;
  monitor::Services services_;
  std::vector<std::unique_ptr<monitor::Monitor>> monitors_;
  std::unique_ptr<PidFile> pidfile_;
};

}  // namespace cairn::tools
