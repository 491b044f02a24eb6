// Session: the conversation with the kernel about one mount. Requests are taken as they come, many
// at a time, and each is a task that ends with an answer. They are read from the descriptor; where
// the kernel agrees, RequestQueues takes over all but a few kinds that only come this way.
//
// Invariants
// - Every request that was read is answered once, but for those that have no answer.
// - Memory is bounded: there are no more requests in flight than kMostRequests; more wait in the
//   kernel.
// - Buffers are large, and only as much of them is touched as requests fill.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "exports/fuse/file_requests.h"
#include "exports/fuse/protocol.h"
#include "exports/fuse/request_queues.h"
#include "io/buffer.h"
#include "io/cancel.h"
#include "io/semaphore.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::fuse {

class Session {
 public:
  // Makes the queues when the kernel offers them; a failure means that there are to be none.
  using MakeQueues = std::function<Result<std::unique_ptr<RequestQueues>>()>;

  // A descriptor of /dev/fuse in non-blocking mode; it and `requests` outlive the session.
  Session(int descriptor, FileRequests& requests, MakeQueues make_queues);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  // After run().
  ~Session() = default;

  // Serves on the reactor that is current, until the file system is unmounted or `stop` is
  // cancelled; then takes no more requests, and completes when those that were taken are answered.
  // Once.
  [[nodiscard]] io::Task<void> run(io::CancelToken stop);

 private:
  static constexpr std::size_t kMostRequests = 128;
  static constexpr std::size_t kSpareBuffers = 16;

  // A buffer begins with the request, which ends its first page where it is a write's, so that the
  // data lies at the beginning of the next one. That is also where data that is read goes.
  struct Incoming {
    io::AlignedBuffer buffer;
    std::size_t length = 0;
    io::Semaphore::Units place;

    [[nodiscard]] std::span<std::byte> room();
    [[nodiscard]] std::span<std::byte> data();
  };

  [[nodiscard]] io::Task<void> serve(io::CancelToken stop);
  // False: there will be no more requests.
  [[nodiscard]] io::Task<bool> receive(Incoming& incoming, io::CancelToken stop);
  [[nodiscard]] Result<io::AlignedBuffer> take_buffer();
  void keep_buffer(io::AlignedBuffer buffer);
  [[nodiscard]] io::Task<void> handle(Incoming incoming);
  void initialise(const Request& request);
  void answer(const Request& request, int code, std::span<const std::byte> bytes = {});

  const int descriptor_;
  FileRequests& requests_;
  const MakeQueues make_queues_;
  std::unique_ptr<RequestQueues> queues_;
  io::CancelToken stop_;
  std::vector<io::AlignedBuffer> spare_;
  io::Semaphore places_{kMostRequests};
  io::TaskGroup tasks_;
};

}  // namespace cairn::fuse
