// TlsStream: TLS over a connected socket. Part of a Stream (socket.h), which users talk to.
//
// Many records are received, and many sent, with one system call. Memory for records exists while
// there are some, or somebody waits for some.
//
// Invariants
// - Records leave in the order in which the session made them: one send at a time, from `sending_`,
//   which nobody else touches; what is made meanwhile gathers in the wire.
// - At most one reader, and at most one writer: either write_all() or try_send().
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "io/cancel.h"
#include "io/task.h"
#include "io/tls.h"

namespace cairn::io {

class TlsStream {
 public:
  // The descriptor stays the caller's and outlives this.
  TlsStream(int fd, std::unique_ptr<TlsSession> session);
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  [[nodiscard]] const TlsSession& session() const { return *session_; }

  [[nodiscard]] Task<Result<void>> handshake(CancelToken token);
  // As those of Stream.
  [[nodiscard]] Task<Result<std::size_t>> read_some(std::span<std::byte> bytes, CancelToken token);
  [[nodiscard]] Task<Result<void>> write_all(std::span<const iovec> segments, CancelToken token);

  // Takes as much of the segments as is sensible without waiting, and says how many bytes of them;
  // -EAGAIN when it takes none, -EPIPE and its like when the connection is gone. What has been
  // taken may still be here: has_unsent().
  [[nodiscard]] int64_t try_send(std::span<const iovec> segments);
  [[nodiscard]] bool has_unsent() const { return unsent() != 0; }

  // Tells the peer that there will be no more, if that is possible without waiting.
  void finish();
  // Gives back memory that is not needed while the peer says nothing.
  void release_buffers();

 private:
  [[nodiscard]] std::size_t unsent() const {
    return sending_.size() - sent_ + wire_.outgoing.size();
  }
  [[nodiscard]] Task<Result<std::size_t>> receive(CancelToken token);
  [[nodiscard]] Task<Result<void>> send_all(CancelToken token);
  [[nodiscard]] int64_t send_now();
  [[nodiscard]] std::span<std::byte> room();
  void load();
  Result<std::size_t> encrypt(std::span<const iovec> segments, std::size_t skip);

  const int fd_;
  std::unique_ptr<TlsSession> session_;
  TlsWire wire_;
  std::vector<std::byte> received_;  // wire_.incoming is a part of it
  std::size_t window_;               // how much is asked for at once, in bytes
  std::vector<std::byte> sending_;
  std::size_t sent_ = 0;   // bytes of it
  bool writing_ = false;   // send_all() runs
  bool finished_ = false;  // finish() was called
};

}  // namespace cairn::io
