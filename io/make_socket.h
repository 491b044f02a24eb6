// Making sockets as addresses want them: keep-alive, several paths.
#pragma once

#include "base/result.h"
#include "io/fd.h"
#include "io/socket_address.h"

namespace cairn::io {

// A socket, in non-blocking mode, for one of the places that an address resolved to.
[[nodiscard]] Result<Fd> make_socket(const ResolvedAddress& place, const SocketAddress& what);

}  // namespace cairn::io
