// Socket addresses of the schema as the I/O layer takes them.
#pragma once

#include "base/result.h"
#include "io/socket_address.h"
#include "schema/types_sockets.h"

namespace cairn::monitor {

// Fails for contradictions: neither IPv4 nor IPv6.
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddress& address);
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address);

}  // namespace cairn::monitor
