#include "tools/nbd_activation.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "tools/common_report.h"

namespace cairn::tools {
namespace {

// Descriptors that a service manager passes begin with this one: sd_listen_fds(3).
constexpr int kFirstPassed = 3;

// How many sockets a service manager has passed. They are for this process alone.
int count_passed_sockets() {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    int value = 0;
    if (text != nullptr) {
      std::from_chars(text, text + std::strlen(text), value);
    }
    return value;
  };
  const int count = number("LISTEN_PID") == getpid() ? number("LISTEN_FDS") : 0;
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  return count;
}

}  // namespace

Result<std::optional<int>> take_passed_socket(const NbdOptions& options) {
  const int count = count_passed_sockets();
  if (count <= 0) {
    return std::nullopt;
  }
  if (auto usable = check_activation(options); !usable) {
    return pass(usable);
  }
  if (count > 1) {
    return fail(EINVAL, "{} does not support socket activation with LISTEN_FDS > 1",
                program_name());
  }
  return kFirstPassed;
}

}  // namespace cairn::tools
