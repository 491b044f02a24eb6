// Where a monitor listens, as people write it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "io/fd.h"

namespace cairn::ctl {

struct MonitorAddress {
  bool is_unix = true;
  std::string path;  // of a Unix socket
  std::string host;
  std::string port;

  [[nodiscard]] std::string to_string() const;
};

// "PATH", "unix:PATH", "HOST:PORT", "[HOST]:PORT", "tcp:HOST:PORT". What has a slash, or no colon,
// is a path.
[[nodiscard]] Result<MonitorAddress> parse_monitor_address(std::string_view text);

// Connects, blocking; tries each address that a host name has.
[[nodiscard]] Result<io::Fd> connect_to(const MonitorAddress& address);

}  // namespace cairn::ctl
