#include "tools/daemon/service.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "io/timer.h"

namespace cairn::tools {

namespace {

std::optional<int64_t> number_from(const char* variable) {
  const char* text = std::getenv(variable);
  const std::string_view digits = text ? text : "";
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(number) : std::nullopt;
}

}  // namespace

Result<ServiceManager> ServiceManager::from_environment() {
  ServiceManager manager;
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (!path || *path == '\0') {
    return manager;
  }
  const std::string_view name = path;
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  // '@' stands for the zero byte that begins a name in the abstract namespace.
  if ((name[0] != '/' && name[0] != '@') || name.size() >= sizeof un.sun_path) {
    return fail(EINVAL, "NOTIFY_SOCKET names no socket: '{}'", name);
  }
  std::ranges::copy(name, un.sun_path);
  if (name[0] == '@') {
    un.sun_path[0] = '\0';
  }
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() +
                                             (name[0] == '/' ? 1 : 0));
  manager.socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!manager.socket_.valid() ||
      connect(manager.socket_.get(), reinterpret_cast<const sockaddr*>(&un), length) != 0) {
    return fail_errno(errno, "Could not connect to NOTIFY_SOCKET '{}'", name);
  }
  const auto watchdog = number_from("WATCHDOG_USEC");
  if (watchdog && *watchdog > 0 && number_from("WATCHDOG_PID").value_or(getpid()) == getpid()) {
    manager.watchdog_ = std::chrono::microseconds(*watchdog);
  }
  return manager;
}

void ServiceManager::notify(std::string_view state) const {
  if (socket_.valid()) {
    // A manager that is behind does not stop the daemon.
    send(socket_.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

io::Task<void> ServiceManager::keep_alive(io::CancelToken token) const {
  if (!watchdog_) {
    co_return;
  }
  // READY=1 has just said it for the first time.
  while (!token.cancelled()) {
    const bool woken = co_await io::sleep_for(*watchdog_ / 2, token);
    if (woken) {
      notify("WATCHDOG=1");
    }
  }
}

}  // namespace cairn::tools
