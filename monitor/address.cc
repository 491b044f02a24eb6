// What the schema can say about an address and the I/O layer can not do is not in the schema.
#include "monitor/address.h"

#include <cerrno>
#include <variant>

namespace cairn::monitor {

namespace {

Result<io::SocketAddress> inet_to_io(const schema::InetSocketAddress& inet) {
  using Family = io::SocketAddress::Family;
  // One family that is asked for excludes the other, unless that is asked for, too.
  const bool want4 = inet.ipv4.value_or(!inet.ipv6.value_or(false));
  const bool want6 = inet.ipv6.value_or(!inet.ipv4.value_or(false));
  if (!want4 && !want6) {
    return fail(EINVAL, "Cannot disable IPv4 and IPv6 at same time");
  }
  const Family family = want4 && want6 ? Family::kAny : want4 ? Family::kIpv4 : Family::kIpv6;
  return io::SocketAddress::inet(inet.host, inet.port, family);
}

Result<io::SocketAddress> unix_to_io(const schema::UnixSocketAddress& address) {
  io::SocketAddress result = io::SocketAddress::unix_path(address.path);
  result.abstract = address.abstract.value_or(false);
  return result;
}

}  // namespace

Result<io::SocketAddress> to_io(const schema::SocketAddress& address) {
  if (const auto* inet = std::get_if<schema::InetSocketAddress>(&address.branch)) {
    return inet_to_io(*inet);
  }
  return unix_to_io(std::get<schema::UnixSocketAddress>(address.branch));
}

Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address) {
  if (const auto* inet = std::get_if<schema::InetSocketAddressWrapper>(&address.branch)) {
    return inet_to_io(inet->data);
  }
  return unix_to_io(std::get<schema::UnixSocketAddressWrapper>(address.branch).data);
}

}  // namespace cairn::monitor
