// Connection: the two directions of bytes between a character device and whoever is at its other
// end, whatever carries them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/task.h"

namespace cairn::chardev {

// At most one reader and one writer at a time.
class Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  // At least one byte; 0 at the end. The connection and `bytes` outlive the task.
  [[nodiscard]] virtual io::Task<Result<size_t>> read_some(std::span<std::byte> bytes,
                                                           io::CancelToken token) = 0;
  // The connection and `text` outlive the task.
  [[nodiscard]] virtual io::Task<Result<void>> write_all(std::string_view text,
                                                         io::CancelToken token) = 0;
  // Ends both directions, so that what waits on them ends, where that is possible.
  virtual void shutdown() {}
};

class StreamConnection final : public Connection {
 public:
  explicit StreamConnection(io::Stream stream) : stream_(std::move(stream)) {}

  [[nodiscard]] io::Task<Result<size_t>> read_some(std::span<std::byte> bytes,
                                                   io::CancelToken token) override;
  [[nodiscard]] io::Task<Result<void>> write_all(std::string_view text,
                                                 io::CancelToken token) override;
  void shutdown() override { stream_.shutdown(SHUT_RDWR); }

  [[nodiscard]] const io::Stream& stream() const { return stream_; }

 private:
  io::Stream stream_;
};

// A pair of descriptors that are no sockets, and stay open when the connection ends.
class DescriptorConnection final : public Connection {
 public:
  // `input` may be -1: there is nothing to read, and no end.
  DescriptorConnection(int input, int output) : input_(input), output_(output) {}

  [[nodiscard]] io::Task<Result<size_t>> read_some(std::span<std::byte> bytes,
                                                   io::CancelToken token) override;
  [[nodiscard]] io::Task<Result<void>> write_all(std::string_view text,
                                                 io::CancelToken token) override;

 private:
  int input_;
  int output_;
};

// Waits until `token` is cancelled: what reading is where nothing ever comes.
[[nodiscard]] io::Task<Result<size_t>> read_nothing(io::CancelToken token);

}  // namespace cairn::chardev
