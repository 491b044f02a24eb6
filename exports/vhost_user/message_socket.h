// MessageSocket: the socket of one front-end: whole messages with the descriptors that came with
// them, and replies.
//
// Invariants
// - A message is bounded before memory is taken for it.
// - Every descriptor that arrives has an owner at once, and is closed with the message unless it is
//   taken out.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "exports/vhost_user/protocol.h"
#include "io/cancel.h"
#include "io/fd.h"
#include "io/socket.h"
#include "io/task.h"

namespace cairn::vhost_user {

struct Message {
  MessageKind kind{};
  bool wants_reply = false;
  std::vector<std::byte> payload;
  std::vector<io::Fd> descriptors;

  // The payload as a T, whose size it must have.
  template <typename T>
  [[nodiscard]] Result<T> body() const {
    T value;
    if (payload.size() != sizeof value) {
      return fail(EPROTO, "message {} has {} bytes instead of {}", static_cast<uint32_t>(kind),
                  payload.size(), sizeof value);
    }
    std::memcpy(&value, payload.data(), sizeof value);
    return value;
  }
};

class MessageSocket {
 public:
  explicit MessageSocket(io::Stream stream) : stream_(std::move(stream)) {}

  // The next message; nothing when the front-end has left. Fails for what is no message.
  [[nodiscard]] io::Task<Result<std::optional<Message>>> receive(io::CancelToken token);

  // Answers a message of this kind; `descriptor`, when it is one, goes along and stays the
  // caller's.
  [[nodiscard]] io::Task<Result<void>> reply(MessageKind kind, std::vector<std::byte> body,
                                             io::CancelToken token, int descriptor = -1);

 private:
  // False: the stream ended before the first byte.
  [[nodiscard]] io::Task<Result<bool>> fill(std::span<std::byte> bytes,
                                            std::vector<io::Fd>& descriptors,
                                            io::CancelToken token);

  io::Stream stream_;
};

}  // namespace cairn::vhost_user
