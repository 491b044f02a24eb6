// Receiver: the bytes of a connection that come next, buffered so that one system call brings many
// small replies. Large payloads go straight to where they are wanted.
//
// Invariant: begin_ <= end_ <= kCapacity; the bytes between them have arrived and are not taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "io/iovector.h"
#include "io/socket.h"
#include "io/task.h"

namespace cairn::nbd::client {

class Receiver {
 public:
  static constexpr std::size_t kCapacity = std::size_t{16} * 1024;

  // `stream` outlives this.
  explicit Receiver(const io::Stream& stream)
      : stream_(stream), memory_(std::make_unique<std::byte[]>(kCapacity)) {}

  [[nodiscard]] bool has(std::size_t count) const { return end_ - begin_ >= count; }
  // Waits until `count` bytes, at most kCapacity, are there to be taken. ECONNRESET when the stream
  // ends before.
  [[nodiscard]] io::Task<Result<void>> need(std::size_t count);
  // The next bytes, which must be there; valid until the next call but has().
  [[nodiscard]] std::span<const std::byte> take(std::size_t count);
  // What has arrived and is not taken.
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {memory_.get() + begin_, end_ - begin_};
  }

  // Fills `target`, whose memory outlives the task.
  [[nodiscard]] io::Task<Result<void>> read_into(io::IoVector target);
  [[nodiscard]] io::Task<Result<void>> skip(uint64_t count);

 private:
  const io::Stream& stream_;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace cairn::nbd::client
