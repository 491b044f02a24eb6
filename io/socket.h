// Sockets: listeners and byte streams, on Unix and internet sockets.
//
// Every wait tries the system call first, so that a ready socket costs one call and no suspension.
// A stream's descriptor is in blocking mode (io_uring refuses to wait on others); the calls say
// MSG_DONTWAIT.
//
// A stream is plain at first. After secure() everything passes through TLS; what talks to the
// descriptor itself must not be used any more then.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/cancel.h"
#include "io/fd.h"
#include "io/iovector.h"
#include "io/operation.h"
#include "io/socket_address.h"
#include "io/task.h"
#include "io/tls_stream.h"

namespace cairn::io {

class Stream {
 public:
  Stream() = default;
  // Takes a connected socket, in blocking mode.
  explicit Stream(Fd fd) : fd_(std::move(fd)) {}

  // Tries each address that the name resolves to. Internet sockets get TCP_NODELAY. Takes a
  // descriptor over when that is the address.
  [[nodiscard]] static Task<Result<Stream>> connect(SocketAddress address, CancelToken token = {});
  // Two that are connected to each other.
  [[nodiscard]] static Result<std::pair<Stream, Stream>> pair();

  [[nodiscard]] bool is_open() const { return fd_.valid(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] int release() { return fd_.release(); }
  // Nothing may be in flight: shutdown() first, and await it.
  void close() {
    tls_.reset();
    fd_.reset();
  }

  // `Result<size_t> count = co_await stream.read_some(bytes, token)`: at least one byte, or 0 at
  // the end of the stream. The stream and `bytes` outlive the co_await.
  class ReadAwaiter;
  [[nodiscard]] ReadAwaiter read_some(std::span<std::byte> bytes, CancelToken token = {}) const;

  // The stream and the memory must outlive these tasks. At most one reader and one writer at a
  // time.

  // Fills `bytes`; ECONNRESET when the stream ends before.
  [[nodiscard]] Task<Result<void>> read_exact(std::span<std::byte> bytes,
                                              CancelToken token = {}) const;
  // Sends everything. The segments themselves must outlive the task too.
  [[nodiscard]] Task<Result<void>> write_all(std::span<const iovec> segments,
                                             CancelToken token = {}) const;
  [[nodiscard]] Task<Result<void>> write_all(IoVector vector, CancelToken token = {}) const;

  // Sends what goes without waiting: how many bytes, or a negative errno, -EAGAIN when none goes.
  // Bytes that TLS has taken may still be here (has_unsent()); further calls, with an empty message
  // at last, send them.
  [[nodiscard]] int64_t try_send(const msghdr& message) const;
  [[nodiscard]] bool has_unsent() const { return tls_ != nullptr && tls_->has_unsent(); }

  // Makes the stream one of TLS: does the handshake, with nobody else reading or writing. When it
  // fails, with EACCES when the peer is not who it has to be or takes us for such, there is nothing
  // to do but to close the stream. The stream
  // must not be moved meanwhile.
  [[nodiscard]] Task<Result<void>> secure(std::unique_ptr<TlsSession> session,
                                          CancelToken token = {});
  // Null for a plain stream.
  [[nodiscard]] const TlsSession* tls() const { return tls_ ? &tls_->session() : nullptr; }
  // Tells the peer of a TLS stream that the end is meant to be one, if that needs no waiting.
  void say_goodbye() const;
  // Gives back memory that is not needed while the peer says nothing; no read may be waiting.
  void release_buffers() const;

  // shutdown(2); `how` is SHUT_RD, SHUT_WR or SHUT_RDWR. Ends the reads (and writes) that wait.
  // Failure means that the connection is gone already and is not reported.
  void shutdown(int how) const;

  // For TCP: send small messages at once. Ignored on other sockets.
  void set_no_delay(bool on) const;

  // The address of the peer, and ours; an unnamed Unix socket has an empty path.
  [[nodiscard]] Result<SocketAddress> peer() const;
  [[nodiscard]] Result<SocketAddress> local() const;

 private:
  Fd fd_;
  std::unique_ptr<TlsStream> tls_;  // null while the stream is plain
};

class Stream::ReadAwaiter final {
 public:
  ReadAwaiter(const OperationRequest& request, CancelToken token) : plain_(request, token) {}
  explicit ReadAwaiter(Task<Result<std::size_t>> task)
      : plain_(OperationRequest{}), task_(std::move(task)) {}

  [[nodiscard]] bool await_ready() { return !task_.valid() && plain_.await_ready(); }
  bool await_suspend(std::coroutine_handle<> handle);
  [[nodiscard]] Result<std::size_t> await_resume();

 private:
  OperationAwaiter plain_;
  Task<Result<std::size_t>> task_;  // in place of it, for TLS
  std::optional<Task<Result<std::size_t>>::Awaiter> running_;
};

class Listener {
 public:
  Listener() = default;
  Listener(Listener&&) noexcept = default;
  Listener& operator=(Listener&& other) noexcept;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Removes the Unix socket that listen() made from the file system, if it is still there.
  ~Listener() { close(); }

  // One listener for each address that the name resolves to, at least one. A Unix socket that is
  // at the path already is replaced, as the field does; any other file there is an error. Takes a
  // descriptor over when that is the address.
  [[nodiscard]] static Task<Result<std::vector<Listener>>> listen(SocketAddress address,
                                                                  int backlog = SOMAXCONN);
  // Takes a socket that listens already, as a service manager passes one.
  [[nodiscard]] static Result<Listener> adopt(Fd fd);

  [[nodiscard]] bool is_open() const { return fd_.valid(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

  // The next connection. The listener outlives the task. Fails with EMFILE and its like when there
  // is no room for a connection just now (wait a little, then accept again), with ECANCELED when
  // cancelled.
  [[nodiscard]] Task<Result<Stream>> accept(CancelToken token = {}) const;

  // Where it listens: with the port that was chosen when it was asked for 0.
  [[nodiscard]] Result<SocketAddress> local_address() const;

  // No accept() may be waiting: cancel it first.
  void close();

 private:
  [[nodiscard]] static Result<Listener> bind_and_listen(const ResolvedAddress& address,
                                                        const SocketAddress& what, int backlog);

  Fd fd_;
  std::string unlink_path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace cairn::io
