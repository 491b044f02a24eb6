#include "tools/ctl/address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace cairn::ctl {

namespace {

Result<MonitorAddress> parse_tcp(std::string_view text, std::string_view whole) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || colon == 0 || colon + 1 == text.size()) {
    return fail(EINVAL, "'{}' is no address: a host and a port are written HOST:PORT", whole);
  }
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  MonitorAddress address;
  address.is_unix = false;
  address.host = host;
  address.port = text.substr(colon + 1);
  return address;
}

Result<io::Fd> connect_unix(const MonitorAddress& address) {
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  if (address.path.empty() || address.path.size() >= sizeof un.sun_path) {
    return fail(EINVAL, "'{}' is too long or too short for the path of a socket", address.path);
  }
  std::ranges::copy(address.path, un.sun_path);
  io::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || connect(fd.get(), reinterpret_cast<const sockaddr*>(&un), sizeof un) != 0) {
    return fail_errno(errno, "Cannot connect to '{}'", address.path);
  }
  return fd;
}

}  // namespace

std::string MonitorAddress::to_string() const {
  if (is_unix) {
    return path;
  }
  const bool bracket = host.find(':') != host.npos;
  return (bracket ? "[" + host + "]" : host) + ":" + port;
}

Result<MonitorAddress> parse_monitor_address(std::string_view text) {
  if (text.starts_with("tcp:")) {
    return parse_tcp(text.substr(4), text);
  }
  MonitorAddress address;
  if (text.starts_with("unix:")) {
    address.path = text.substr(5);
    return address;
  }
  if (text.empty()) {
    return fail(EINVAL, "The address of the monitor is empty");
  }
  if (text.find('/') == text.npos && text.find(':') != text.npos) {
    return parse_tcp(text, text);
  }
  address.path = text;
  return address;
}

Result<io::Fd> connect_to(const MonitorAddress& address) {
  if (address.is_unix) {
    return connect_unix(address);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int rc = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &list);
  if (rc != 0) {
    return fail(EINVAL, "Cannot find '{}': {}", address.to_string(), gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  int code = EADDRNOTAVAIL;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    io::Fd fd(socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, entry->ai_protocol));
    if (fd.valid() && connect(fd.get(), entry->ai_addr, entry->ai_addrlen) == 0) {
      return fd;
    }
    code = errno;
  }
  return fail_errno(code, "Cannot connect to '{}'", address.to_string());
}

}  // namespace cairn::ctl
