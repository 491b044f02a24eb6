// Session: the conversation with one front-end, from its first message until it leaves, is sent
// away or the export goes. Then nothing of its memory is touched any more.
//
// Invariants
// - Messages are worked on one after the other. One that changes what queues work with waits until
//   they stand still; they go on afterwards where they were.
// - A message that can not be understood, or a queue that can not be worked with, ends the session
//   with an error; the export and everybody else go on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "exports/vhost_user/block_device.h"
#include "exports/vhost_user/dirty_log.h"
#include "exports/vhost_user/guest_memory.h"
#include "exports/vhost_user/mapped_file.h"
#include "exports/vhost_user/message_socket.h"
#include "exports/vhost_user/protocol.h"
#include "exports/vhost_user/queue.h"
#include "io/cancel.h"
#include "io/fd.h"
#include "io/socket.h"
#include "io/task.h"

namespace cairn::vhost_user {

class Session {
 public:
  // The device outlives this.
  Session(io::Stream stream, BlockDevice& device);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() = default;

  // Serves until the end, once. A failure is the front-end's.
  [[nodiscard]] io::Task<Result<void>> run();
  // Makes run() end.
  void stop() { stopping_.cancel(); }

  // The device's configuration has changed: the front-end is told, when it wants to be.
  void announce_config_change();

 private:
  // What a message leads to. Without a body it is answered only when the front-end asked for that.
  struct Answer {
    std::optional<std::vector<std::byte>> body = std::nullopt;
    io::Fd descriptor = {};
    bool refused = false;
  };
  using Outcome = Result<Answer>;
  [[nodiscard]] static Outcome outcome_of(Result<void> result);

  // session.cc
  [[nodiscard]] io::Task<Result<void>> converse();
  [[nodiscard]] io::Task<Result<void>> answer(const Message& message, Outcome outcome);
  [[nodiscard]] io::Task<Outcome> handle(Message& message);
  [[nodiscard]] io::Task<void> stop_queues();
  void start_queues();
  [[nodiscard]] bool agreed(ProtocolFeature feature) const {
    return (protocol_features_ & bit(feature)) != 0;
  }

  // session_device.cc: messages about the device as a whole.
  [[nodiscard]] bool is_query(MessageKind kind) const;
  [[nodiscard]] Outcome handle_query(Message& message);
  [[nodiscard]] Outcome get_config(const Message& message) const;
  [[nodiscard]] Outcome set_config(const Message& message);
  [[nodiscard]] Outcome get_inflight(const Message& message) const;
  [[nodiscard]] Result<void> set_protocol_features(const Message& message);
  [[nodiscard]] Result<void> set_request_descriptor(Message& message);
  // These are called while all queues stand still.
  [[nodiscard]] Outcome change_device(Message& message);
  [[nodiscard]] Result<void> set_features(const Message& message);
  [[nodiscard]] Result<void> set_memory_table(const Message& message);
  [[nodiscard]] Result<void> add_region(const Message& message);
  [[nodiscard]] Result<void> remove_region(const Message& message);
  [[nodiscard]] Result<void> set_log(const Message& message);
  [[nodiscard]] Result<void> set_inflight(const Message& message);
  [[nodiscard]] Result<void> set_status(const Message& message);
  void reset_device();
  // What a queue of this size takes for tracking what is in flight.
  [[nodiscard]] uint64_t region_bytes(uint16_t queue_size) const;
  void update_context();

  // session_queues.cc: messages about one queue.
  [[nodiscard]] static bool is_about_queue(MessageKind kind);
  [[nodiscard]] io::Task<Outcome> handle_queue(Message& message);
  [[nodiscard]] Outcome change_queue(Message& message, Queue& queue);
  [[nodiscard]] Result<Queue*> queue_of(const Message& message);
  void track(uint32_t index, Queue& queue) const;

  MessageSocket socket_;
  BlockDevice& device_;
  GuestMemory memory_;
  std::optional<DirtyLog> log_;
  MappedFile inflight_;
  InflightArea inflight_area_{};
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
  uint64_t status_ = 0;
  io::Fd frontend_requests_;  // where it takes messages of ours
  QueueContext context_;
  std::map<uint32_t, std::unique_ptr<Queue>> queues_;  // those that a message was about
  std::optional<Error> broken_;
  io::CancelSource stopping_;
};

}  // namespace cairn::vhost_user
