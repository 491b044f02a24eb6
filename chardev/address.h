// Socket addresses of the schema as the I/O layer takes them.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "io/socket_address.h"
#include "schema/types_sockets.h"

namespace cairn::chardev {

// What an address is for. As the field has it, who connects heeds neither `numeric` nor `to`.
enum class Use : uint8_t { kConnect, kListen };

// Fails for contradictions (neither IPv4 nor IPv6, a last port below the first) and for what is no
// number where one must be.
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddress& address,
                                              Use use = Use::kConnect);
[[nodiscard]] Result<io::SocketAddress> to_io(const schema::SocketAddressLegacy& address,
                                              Use use = Use::kConnect);

// Whether a command may name this address: descriptors belong to who starts the program.
[[nodiscard]] Result<void> check_from_monitor(const schema::SocketAddress& address);
[[nodiscard]] Result<void> check_from_monitor(const schema::SocketAddressLegacy& address);

}  // namespace cairn::chardev
