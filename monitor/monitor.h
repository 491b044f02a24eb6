// Monitor: QMP with the clients of one character device.
#pragma once

#include "chardev/connection.h"
#include "chardev/device.h"
#include "io/cancel.h"
#include "io/task.h"
#include "monitor/services.h"

namespace cairn::monitor {

class Monitor final : public chardev::Frontend {
 public:
  // The services outlive the monitor. `pretty`: lay out what is sent for people.
  Monitor(Services& services, bool pretty) : services_(services), pretty_(pretty) {}

  [[nodiscard]] io::Task<void> serve(chardev::Connection& connection,
                                     io::CancelToken token) override;

 private:
  Services& services_;
  const bool pretty_;
};

}  // namespace cairn::monitor
