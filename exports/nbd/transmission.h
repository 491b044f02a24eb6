// Transmission: what a client asks of the export that it has chosen, until it leaves.
//
// Two coroutines run for it: the receiver (run()) takes requests from the receive buffer and starts
// a task for each; the sender sends what is queued at the end of a reactor turn and waits while the
// socket is full. When requests complete without suspending, the receiver sends their replies
// itself, all of a batch at once. README.md draws the states.
//
// All of it happens on the reactor of the client's station, and what the node has to do with it at
// home: NodeAccess is the way there.
//
// Invariants
// - At most kMaxRequests requests and, beyond the first, kMaxBytes of their data are in flight. A
//   request is in flight from when it is taken until its reply has left; while the limits are
//   reached nothing is read from the client.
// - When run() completes nothing of the transmission is left: no task, no operation, no buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "exports/nbd/buffer_pool.h"
#include "exports/nbd/nbd_export.h"
#include "exports/nbd/negotiation.h"
#include "exports/nbd/receive_buffer.h"
#include "exports/nbd/reply_queue.h"
#include "exports/nbd/request.h"
#include "exports/nbd/station.h"
#include "exports/node_access.h"
#include "io/backend.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::nbd {

class Transmission {
 public:
  static constexpr std::size_t kMaxRequests = 256;
  static constexpr uint64_t kMaxBytes = kMaxPayload;
  // How long a client may take to fetch its last replies when the server ends the connection.
  static constexpr io::Duration kLinger = std::chrono::seconds(1);

  // What was agreed on with the client, and what follows from it.
  struct Terms {
    Agreement agreement;
    RequestRules rules;
  };

  // All of them outlive the transmission. On the station's thread, as all that follows.
  Transmission(const io::Stream& stream, const NbdExport& chosen, const Terms& terms,
               Station& station);
  Transmission(const Transmission&) = delete;
  Transmission& operator=(const Transmission&) = delete;
  ~Transmission();

  // Serves the client until it leaves or misbehaves, or `stop` is cancelled: then no further
  // request is taken, and it completes when those in flight are answered. Once.
  [[nodiscard]] io::Task<void> run(io::CancelToken stop);

  // Gives memory back that an idle client does not need. True when the client was idle.
  bool relax();

 private:
  // What the receiver has to do before it can go on taking requests.
  enum class Need : uint8_t {
    kNothing,
    kData,     // wanted_ bytes in the receive buffer
    kRoom,     // fewer requests in flight
    kTurn,     // to let others run
    kPayload,  // the data of pending_, in a buffer of its own
    kSkip,     // skip_ bytes of data taken away
    kEnd,
  };

  // A write's data: in the receive buffer, or in memory of its own.
  struct Payload {
    ReceiveBuffer::Chunk::Ref chunk;
    BufferPool::Lease buffer;
    std::span<const std::byte> bytes;
  };

  // Hears of the end of run()'s token.
  class OnStop final : public io::CancelHook {
   public:
    explicit OnStop(Transmission& transmission) : transmission_(transmission) {}

   private:
    void on_cancel() override;
    Transmission& transmission_;
  };

  // transmission.cc
  Need take_requests();
  Need take_request(const Request& request, std::size_t header);
  void start(const Request& request, Payload payload);
  [[nodiscard]] bool has_room(uint64_t bytes) const;
  io::Task<bool> receive();
  io::Task<int64_t> receive_into(std::span<std::byte> memory, uint32_t flags);
  io::Task<bool> receive_payload();
  io::Task<bool> skip_payload();
  void end_receiving();

  void replied();
  void flush_now();
  io::Task<void> sender();
  io::Task<void> send_rest();
  void release(const ReplyQueue::Flushed& flushed);

  // block_status.cc
  std::optional<Refusal> narrow(Request& request, std::span<const std::byte> payload,
                                std::vector<uint32_t>& contexts) const;
  void start_block_status(Request request, const Payload& payload);
  io::Task<void> do_block_status(Request request, std::vector<uint32_t> contexts);

  // commands.cc
  io::Task<void> do_read(Request request);
  io::Task<void> do_write(Request request, Payload payload);
  io::Task<void> do_flush(Request request);
  io::Task<void> do_trim(Request request);
  io::Task<void> do_write_zeroes(Request request);
  io::Task<void> do_cache(Request request);
  void finish(const Request& request, const Result<void>& result);
  [[nodiscard]] bool wants_durable(const Request& request) const;

  const io::Stream& stream_;
  const NbdExport& export_;
  const exports::NodeAccess node_;
  const Agreement& agreement_;
  const RequestRules rules_;
  Station& station_;
  BufferPool& pool_;

  ReceiveBuffer input_;
  ReplyQueue output_;
  io::TaskGroup requests_;
  io::TaskGroup sender_group_;
  io::Event send_wanted_;
  io::Event room_;
  std::optional<io::CancelSource> receive_cancel_;  // of the wait for the client's next bytes
  io::CancelSource sender_cancel_;

  std::size_t wanted_ = 0;  // see Need
  uint64_t skip_ = 0;
  Request pending_;
  std::size_t in_flight_ = 0;     // requests
  uint64_t in_flight_bytes_ = 0;  // of data they move
  bool taking_ = false;           // the receiver runs: it will flush
  bool stopping_ = false;         // no further requests
  bool blocked_ = false;          // the socket is full, the sender waits for it
  bool broken_ = false;           // nothing can be sent any more
  bool waiting_ = false;          // the receiver waits with an empty buffer
  bool relaxed_ = false;          // that wait was interrupted by relax()
  bool active_since_relax_ = false;
};

}  // namespace cairn::nbd
