// What the schema can say about an address and the I/O layer can not do is not in the schema.
#include "chardev/address.h"

#include <cerrno>
#include <charconv>
#include <variant>

#include "io/passed_descriptors.h"

namespace cairn::chardev {

namespace {

Result<io::SocketAddress> convert(const schema::InetSocketAddress& inet) {
  using Family = io::SocketAddress::Family;
  // One family that is asked for excludes the other, unless that is asked for, too.
  const bool want4 = inet.ipv4.value_or(!inet.ipv6.value_or(false));
  const bool want6 = inet.ipv6.value_or(!inet.ipv4.value_or(false));
  if (!want4 && !want6) {
    return fail(EINVAL, "Cannot disable IPv4 and IPv6 at same time");
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

Result<io::SocketAddress> convert(const schema::UnixSocketAddress& address) {
  io::SocketAddress result = io::SocketAddress::unix_path(address.path);
  result.abstract = address.abstract.value_or(false);
  result.tight = address.tight.value_or(true);
  return result;
}

Result<io::SocketAddress> convert(const schema::VsockSocketAddress& address) {
  return io::SocketAddress::vsock(address.cid, address.port);
}

Result<io::SocketAddress> convert(const schema::FdSocketAddress& address) {
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

Result<io::SocketAddress> convert(std::monostate) { return fail(EINVAL, "The address is missing"); }

template <typename Wrapper>
  requires requires(const Wrapper& wrapper) { wrapper.data; }
Result<io::SocketAddress> convert(const Wrapper& wrapper) {
  return convert(wrapper.data);
}

}  // namespace

Result<io::SocketAddress> to_io(const schema::SocketAddress& address) {
  return std::visit([](const auto& branch) { return convert(branch); }, address.branch);
}

Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address) {
  return std::visit([](const auto& branch) { return convert(branch); }, address.branch);
}

Result<void> check_from_monitor(const schema::SocketAddress& address) {
  return check_type(address.type);
}

Result<void> check_from_monitor(const schema::SocketAddressLegacy& address) {
  return check_type(address.type);
}

}  // namespace cairn::chardev
