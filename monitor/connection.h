// Connection: the two directions of bytes between a monitor and its client, whatever carries them:
// a socket, or a pair of descriptors such as standard input and output.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/task.h"

namespace cairn::monitor {

class Connection {
 public:
  explicit Connection(io::Stream stream) : stream_(std::move(stream)) {}
  // Descriptors that stay open when the connection ends.
  Connection(int input, int output) : input_(input), output_(output) {}

  // At least one byte; 0 at the end. The connection and `bytes` outlive the task.
  [[nodiscard]] io::Task<Result<size_t>> read_some(std::span<std::byte> bytes,
                                                   io::CancelToken token);
  // The connection and `text` outlive the task.
  [[nodiscard]] io::Task<Result<void>> write_all(std::string_view text, io::CancelToken token);

  // For sockets: ends both directions, so that what waits on them ends.
  void shutdown() const;

 private:
  [[nodiscard]] io::Task<Result<size_t>> read_descriptor(std::span<std::byte> bytes,
                                                         io::CancelToken token) const;
  [[nodiscard]] io::Task<Result<void>> write_descriptor(std::string_view text,
                                                        io::CancelToken token) const;

  std::optional<io::Stream> stream_;
  int input_ = -1;
  int output_ = -1;
};

}  // namespace cairn::monitor
