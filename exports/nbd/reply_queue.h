// ReplyQueue: replies that wait to be sent, and the sending of all of them with one system call.
//
// Specification: "Simple reply message", "Structured reply chunk message", "Structured reply
// types". Replies of any kind are queued; flush() hands as many as the socket takes to sendmsg(),
// headers and payloads as one scatter list. Payloads are not copied in user space: their buffers
// are held until they are sent (with TLS, until they are encrypted).
//
// The queue also counts what its owner limits: each request's last chunk carries the request's
// share, and flush() reports the shares of what has left.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "exports/nbd/buffer_pool.h"
#include "exports/nbd/request.h"
#include "io/socket.h"

namespace cairn::nbd {

// One extent of a block status reply; narrowed for clients without extended headers.
struct StatusExtent {
  uint64_t length = 0;  // bytes
  uint32_t flags = 0;
};

class ReplyQueue {
 public:
  enum class Format : uint8_t { kSimple, kStructured, kExtended };

  // What the socket made of a flush.
  enum class Outcome : uint8_t { kEmpty, kBlocked, kBroken };
  struct Flushed {
    Outcome outcome = Outcome::kEmpty;
    // Requests whose last byte was sent, and the sum of their shares in bytes.
    std::size_t requests = 0;
    uint64_t bytes = 0;
  };

  // Both outlive the queue.
  ReplyQueue(const io::Stream& stream, BufferPool& pool) : stream_(stream), pool_(pool) {}
  void set_format(Format format) { format_ = format; }
  [[nodiscard]] Format format() const { return format_; }

  // The whole answer to a request that brings nothing back.
  void success(const Request& request);
  // The whole answer to a read: `data` holds request.length bytes.
  void read_data(const Request& request, BufferPool::Lease data);
  // The same, of a range that is known to be zero; structured formats only.
  void read_hole(const Request& request);
  // Extents in one metadata context; `last` for the last context of the request. False, with
  // nothing queued, when there is no memory for it.
  [[nodiscard]] bool block_status(const Request& request, uint32_t context,
                                  std::span<const StatusExtent> extents, bool last);
  // The whole answer to a request that failed. The message goes to clients that understand one.
  void error(const Request& request, WireError error, std::string_view message);

  // Nothing has to be sent any more.
  [[nodiscard]] bool empty() const { return next_ == items_.size() && !stream_.has_unsent(); }
  [[nodiscard]] std::size_t queued() const { return items_.size() - next_; }
  [[nodiscard]] uint64_t queued_bytes() const { return queued_bytes_; }

  // Sends until everything is out (kEmpty), the socket is full (kBlocked) or the connection is gone
  // (kBroken). Never waits.
  [[nodiscard]] Flushed flush();

  // Throws away what is queued.
  Flushed drop();

 private:
  static constexpr std::size_t kMaxHead = 48;

  struct Item {
    std::array<std::byte, kMaxHead> head;
    uint32_t head_length = 0;
    uint32_t body_length = 0;
    BufferPool::Lease body;
    uint64_t share = 0;  // bytes, counted when it is sent
    bool last = false;   // of its request
  };

  // Appends a chunk of `payload` bytes with its header. The item's head is filled up to the
  // payload; the caller puts the payload's fixed part into head and the rest into body.
  Item& chunk(const Request& request, Chunk type, uint64_t payload, bool last);
  Item& simple(const Request& request, WireError error);
  void finish(Item& item, uint32_t body_length);
  void account_sent(std::size_t sent, Flushed& flushed);
  void forget_sent();

  const io::Stream& stream_;
  BufferPool& pool_;
  Format format_ = Format::kSimple;
  std::vector<Item> items_;
  std::size_t next_ = 0;          // the first that is not sent completely
  std::size_t sent_of_next_ = 0;  // bytes of it that are
  uint64_t queued_bytes_ = 0;
};

}  // namespace cairn::nbd
