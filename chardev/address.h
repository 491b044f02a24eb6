// Socket addresses of the schema as the I/O layer takes them.
#pragma once

#include "base/result.h"
#include "io/socket_address.h"
#include "schema/types_sockets.h"

namespace cairn::chardev {

// Fails for contradictions (neither IPv4 nor IPv6) and for what is no number where one must be.
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddress& address);
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address);

// Whether a command may name this address: descriptors belong to who starts the program.
[[nodiscard]] Result<void> check_from_monitor(const schema::SocketAddress& address);
[[nodiscard]] Result<void> check_from_monitor(const schema::SocketAddressLegacy& address);

}  // namespace cairn::chardev
