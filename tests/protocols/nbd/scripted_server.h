// ScriptedServer: an NBD server on a thread of its own that says what a test wants said, right or
// wrong, to one client.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "io/fd.h"

namespace cairn::testing {

// The number in big-endian order.
template <typename T>
std::string big(T value) {
  std::string bytes;
  for (int shift = 8 * static_cast<int>(sizeof value) - 8; shift >= 0; shift -= 8) {
    bytes += static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xff);
  }
  return bytes;
}

// The server's end of the connection.
class Peer {
 public:
  struct Request {
    uint16_t flags = 0;
    uint16_t command = 0xffff;  // of no request: the client is gone
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::string payload;
  };

  explicit Peer(int fd) : fd_(fd) {}

  void send(std::string_view bytes) const;
  // Hangs up when it has sent so many bytes more.
  void hang_up_after(std::size_t bytes) { left_ = bytes; }
  // From now on each byte is sent on its own.
  void trickle() { trickle_ = true; }
  // Less than `count` bytes at the end of the connection.
  std::string receive(std::size_t count) const;

  // A proper handshake for an export of `size` bytes.
  struct Offer {
    uint64_t size = 1 << 20;
    uint16_t flags = 0x1 | 0x4 | 0x8 | 0x20 | 0x40;  // flush, FUA, trim, write zeroes
    bool structured = true;
    bool extended = false;
    uint32_t min_block = 1;
    uint32_t max_block = 1 << 25;
  };
  void handshake(const Offer& offer);
  [[nodiscard]] Request request() const;

 private:
  void answer(uint32_t option, uint32_t type, std::string_view payload = {}) const;

  int fd_;
  mutable std::size_t left_ = SIZE_MAX;
  bool extended_ = false;
  bool trickle_ = false;
};

class ScriptedServer {
 public:
  // Listens on the Unix socket `path`; runs `script` for the first client, and hangs up.
  ScriptedServer(const std::string& path, std::function<void(Peer&)> script);
  ~ScriptedServer();

 private:
  io::Fd listener_;
  std::thread thread_;
};

}  // namespace cairn::testing
