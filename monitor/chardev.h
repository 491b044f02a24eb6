// Character devices: where the clients of a monitor come from.
//
//   socket  a listening socket, which has one client after the other, or a connection made by us
//   stdio   standard input and output
//   null    nobody ever comes
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/socket_address.h"
#include "io/task.h"

namespace cairn::monitor {

struct ChardevSettings {
  enum class Kind : uint8_t { kSocket, kStdio, kNull };

  Kind kind = Kind::kNull;
  std::string id;
  io::SocketAddress address;  // kSocket
  bool server = false;        // kSocket: listen; otherwise connect
  bool wait = false;          // kSocket: a server has its first client before the program goes on
  std::vector<std::string> warnings;
};

// Reads the value of --chardev.
[[nodiscard]] Result<ChardevSettings> parse_chardev(std::string_view text);

class Chardev {
 public:
  // Listens or connects, and waits for the first client when that is asked for.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Chardev>>> open(ChardevSettings settings,
                                                                       io::CancelToken token);

  [[nodiscard]] const std::string& id() const { return settings_.id; }
  [[nodiscard]] ChardevSettings::Kind kind() const { return settings_.kind; }
  [[nodiscard]] std::span<const io::Listener> listeners() const { return listeners_; }

  // The client that is there already: the one that was waited for, or the one we connected to.
  [[nodiscard]] bool has_stream() const { return stream_.is_open(); }
  [[nodiscard]] io::Stream take_stream() { return std::move(stream_); }

  // Something talks through it; there can be only one.
  [[nodiscard]] bool in_use() const { return in_use_; }
  void set_in_use() { in_use_ = true; }

 private:
  explicit Chardev(ChardevSettings settings) : settings_(std::move(settings)) {}

  ChardevSettings settings_;
  std::vector<io::Listener> listeners_;
  io::Stream stream_;
  bool in_use_ = false;
};

}  // namespace cairn::monitor
