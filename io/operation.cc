#include "io/operation.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "io/reactor.h"

namespace cairn::io {
namespace {

bool is_large_copy(const OperationRequest& request) {
  using Kind = OperationRequest::Kind;
  if (!request.in_memory || (request.kind != Kind::kReadv && request.kind != Kind::kWritev)) {
    return false;
  }
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < request.vector_count && bytes < CopyPolicy::kLarge; ++i) {
    bytes += request.vectors[i].iov_len;
  }
  return bytes >= CopyPolicy::kLarge;
}

}  // namespace

int64_t run_file_operation(const OperationRequest& request) {
  using Kind = OperationRequest::Kind;
  const auto offset = static_cast<off_t>(request.offset);
  const auto count = static_cast<int>(request.vector_count);
  const iovec* vectors = request.vectors;
  ssize_t result = -1;
  do {
    switch (request.kind) {
      case Kind::kReadv:
        // One piece, as nearly always, without a list of pieces is measurably cheaper.
        result = count == 1 ? pread(request.fd, vectors->iov_base, vectors->iov_len, offset)
                            : preadv(request.fd, vectors, count, offset);
        break;
      case Kind::kWritev:
        if (request.flags != 0) {
          result = pwritev2(request.fd, vectors, count, offset, static_cast<int>(request.flags));
        } else {
          result = count == 1 ? pwrite(request.fd, vectors->iov_base, vectors->iov_len, offset)
                              : pwritev(request.fd, vectors, count, offset);
        }
        break;
      case Kind::kFsync:
        result = request.flags == OperationRequest::kDataOnly ? fdatasync(request.fd)
                                                              : fsync(request.fd);
        break;
      case Kind::kFallocate:
        result = fallocate(request.fd, static_cast<int>(request.flags), offset,
                           static_cast<off_t>(request.length));
        break;
      case Kind::kReceive:
      case Kind::kSend:
      case Kind::kPoll:
        return -EINVAL;
    }
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

int64_t try_socket_operation(const OperationRequest& request) {
  const int flags = static_cast<int>(request.flags) | MSG_DONTWAIT;
  ssize_t result = -1;
  do {
    result = request.kind == OperationRequest::Kind::kReceive
                 ? recv(request.fd, request.buffer, request.length, flags)
                 : sendmsg(request.fd, request.message, flags | MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

bool OperationAwaiter::await_ready() {
  using Kind = OperationRequest::Kind;
  OperationRequest& request = operation_.request;
  const bool on_socket = request.kind == Kind::kReceive || request.kind == Kind::kSend;
  if (is_large_copy(request) && Reactor::current().copies().begin_elsewhere()) {
    request.on_thread = true;
    return false;
  }
  if ((!on_socket && !request.in_memory) || token_.cancelled() ||
      !Reactor::current().spend_inline()) {
    return false;
  }
  if (request.in_memory) {
    operation_.result = run_file_operation(request);
    return true;
  }
  operation_.result = try_socket_operation(request);
  request.poll_first = operation_.result == -EAGAIN;
  return !request.poll_first;
}

void OperationAwaiter::await_suspend(std::coroutine_handle<> handle) {
  operation_.waiter.bind(handle);
  if (operation_.request.in_memory && !operation_.request.on_thread) {
    // The turn's budget is spent: do it all the same, but let others run before the caller goes on.
    operation_.result = run_file_operation(operation_.request);
    operation_.waiter.wake();
    return;
  }
  Reactor::current().submit(operation_);
  arm(token_);
}

int64_t OperationAwaiter::await_resume() {
  disarm();
  if (operation_.request.on_thread) {
    Reactor::current().copies().end();
  }
  return operation_.result;
}

void OperationAwaiter::on_cancel() { operation_.waiter.reactor()->cancel(operation_); }

}  // namespace cairn::io
