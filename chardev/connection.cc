// Descriptors that are no sockets are read and written after poll says that it will not block; the
// pieces written are small enough for a pipe to take them whole.
#include "chardev/connection.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/event.h"
#include "io/operation.h"

namespace cairn::chardev {

namespace {

io::Task<Result<void>> wait_for(int fd, uint32_t events, io::CancelToken token) {
  const io::OperationRequest request{
      .kind = io::OperationRequest::Kind::kPoll, .fd = fd, .flags = events};
  const int64_t ready = co_await io::OperationAwaiter(request, token);
  // Regular files can not be polled with epoll, and never block either.
  if (ready < 0 && ready != -EPERM) {
    co_return fail_errno(static_cast<int>(-ready), "Could not wait for a character device");
  }
  co_return Result<void>();
}

}  // namespace

io::Task<Result<size_t>> read_nothing(io::CancelToken token) {
  io::Event never;
  const bool set = co_await never.wait(token);
  static_cast<void>(set);
  co_return std::unexpected(Error::from_errno(ECANCELED));
}

io::Task<Result<size_t>> StreamConnection::read_some(std::span<std::byte> bytes,
                                                     io::CancelToken token) {
  Result<size_t> count = co_await stream_.read_some(bytes, token);
  co_return count;
}

io::Task<Result<void>> StreamConnection::write_all(std::string_view text, io::CancelToken token) {
  iovec segment{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  const std::span<const iovec> segments(&segment, 1);
  Result<void> written = co_await stream_.write_all(segments, token);
  co_return written;
}

io::Task<Result<size_t>> DescriptorConnection::read_some(std::span<std::byte> bytes,
                                                         io::CancelToken token) {
  if (input_ < 0) {
    co_return co_await read_nothing(token);
  }
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
      co_return fail_errno(errno, "Could not read from a character device");
    }
  }
}

io::Task<Result<void>> DescriptorConnection::write_all(std::string_view text,
                                                       io::CancelToken token) {
  while (!text.empty()) {
    Result<void> ready = co_await wait_for(output_, POLLOUT, token);
    if (!ready) {
      co_return ready;
    }
    const ssize_t count = ::write(output_, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (count >= 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR && errno != EAGAIN) {
      co_return fail_errno(errno, "Could not write to a character device");
    }
  }
  co_return Result<void>();
}

}  // namespace cairn::chardev
