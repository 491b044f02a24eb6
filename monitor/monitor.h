// Monitor: QMP on one character device: one client after the other.
#pragma once

#include "io/cancel.h"
#include "io/mutex.h"
#include "io/socket.h"
#include "io/task.h"
#include "monitor/chardev.h"
#include "monitor/connection.h"
#include "monitor/services.h"

namespace cairn::monitor {

class Monitor {
 public:
  // All outlive the monitor. `pretty`: lay out what is sent for people.
  Monitor(Services& services, Chardev& chardev, bool pretty)
      : services_(services), chardev_(chardev), pretty_(pretty) {}

  // Serves until `token` is cancelled. A client that comes while another one is served waits,
  // without a greeting, until that one has gone.
  [[nodiscard]] io::Task<void> run(io::CancelToken token);

 private:
  [[nodiscard]] io::Task<void> serve(Connection connection, io::CancelToken token);
  [[nodiscard]] io::Task<void> accept_clients(const io::Listener& listener, io::CancelToken token);

  Services& services_;
  Chardev& chardev_;
  const bool pretty_;
  io::AsyncMutex turn_;  // held by the client that is being served
};

}  // namespace cairn::monitor
