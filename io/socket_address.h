// Socket addresses as people write them and as the kernel takes them, and the way between.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/task.h"

namespace cairn::io {

// How the kernel finds out that a peer is gone that says nothing; 0 is what it does by default.
struct KeepAlive {
  uint32_t count = 0;     // questions
  uint32_t idle = 0;      // seconds of silence before the first one
  uint32_t interval = 0;  // seconds between them
};

struct SocketAddress {
  enum class Kind : uint8_t { kUnix, kInet, kVsock, kFd };
  enum class Family : uint8_t { kAny, kIpv4, kIpv6 };

  Kind kind = Kind::kUnix;
  std::string path;        // kUnix
  bool abstract = false;   // kUnix: the name is in Linux's abstract namespace
  bool tight = true;       // kUnix, abstract: the name is not filled up with zero bytes
  std::string host;        // kInet: a name or a numeric address; empty is every local address.
                           // kVsock: the context identifier, a number
  std::string port;        // kInet: a number or a service; "0" listens on any that is free.
                           // kVsock: a number
  uint16_t last_port = 0;  // kInet, to listen: the last one to try, when that is above `port`
  Family family = Family::kAny;
  std::optional<KeepAlive> keep_alive;  // kInet: what accepts, too, hands it on
  bool mptcp = false;                   // kInet: TCP over several paths
  int fd = -1;                          // kFd: a socket that is there already and is taken over

  [[nodiscard]] static SocketAddress unix_path(std::string path);
  [[nodiscard]] static SocketAddress inet(std::string host, std::string port,
                                          Family family = Family::kAny);

  [[nodiscard]] static SocketAddress vsock(std::string cid, std::string port);
  [[nodiscard]] static SocketAddress descriptor(int fd);

  // "unix:PATH", "HOST:PORT" ("[HOST]:PORT" for a numeric IPv6 address), "vsock:CID:PORT", "fd:N".
  [[nodiscard]] std::string to_string() const;
};

// A kernel socket address, as one of those that a SocketAddress resolves to.
struct ResolvedAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] int family() const { return storage.ss_family; }
  [[nodiscard]] SocketAddress to_address() const;
};

// Looks names up on a thread of the worker pool. At least one address on success. `passive`: for
// listening. A descriptor has nothing to be looked up, which is an error.
[[nodiscard]] Task<Result<std::vector<ResolvedAddress>>> resolve(SocketAddress address,
                                                                 bool passive);

}  // namespace cairn::io
