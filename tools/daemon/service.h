// What the daemon tells a service manager that has started it (sd_notify(3)): that it is ready,
// that it ends, and that it is alive. Without one, nothing of this costs anything.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/cancel.h"
#include "io/fd.h"
#include "io/task.h"

namespace cairn::tools {

class ServiceManager {
 public:
  // Tells nobody.
  ServiceManager() = default;

  // From NOTIFY_SOCKET, and WATCHDOG_USEC with WATCHDOG_PID. Fails when NOTIFY_SOCKET is there and
  // names no socket. To be called before any fork, which would change the process that is watched.
  [[nodiscard]] static Result<ServiceManager> from_environment();

  // "READY=1" and the like, a line each. That nobody takes it is no failure of the daemon.
  void notify(std::string_view state) const;

  // Tells that the daemon is alive, twice as often as it must, until `token` is cancelled. From the
  // daemon's reactor, so that one which hangs falls silent. Ends at once when nobody asked for it.
  // The manager outlives the task.
  [[nodiscard]] io::Task<void> keep_alive(io::CancelToken token) const;

 private:
  io::Fd socket_;  // connected
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace cairn::tools
