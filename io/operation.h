// Operation: one request to the kernel, as a back end of the reactor sees it.
//
// An Operation lives in the awaiter of the coroutine that waits for it and stays where it is until
// it completes. Results are the kernel's: a count of bytes (or a descriptor) when positive or zero,
// a negative errno on failure.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <coroutine>
#include <cstdint>

#include "io/cancel.h"
#include "io/waiter.h"

namespace cairn::io {

struct OperationRequest {
  enum class Kind : uint8_t {
    kReadv,      // vectors, vector_count, offset
    kWritev,     // vectors, vector_count, offset, flags: RWF_*
    kFsync,      // flags: kDataOnly or 0
    kFallocate,  // offset, length, flags: FALLOC_FL_*
    kReceive,    // buffer, length, flags: MSG_*; the socket is in blocking mode
    kSend,       // message (sendmsg), flags: MSG_*; as above; MSG_NOSIGNAL is always set
    kPoll,       // flags: POLLIN, POLLOUT…; result: the events that are ready
  };
  static constexpr uint32_t kDataOnly = 1;

  Kind kind = Kind::kReadv;
  bool poll_first = false;  // kReceive, kSend: the caller has just tried, it will have to wait
  bool in_memory = false;   // file operations: the file is in memory and never waits for a device
  bool on_thread = false;   // in_memory, but another thread shall do it, from now on
  int fd = -1;
  uint32_t flags = 0;
  uint32_t vector_count = 0;
  uint64_t offset = 0;  // in bytes
  uint64_t length = 0;  // in bytes
  const iovec* vectors = nullptr;
  void* buffer = nullptr;
  const msghdr* message = nullptr;
};

struct Operation {
  explicit Operation(const OperationRequest& what) : request(what) {}

  OperationRequest request;
  int64_t result = 0;
  Waiter waiter;
  // The rest belongs to the back end while the operation is in flight.
  Operation* next = nullptr;
  Operation* previous = nullptr;
  uint32_t state = 0;
};

// `int64_t result = co_await OperationAwaiter(request)`: does it on the current reactor. With a
// token, cancelling it makes the kernel give the operation up; the result is then -ECANCELED,
// unless it was done already.
//
// What can be done at once is done at the co_await, with one system call and without suspending:
// sockets that are ready, files in memory. A reactor allows so many of these a turn, so that a busy
// coroutine does not keep the others from running. Large transfers to and from files in memory go
// to another thread when there are several (CopyPolicy).
class OperationAwaiter : private CancelHook {
 public:
  explicit OperationAwaiter(const OperationRequest& request, CancelToken token = {})
      : operation_(request), token_(token) {}

  [[nodiscard]] bool await_ready();
  void await_suspend(std::coroutine_handle<> handle);
  [[nodiscard]] int64_t await_resume();

 private:
  void on_cancel() override;

  Operation operation_;
  CancelToken token_;
};

// The system call for a file operation (kReadv, kWritev, kFsync, kFallocate), which may wait for a
// device. Returns what Operation::result says.
[[nodiscard]] int64_t run_file_operation(const OperationRequest& request);

// Tries kReceive or kSend without waiting; -EAGAIN when the socket has no data, or no room.
[[nodiscard]] int64_t try_socket_operation(const OperationRequest& request);

}  // namespace cairn::io
