// Descriptors that are no sockets are read and written after poll says that it will not block; the
// pieces written are small enough for a pipe to take them whole.
#include "monitor/connection.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/operation.h"

namespace cairn::monitor {

namespace {

io::Task<Result<void>> wait_for(int fd, uint32_t events, io::CancelToken token) {
  const io::OperationRequest request{
      .kind = io::OperationRequest::Kind::kPoll, .fd = fd, .flags = events};
  const int64_t ready = co_await io::OperationAwaiter(request, token);
  // Regular files can not be polled with epoll, and never block either.
  if (ready < 0 && ready != -EPERM) {
    co_return fail_errno(static_cast<int>(-ready), "Could not wait for the monitor's client");
  }
  co_return Result<void>();
}

}  // namespace

io::Task<Result<size_t>> Connection::read_some(std::span<std::byte> bytes, io::CancelToken token) {
  if (!stream_) {
    co_return co_await read_descriptor(bytes, token);
  }
  Result<size_t> count = co_await stream_->read_some(bytes, token);
  co_return count;
}

io::Task<Result<void>> Connection::write_all(std::string_view text, io::CancelToken token) {
  if (!stream_) {
    co_return co_await write_descriptor(text, token);
  }
  iovec segment{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  const std::span<const iovec> segments(&segment, 1);
  Result<void> written = co_await stream_->write_all(segments, token);
  co_return written;
}

io::Task<Result<size_t>> Connection::read_descriptor(std::span<std::byte> bytes,
                                                     io::CancelToken token) const {
  while (true) {
    Result<void> ready = co_await wait_for(input_, POLLIN, token);
    if (!ready) {
      co_return pass(ready);
    }
    const ssize_t count = ::read(input_, bytes.data(), bytes.size());
    if (count >= 0) {
      co_return static_cast<size_t>(count);
    }
    if (errno != EINTR && errno != EAGAIN) {
      co_return fail_errno(errno, "Could not read from the monitor's client");
    }
  }
}

io::Task<Result<void>> Connection::write_descriptor(std::string_view text,
                                                    io::CancelToken token) const {
  while (!text.empty()) {
    Result<void> ready = co_await wait_for(output_, POLLOUT, token);
    if (!ready) {
      co_return ready;
    }
    const ssize_t count = ::write(output_, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (count >= 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR && errno != EAGAIN) {
      co_return fail_errno(errno, "Could not write to the monitor's client");
    }
  }
  co_return Result<void>();
}

void Connection::shutdown() const {
  if (stream_) {
    stream_->shutdown(SHUT_RDWR);
  }
}

}  // namespace cairn::monitor
