#include "io/make_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>

namespace cairn::io {

Result<Fd> make_socket(const ResolvedAddress& place, const SocketAddress& what) {
  constexpr int kMptcp = 262;  // IPPROTO_MPTCP, which older headers lack
  const bool inet = place.family() == AF_INET || place.family() == AF_INET6;
  Fd fd(::socket(place.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                 inet && what.mptcp ? kMptcp : 0));
  if (!fd.valid()) {
    return fail_errno(errno, "Failed to create a socket for '{}'", what.to_string());
  }
  const auto set = [&fd](int level, int name, uint32_t value) {
    const auto number = static_cast<int>(value);
    return value == 0 || setsockopt(fd.get(), level, name, &number, sizeof number) == 0;
  };
  if (inet && what.keep_alive &&
      (!set(SOL_SOCKET, SO_KEEPALIVE, 1) ||
       !set(IPPROTO_TCP, TCP_KEEPCNT, what.keep_alive->count) ||
       !set(IPPROTO_TCP, TCP_KEEPIDLE, what.keep_alive->idle) ||
       !set(IPPROTO_TCP, TCP_KEEPINTVL, what.keep_alive->interval))) {
    return fail_errno(errno, "Unable to set keep-alive for '{}'", what.to_string());
  }
  return fd;
}

}  // namespace cairn::io
