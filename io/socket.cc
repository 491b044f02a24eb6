#include "io/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>

#include "io/make_socket.h"
#include "io/timer.h"

namespace cairn::io {
namespace {

using Kind = OperationRequest::Kind;

const sockaddr* kernel_address(const ResolvedAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.storage);
}

// A connection in progress ends in the socket's error, which reading clears.
int take_socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

// Connects a non-blocking socket. Returns an errno or 0.
Task<int> finish_connecting(int fd, const ResolvedAddress& address, CancelToken token) {
  for (;;) {
    if (::connect(fd, kernel_address(address), address.length) == 0) {
      co_return 0;
    }
    if (errno == EAGAIN) {
      // The backlog of a Unix socket is full; nothing tells when it no longer is.
      auto pause = sleep_for(std::chrono::milliseconds(5), token);
      const bool slept = co_await pause;
      if (!slept) {
        co_return ECANCELED;
      }
      continue;
    }
    if (errno != EINPROGRESS && errno != EINTR) {
      co_return errno;
    }
    const OperationRequest request{.kind = Kind::kPoll, .fd = fd, .flags = POLLOUT};
    OperationAwaiter poll(request, token);
    const int64_t ready = co_await poll;
    co_return ready < 0 ? static_cast<int>(-ready) : take_socket_error(fd);
  }
}

void make_blocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

// Makes way for a Unix socket: removes a socket that is at its path already.
void remove_old_socket(const SocketAddress& address) {
  struct stat status{};
  if (address.kind == SocketAddress::Kind::kUnix && !address.abstract &&
      lstat(address.path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    unlink(address.path.c_str());
  }
}

bool is_inet(const ResolvedAddress& address) {
  return address.family() == AF_INET || address.family() == AF_INET6;
}

void set_port(ResolvedAddress& address, uint16_t port) {
  if (address.family() == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
  }
}

uint16_t port_of(const ResolvedAddress& address) {
  return ntohs(address.family() == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

// When port 0 was asked for, or one of several, all addresses listen on the port that the first one
// got.
void adopt_port(ResolvedAddress& address, const ResolvedAddress& first, bool of_several) {
  if (is_inet(address) && (port_of(address) == 0 || of_several)) {
    set_port(address, port_of(first));
  }
}

// bind(2), on the first port from the address's own to `last` that is free. Returns an errno or 0.
int bind_to(int fd, ResolvedAddress address, uint16_t last) {
  while (bind(fd, kernel_address(address), address.length) != 0) {
    if (errno != EADDRINUSE || !is_inet(address) || port_of(address) >= last) {
      return errno;
    }
    set_port(address, static_cast<uint16_t>(port_of(address) + 1));
  }
  return 0;
}

// A descriptor that came from outside, and is ours from now on.
Result<Fd> take_socket(int number) {
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    return fail(EINVAL, "File descriptor '{}' is not a socket", number);
  }
  fcntl(number, F_SETFD, FD_CLOEXEC);
  return Fd(number);
}

Result<ResolvedAddress> name_of(int fd, bool of_peer) {
  ResolvedAddress address;
  address.length = sizeof address.storage;
  auto* storage = reinterpret_cast<sockaddr*>(&address.storage);
  const int rc = of_peer ? getpeername(fd, storage, &address.length)
                         : getsockname(fd, storage, &address.length);
  if (rc != 0) {
    return std::unexpected(Error::from_errno(errno));
  }
  return address;
}

Result<SocketAddress> address_of(int fd, bool of_peer) {
  auto address = name_of(fd, of_peer);
  if (!address) {
    return pass(address);
  }
  return address->to_address();
}

}  // namespace

Task<Result<Stream>> Stream::connect(SocketAddress address, CancelToken token) {
  if (address.kind == SocketAddress::Kind::kFd) {
    auto fd = take_socket(address.fd);
    if (!fd) {
      co_return pass(fd);
    }
    make_blocking(fd->get());
    co_return Stream(std::move(*fd));
  }
  auto lookup = resolve(address, false);
  auto resolved = co_await std::move(lookup);
  if (!resolved) {
    co_return pass(resolved);
  }
  int error = EADDRNOTAVAIL;
  for (const ResolvedAddress& one : *resolved) {
    Result<Fd> fd = make_socket(one, address);
    if (!fd) {
      error = fd.error().code();
      continue;
    }
    auto connecting = finish_connecting(fd->get(), one, token);
    error = co_await std::move(connecting);
    if (error == 0) {
      make_blocking(fd->get());
      Stream stream(std::move(*fd));
      stream.set_no_delay(true);
      co_return stream;
    }
    if (error == ECANCELED) {
      break;
    }
  }
  co_return fail_errno(
      error, "Failed to connect to '{}'",
      address.kind == SocketAddress::Kind::kUnix ? address.path : address.to_string());
}

Result<std::pair<Stream, Stream>> Stream::pair() {
  std::array<int, 2> fds{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return fail_errno(errno, "Could not make a pair of sockets");
  }
  return std::pair(Stream(Fd(fds[0])), Stream(Fd(fds[1])));
}

Stream::ReadAwaiter Stream::read_some(std::span<std::byte> bytes, CancelToken token) const {
  if (tls_) {
    return ReadAwaiter(tls_->read_some(bytes, token));
  }
  const OperationRequest request{
      .kind = Kind::kReceive, .fd = fd_.get(), .length = bytes.size(), .buffer = bytes.data()};
  return ReadAwaiter(request, token);
}

bool Stream::ReadAwaiter::await_suspend(std::coroutine_handle<> handle) {
  if (task_.valid()) {
    running_.emplace(std::move(task_).operator co_await());
    return running_->await_suspend(handle);
  }
  plain_.await_suspend(handle);
  return true;
}

Result<std::size_t> Stream::ReadAwaiter::await_resume() {
  if (running_) {
    return running_->await_resume();
  }
  const int64_t result = plain_.await_resume();
  if (result < 0) {
    return std::unexpected(Error::from_errno(static_cast<int>(-result)));
  }
  return static_cast<std::size_t>(result);
}

Task<Result<void>> Stream::read_exact(std::span<std::byte> bytes, CancelToken token) const {
  while (tls_ && !bytes.empty()) {
    auto reading = tls_->read_some(bytes, token);
    const Result<std::size_t> got = co_await std::move(reading);
    if (!got) {
      co_return std::unexpected(got.error());
    }
    if (*got == 0) {
      co_return fail(ECONNRESET, "The peer closed the connection");
    }
    bytes = bytes.subspan(*got);
  }
  while (!bytes.empty()) {
    // With MSG_WAITALL io_uring comes back once instead of for every piece.
    const OperationRequest request{.kind = Kind::kReceive,
                                   .fd = fd_.get(),
                                   .flags = MSG_WAITALL,
                                   .length = bytes.size(),
                                   .buffer = bytes.data()};
    OperationAwaiter receive(request, token);
    const int64_t result = co_await receive;
    if (result < 0) {
      co_return std::unexpected(Error::from_errno(static_cast<int>(-result)));
    }
    if (result == 0) {
      co_return fail(ECONNRESET, "The peer closed the connection");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(result));
  }
  co_return Result<void>();
}

Task<Result<void>> Stream::write_all(std::span<const iovec> segments, CancelToken token) const {
  if (tls_) {
    auto writing = tls_->write_all(segments, token);
    co_return co_await std::move(writing);
  }
  IoVector rest;  // used after a short write
  msghdr message{};
  OperationRequest request{.kind = Kind::kSend, .fd = fd_.get(), .flags = MSG_WAITALL};
  request.message = &message;
  while (!segments.empty()) {
    const auto batch = segments.first(std::min<std::size_t>(segments.size(), IOV_MAX));
    message.msg_iov = const_cast<iovec*>(batch.data());
    message.msg_iovlen = batch.size();
    OperationAwaiter send(request, token);
    const int64_t result = co_await send;
    if (result < 0) {
      co_return std::unexpected(Error::from_errno(static_cast<int>(-result)));
    }
    auto sent = static_cast<std::size_t>(result);
    while (!segments.empty() && sent >= segments.front().iov_len) {
      sent -= segments.front().iov_len;
      segments = segments.subspan(1);
    }
    if (sent != 0) {
      const IoVector whole(segments);
      rest = whole.slice(sent, whole.size() - sent);
      segments = rest.segments();
    }
  }
  co_return Result<void>();
}

Task<Result<void>> Stream::write_all(IoVector vector, CancelToken token) const {
  auto writing = write_all(vector.segments(), token);
  co_return co_await std::move(writing);
}

int64_t Stream::try_send(const msghdr& message) const {
  if (tls_) {
    return tls_->try_send(std::span<const iovec>(message.msg_iov, message.msg_iovlen));
  }
  OperationRequest request{.kind = Kind::kSend, .fd = fd_.get()};
  request.message = &message;
  return try_socket_operation(request);
}

Task<Result<void>> Stream::secure(std::unique_ptr<TlsSession> session, CancelToken token) {
  tls_ = std::make_unique<TlsStream>(fd_.get(), std::move(session));
  auto agreeing = tls_->handshake(token);
  Result<void> agreed = co_await std::move(agreeing);
  if (!agreed && agreed.error().code() != EACCES) {
    co_return pass(agreed, "TLS handshake failed: ");
  }
  co_return agreed;
}

void Stream::say_goodbye() const {
  if (tls_) {
    tls_->finish();
  }
}

void Stream::release_buffers() const {
  if (tls_) {
    tls_->release_buffers();
  }
}

void Stream::shutdown(int how) const { ::shutdown(fd_.get(), how); }

void Stream::set_no_delay(bool on) const {
  const int value = on ? 1 : 0;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &value, sizeof value);
}

Result<SocketAddress> Stream::peer() const { return address_of(fd_.get(), true); }

Result<SocketAddress> Stream::local() const { return address_of(fd_.get(), false); }

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::move(other.fd_);
    unlink_path_ = std::move(other.unlink_path_);
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

void Listener::close() {
  if (!fd_.valid()) {
    return;
  }
  struct stat status{};
  // Another program may have put its own socket there since.
  if (!unlink_path_.empty() && lstat(unlink_path_.c_str(), &status) == 0 &&
      status.st_dev == device_ && status.st_ino == inode_) {
    unlink(unlink_path_.c_str());
  }
  fd_.reset();
}

Result<Listener> Listener::bind_and_listen(const ResolvedAddress& address,
                                           const SocketAddress& what, int backlog) {
  Result<Fd> made = make_socket(address, what);
  if (!made) {
    return pass(made);
  }
  Fd fd = std::move(*made);
  const int one = 1;
  if (is_inet(address)) {
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  if (address.family() == AF_INET6) {
    // The IPv4 address, when it is asked for, gets a socket of its own.
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  }
  if (const int error = bind_to(fd.get(), address, what.last_port); error != 0) {
    // Worded as the field does.
    if (what.kind == SocketAddress::Kind::kUnix) {
      return fail_errno(error, "Failed to bind socket to {}", what.path);
    }
    return error == EADDRINUSE ? fail_errno(error, "Failed to find an available port")
                               : fail_errno(error, "Failed to bind socket");
  }
  Listener listener;
  listener.fd_ = std::move(fd);
  struct stat status{};
  if (address.family() == AF_UNIX && !what.abstract && lstat(what.path.c_str(), &status) == 0) {
    listener.unlink_path_ = what.path;
    listener.device_ = status.st_dev;
    listener.inode_ = status.st_ino;
  }
  if (::listen(listener.fd_.get(), backlog) != 0) {
    return fail_errno(errno, "Failed to listen on socket {}", what.to_string());
  }
  return listener;
}

Task<Result<std::vector<Listener>>> Listener::listen(SocketAddress address, int backlog) {
  std::vector<Listener> listeners;
  if (address.kind == SocketAddress::Kind::kFd) {
    auto fd = take_socket(address.fd);
    if (!fd) {
      co_return pass(fd);
    }
    // It may be bound only, or listen already.
    ::listen(fd->get(), backlog);
    auto listener = adopt(std::move(*fd));
    if (!listener) {
      co_return pass(listener);
    }
    listeners.push_back(std::move(*listener));
    co_return listeners;
  }
  auto lookup = resolve(address, true);
  auto resolved = co_await std::move(lookup);
  if (!resolved) {
    co_return pass(resolved);
  }
  remove_old_socket(address);
  std::optional<ResolvedAddress> first;
  for (ResolvedAddress& one : *resolved) {
    if (first) {
      adopt_port(one, *first, address.last_port != 0);
    }
    auto listener = bind_and_listen(one, address, backlog);
    if (!listener) {
      // A host without IPv6 (or IPv4) has addresses of a kind that it can not use.
      const int code = listener.error().code();
      if (resolved->size() > 1 && (code == EAFNOSUPPORT || code == EADDRNOTAVAIL)) {
        continue;
      }
      co_return pass(listener);
    }
    auto name = name_of(listener->fd(), false);
    if (!first && name) {
      first = *name;
    }
    listeners.push_back(std::move(*listener));
  }
  if (listeners.empty()) {
    co_return fail_errno(EADDRNOTAVAIL, "Failed to bind socket to {}", address.to_string());
  }
  co_return listeners;
}

Result<Listener> Listener::adopt(Fd fd) {
  int listening = 0;
  socklen_t length = sizeof listening;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || listening == 0) {
    return fail(EINVAL, "File descriptor {} is not a listening socket", fd.get());
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  Listener listener;
  listener.fd_ = std::move(fd);
  return listener;
}

Task<Result<Stream>> Listener::accept(CancelToken token) const {
  for (;;) {
    if (token.cancelled()) {
      co_return std::unexpected(Error::from_errno(ECANCELED));
    }
    Fd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      Stream stream(std::move(fd));
      stream.set_no_delay(true);
      co_return stream;
    }
    // A connection that broke in the queue concerns nobody; accept(2) lists what the network may
    // have left there.
    constexpr std::array kTransient{EINTR,     ECONNABORTED, EPROTO,       ENETDOWN,   ENOPROTOOPT,
                                    EHOSTDOWN, ENONET,       EHOSTUNREACH, ENETUNREACH};
    if (std::ranges::find(kTransient, errno) != kTransient.end()) {
      continue;
    }
    if (errno != EAGAIN) {
      co_return std::unexpected(Error::from_errno(errno));
    }
    const OperationRequest request{.kind = Kind::kPoll, .fd = fd_.get(), .flags = POLLIN};
    OperationAwaiter poll(request, token);
    const int64_t ready = co_await poll;
    if (ready < 0) {
      co_return std::unexpected(Error::from_errno(static_cast<int>(-ready)));
    }
  }
}

Result<SocketAddress> Listener::local_address() const { return address_of(fd_.get(), false); }

}  // namespace cairn::io
