// What the schema can say about an address and the I/O layer can not do is not in the schema.
#include "chardev/address.h"

#include <netdb.h>

#include <cerrno>
#include <charconv>
#include <variant>

#include "io/passed_descriptors.h"

namespace cairn::chardev {

namespace {

// The words are those of a look-up that fails.
Result<void> check_listening(const schema::InetSocketAddress& inet) {
  if (inet.numeric.value_or(false) && !inet.host.empty()) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST;
    addrinfo* list = nullptr;
    const int rc = getaddrinfo(inet.host.c_str(), nullptr, &hints, &list);
    if (rc != 0) {
      return fail(EINVAL, "address resolution failed for {}:{}: {}", inet.host, inet.port,
                  gai_strerror(rc));
    }
    freeaddrinfo(list);
  }
  uint16_t port = 0;
  const char* end = inet.port.data() + inet.port.size();
  const auto parsed = std::from_chars(inet.port.data(), end, port);
  if (inet.to && parsed.ec == std::errc() && parsed.ptr == end && *inet.to < port) {
    return fail(EINVAL, "Failed to create a socket");
  }
  return {};
}

Result<io::SocketAddress> convert(const schema::InetSocketAddress& inet, Use use) {
  using Family = io::SocketAddress::Family;
  // One family that is asked for excludes the other, unless that is asked for, too.
  const bool want4 = inet.ipv4.value_or(!inet.ipv6.value_or(false));
  const bool want6 = inet.ipv6.value_or(!inet.ipv4.value_or(false));
  if (!want4 && !want6) {
    return fail(EINVAL, "Cannot disable IPv4 and IPv6 at same time");
  }
  if (use == Use::kListen) {
    if (auto checked = check_listening(inet); !checked) {
      return pass(checked);
    }
  }
  const Family family = want4 && want6 ? Family::kAny : want4 ? Family::kIpv4 : Family::kIpv6;
  io::SocketAddress result = io::SocketAddress::inet(inet.host, inet.port, family);
  result.last_port = inet.to.value_or(0);
  result.mptcp = inet.mptcp.value_or(false);
  if (inet.keep_alive.value_or(false)) {
    result.keep_alive = io::KeepAlive{.count = inet.keep_alive_count.value_or(0),
                                      .idle = inet.keep_alive_idle.value_or(0),
                                      .interval = inet.keep_alive_interval.value_or(0)};
  }
  return result;
}

Result<io::SocketAddress> convert(const schema::UnixSocketAddress& address, Use /*use*/) {
  io::SocketAddress result = io::SocketAddress::unix_path(address.path);
  result.abstract = address.abstract.value_or(false);
  result.tight = address.tight.value_or(true);
  return result;
}

Result<io::SocketAddress> convert(const schema::VsockSocketAddress& address, Use /*use*/) {
  return io::SocketAddress::vsock(address.cid, address.port);
}

Result<io::SocketAddress> convert(const schema::FdSocketAddress& address, Use /*use*/) {
  int number = -1;
  const char* end = address.str.data() + address.str.size();
  const auto parsed = std::from_chars(address.str.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number < 0) {
    auto passed = io::find_passed_descriptor(address.str);
    if (passed) {
      return io::SocketAddress::descriptor(*passed);
    }
    return passed.error().code() == ENOENT
               ? fail(EINVAL, "Unable to parse FD number {}", address.str)
               : pass(passed);
  }
  return io::SocketAddress::descriptor(number);
}

Result<void> check_type(schema::SocketAddressType type) {
  if (type == schema::SocketAddressType::kFd) {
    // The field's words. There is no command that hands a descriptor over.
    return fail(ENOTSUP, "only QEMU supports file descriptor passing");
  }
  return {};
}

Result<io::SocketAddress> convert(std::monostate, Use /*use*/) {
  return fail(EINVAL, "The address is missing");
}

template <typename Wrapper>
  requires requires(const Wrapper& wrapper) { wrapper.data; }
Result<io::SocketAddress> convert(const Wrapper& wrapper, Use use) {
  return convert(wrapper.data, use);
}

}  // namespace

Result<io::SocketAddress> to_io(const schema::SocketAddress& address, Use use) {
  return std::visit([use](const auto& branch) { return convert(branch, use); }, address.branch);
}

Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address, Use use) {
  return std::visit([use](const auto& branch) { return convert(branch, use); }, address.branch);
}

Result<void> check_from_monitor(const schema::SocketAddress& address) {
  return check_type(address.type);
}

Result<void> check_from_monitor(const schema::SocketAddressLegacy& address) {
  return check_type(address.type);
}

}  // namespace cairn::chardev
