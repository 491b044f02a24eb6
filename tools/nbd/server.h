// cairn-nbd as a server: everything it owns while it runs, and the order in which it comes and
// goes.
//
// It listens before the image is opened, and lets clients in when all is set up. It ends by a
// signal; with a device of the kernel when that is disconnected; without one when the last client
// has left, unless it is to persist.
#pragma once

#include <memory>
#include <optional>

#include "base/result.h"
#include "chardev/registry.h"
#include "exports/export.h"
#include "exports/nbd/server.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/signal.h"
#include "io/task.h"
#include "jobs/job_list.h"
#include "monitor/events.h"
#include "monitor/services.h"
#include "tools/common/process.h"
#include "tools/common/session.h"
#include "tools/nbd/options.h"
#include "tools/nbd/served_device.h"

namespace cairn::tools {

class NbdServer {
 public:
  // All outlive the server; `background` may be null. `descriptor`: a socket that a service manager
  // has passed.
  NbdServer(Session& session, const NbdOptions& options, const io::SignalWatcher& signals,
            Background* background, std::optional<int> descriptor);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // The exit code.
  [[nodiscard]] io::Task<int> run();

 private:
  [[nodiscard]] io::Task<Result<void>> set_up();
  [[nodiscard]] io::Task<Result<void>> listen();
  [[nodiscard]] io::Task<Result<void>> add_export();
  [[nodiscard]] io::Task<void> watch_signals(io::CancelToken token);
  [[nodiscard]] io::Task<Result<void>> tear_down();

  block::Graph& graph_;
  const NbdOptions& options_;
  const io::SignalWatcher& signals_;
  Background* background_;
  const std::optional<int> descriptor_;

  exports::ExportRegistry exports_;
  nbd::Server nbd_server_;
  monitor::EventHub events_;
  chardev::Registry chardevs_;
  jobs::JobList jobs_;
  io::Event stop_;
  monitor::Services services_;
  ServedDevice device_;
  std::unique_ptr<block::Edge> root_;  // of what is exported
  std::optional<PidFile> pid_file_;
};

// Serves the image that the options name, on the passed socket if there is one; the exit code.
[[nodiscard]] int serve_image(const NbdOptions& options, std::optional<int> descriptor);

}  // namespace cairn::tools
