// Connection: one client, from accept() to the last reply.
//
// Two coroutines run for it: the receiver (run()) does the handshake, then takes requests from the
// receive buffer and starts a task for each; the sender sends what is queued at the end of a
// reactor turn and waits while the socket is full. When requests complete without suspending, the
// receiver sends their replies itself, all of a batch at once. README.md draws the states.
//
// Invariants
// - At most kMaxRequests requests and, beyond the first, kMaxBytes of their data are in flight. A
//   request is in flight from when it is taken until its reply has left; while the limits are
//   reached nothing is read from the client.
// - No receive buffer exists before the handshake is over.
// - When run() completes nothing of the connection is left: no task, no operation, no buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "exports/nbd/buffer_pool.h"
#include "exports/nbd/nbd_export.h"
#include "exports/nbd/negotiation.h"
#include "exports/nbd/receive_buffer.h"
#include "exports/nbd/reply_queue.h"
#include "exports/nbd/request.h"
#include "io/backend.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/task_group.h"
#include "io/tls.h"

namespace cairn::nbd {

// Who gets in, and how soon they have to be.
struct Gate {
  io::Duration handshake_limit{};                      // zero: none
  std::shared_ptr<const io::TlsCredentials> tls = {};  // null: no TLS; else nothing without it
  // Judges the name in a client's certificate; empty: everybody's.
  std::function<Result<void>(const std::string& identity)> authorize = {};
  // Hears why a client was turned away that did not keep to TLS; may be empty.
  std::function<void(std::string_view reason)> on_refused = {};
};

class Connection {
 public:
  static constexpr std::size_t kMaxRequests = 256;
  static constexpr uint64_t kMaxBytes = kMaxPayload;
  // How long a client may take to fetch its last replies when the server ends the connection.
  static constexpr io::Duration kLinger = std::chrono::seconds(1);

  // `exports`, `pool` and `gate` outlive the connection.
  Connection(io::Stream stream, const ExportList& exports, BufferPool& pool, const Gate& gate);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // Serves the client until it leaves, misbehaves, or stop() is called. Once.
  [[nodiscard]] io::Task<void> run();

  // Whether the client has got as far as choosing an export.
  [[nodiscard]] bool served() const { return served_; }

  // Takes no further request; run() completes when those in flight are answered.
  void stop();

  // Gives memory back that an idle client does not need. True when the connection was idle.
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

  // handshake.cc
  io::Task<bool> handshake();
  io::Task<bool> start_tls();
  io::Task<void> part();
  io::Task<bool> read_option(Negotiation& negotiation, bool& done);
  io::Task<bool> skip_option_data(uint64_t length);
  io::Task<bool> send_text(const std::string& text);
  bool enter_export(const Agreement& agreement);

  // connection.cc
  io::Task<void> transmit();
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

  io::Stream stream_;
  const ExportList& exports_;
  BufferPool& pool_;
  const Gate& gate_;
  Agreement agreement_;
  NbdExport* export_ = nullptr;
  RequestRules rules_;

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
  bool served_ = false;           // an export was chosen
  bool stopping_ = false;         // no further requests
  bool blocked_ = false;          // the socket is full, the sender waits for it
  bool broken_ = false;           // nothing can be sent any more
  bool waiting_ = false;          // the receiver waits with an empty buffer
  bool relaxed_ = false;          // that wait was interrupted by relax()
  bool active_since_relax_ = false;
};

}  // namespace cairn::nbd
