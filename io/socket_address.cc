#include "io/socket_address.h"

#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "io/worker_pool.h"

namespace cairn::io {
namespace {

Result<ResolvedAddress> resolve_unix(const SocketAddress& address) {
  ResolvedAddress resolved;
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  // A name in the abstract namespace begins with a zero byte; a path ends with one, if there is
  // room.
  if (address.path.size() + (address.abstract ? 1 : 0) > sizeof un.sun_path) {
    Error error(EINVAL, fmt::format("UNIX socket path '{}' is too long", address.path));
    return std::unexpected(std::move(error).with_hint(
        fmt::format("Path must be less than {} bytes", sizeof un.sun_path)));
  }
  if (address.path.empty() || address.path.find('\0') != std::string::npos) {
    return fail(EINVAL, "A UNIX socket needs a path");
  }
  std::ranges::copy(address.path, un.sun_path + (address.abstract ? 1 : 0));
  const size_t name = std::min(address.path.size() + 1, sizeof un.sun_path);
  resolved.length = static_cast<socklen_t>(
      address.abstract && !address.tight ? sizeof un : offsetof(sockaddr_un, sun_path) + name);
  std::memcpy(&resolved.storage, &un, sizeof un);
  return resolved;
}

Result<uint32_t> parse_number(std::string_view what, const std::string& text) {
  uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return fail(EINVAL, "Failed to parse {} '{}'", what, text);
  }
  return number;
}

Result<ResolvedAddress> resolve_vsock(const SocketAddress& address) {
  auto cid = parse_number("cid", address.host);
  if (!cid) {
    return pass(cid);
  }
  auto port = parse_number("port", address.port);
  if (!port) {
    return pass(port);
  }
  sockaddr_vm vm{};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = *cid;
  vm.svm_port = *port;
  ResolvedAddress resolved;
  resolved.length = sizeof vm;
  std::memcpy(&resolved.storage, &vm, sizeof vm);
  return resolved;
}

int family_hint(SocketAddress::Family family) {
  switch (family) {
    case SocketAddress::Family::kIpv4:
      return AF_INET;
    case SocketAddress::Family::kIpv6:
      return AF_INET6;
    case SocketAddress::Family::kAny:
      break;
  }
  return AF_UNSPEC;
}

// Blocks while a name server is asked.
Result<std::vector<ResolvedAddress>> resolve_inet(const SocketAddress& address, bool passive) {
  addrinfo hints{};
  hints.ai_family = family_hint(address.family);
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  const int rc = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                             address.port.c_str(), &hints, &list);
  if (rc != 0) {
    return fail(rc == EAI_SYSTEM ? errno : EINVAL, "address resolution failed for {}:{}: {}",
                address.host, address.port, gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  std::vector<ResolvedAddress> resolved;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_addrlen > sizeof(sockaddr_storage)) {
      continue;
    }
    ResolvedAddress& one = resolved.emplace_back();
    one.length = entry->ai_addrlen;
    std::memcpy(&one.storage, entry->ai_addr, entry->ai_addrlen);
  }
  if (resolved.empty()) {
    return fail(EINVAL, "address resolution failed for {}: no usable address", address.to_string());
  }
  return resolved;
}

}  // namespace

SocketAddress SocketAddress::unix_path(std::string path) {
  SocketAddress address;
  address.kind = Kind::kUnix;
  address.path = std::move(path);
  return address;
}

SocketAddress SocketAddress::inet(std::string host, std::string port, Family family) {
  SocketAddress address;
  address.kind = Kind::kInet;
  address.host = std::move(host);
  address.port = std::move(port);
  address.family = family;
  return address;
}

SocketAddress SocketAddress::vsock(std::string cid, std::string port) {
  SocketAddress address;
  address.kind = Kind::kVsock;
  address.host = std::move(cid);
  address.port = std::move(port);
  return address;
}

SocketAddress SocketAddress::descriptor(int fd) {
  SocketAddress address;
  address.kind = Kind::kFd;
  address.fd = fd;
  return address;
}

std::string SocketAddress::to_string() const {
  switch (kind) {
    case Kind::kUnix:
      return "unix:" + path;
    case Kind::kVsock:
      return "vsock:" + host + ":" + port;
    case Kind::kFd:
      return "fd:" + std::to_string(fd);
    case Kind::kInet:
      break;
  }
  const bool bracket = host.find(':') != std::string::npos;
  return bracket ? "[" + host + "]:" + port : host + ":" + port;
}

SocketAddress ResolvedAddress::to_address() const {
  SocketAddress address;
  if (family() == AF_UNIX) {
    sockaddr_un un{};
    std::memcpy(&un, &storage, std::min<std::size_t>(length, sizeof un));
    const std::size_t head = offsetof(sockaddr_un, sun_path);
    const std::size_t size = length > head ? length - head : 0;
    address.abstract = size > 0 && un.sun_path[0] == '\0';
    const char* name = un.sun_path + (address.abstract ? 1 : 0);
    const std::size_t room = size - (address.abstract ? 1 : 0);
    address.path.assign(name, strnlen(name, room));
    return address;
  }
  if (family() == AF_VSOCK) {
    sockaddr_vm vm{};
    std::memcpy(&vm, &storage, sizeof vm);
    return SocketAddress::vsock(std::to_string(vm.svm_cid), std::to_string(vm.svm_port));
  }
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  address.kind = SocketAddress::Kind::kInet;
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&storage), length, host.data(), host.size(),
                  port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    address.host = host.data();
    address.port = port.data();
  }
  address.family =
      family() == AF_INET6 ? SocketAddress::Family::kIpv6 : SocketAddress::Family::kIpv4;
  return address;
}

Task<Result<std::vector<ResolvedAddress>>> resolve(SocketAddress address, bool passive) {
  if (address.kind == SocketAddress::Kind::kFd) {
    co_return fail(EINVAL, "A file descriptor is no address");
  }
  if (address.kind != SocketAddress::Kind::kInet) {
    auto resolved =
        address.kind == SocketAddress::Kind::kUnix ? resolve_unix(address) : resolve_vsock(address);
    if (!resolved) {
      co_return pass(resolved);
    }
    co_return std::vector{*resolved};
  }
  auto work =
      WorkerPool::shared().run([&address, passive] { return resolve_inet(address, passive); });
  co_return co_await work;
}

}  // namespace cairn::io
