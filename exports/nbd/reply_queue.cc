#include "exports/nbd/reply_queue.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace cairn::nbd {
namespace {

constexpr std::size_t kMaxVectors = 256;

// Appends a big-endian integer to a header under construction.
template <typename T, typename Head>
void put(Head& head, uint32_t& length, T value) {
  assert(length + sizeof(T) <= head.size());
  store_be<T>(head.data() + length, value);
  length += sizeof(T);
}

}  // namespace

ReplyQueue::Item& ReplyQueue::simple(const Request& request, WireError error) {
  Item& item = items_.emplace_back();
  put<uint32_t>(item.head, item.head_length, kSimpleReplyMagic);
  put<uint32_t>(item.head, item.head_length, std::to_underlying(error));
  put<uint64_t>(item.head, item.head_length, request.cookie);
  item.last = true;
  return item;
}

ReplyQueue::Item& ReplyQueue::chunk(const Request& request, Chunk type, uint64_t payload,
                                    bool last) {
  Item& item = items_.emplace_back();
  const bool extended = format_ == Format::kExtended;
  put<uint32_t>(item.head, item.head_length,
                extended ? kExtendedReplyMagic : kStructuredReplyMagic);
  put<uint16_t>(item.head, item.head_length, last ? kReplyDone : 0);
  put<uint16_t>(item.head, item.head_length, std::to_underlying(type));
  put<uint64_t>(item.head, item.head_length, request.cookie);
  if (extended) {
    put<uint64_t>(item.head, item.head_length, request.offset);
    put<uint64_t>(item.head, item.head_length, payload);
  } else {
    put<uint32_t>(item.head, item.head_length, static_cast<uint32_t>(payload));
  }
  item.last = last;
  return item;
}

void ReplyQueue::finish(Item& item, uint32_t body_length) {
  item.body_length = body_length;
  queued_bytes_ += item.head_length + body_length;
}

void ReplyQueue::success(const Request& request) {
  // A simple reply may answer anything but a read, also when structured ones were negotiated.
  const bool short_form = format_ == Format::kSimple ||
                          (format_ == Format::kStructured && request.command != Command::kRead);
  finish(short_form ? simple(request, WireError::kNone) : chunk(request, Chunk::kNone, 0, true), 0);
}

void ReplyQueue::read_data(const Request& request, BufferPool::Lease data) {
  if (request.length == 0) {
    success(request);  // a content chunk has at least one byte
    return;
  }
  const auto length = static_cast<uint32_t>(request.length);
  Item* item = nullptr;
  if (format_ == Format::kSimple) {
    item = &simple(request, WireError::kNone);
  } else {
    item = &chunk(request, Chunk::kOffsetData, sizeof(uint64_t) + length, true);
    put<uint64_t>(item->head, item->head_length, request.offset);
  }
  item->share = length;
  item->body = std::move(data);
  finish(*item, length);
}

void ReplyQueue::read_hole(const Request& request) {
  assert(format_ != Format::kSimple && request.length != 0);
  Item& item = chunk(request, Chunk::kOffsetHole, sizeof(uint64_t) + sizeof(uint32_t), true);
  put<uint64_t>(item.head, item.head_length, request.offset);
  put<uint32_t>(item.head, item.head_length, static_cast<uint32_t>(request.length));
  finish(item, 0);
}

bool ReplyQueue::block_status(const Request& request, uint32_t context,
                              std::span<const StatusExtent> extents, bool last) {
  const bool extended = format_ == Format::kExtended;
  const std::size_t width = extended ? 2 * sizeof(uint64_t) : 2 * sizeof(uint32_t);
  const auto body_length = static_cast<uint32_t>(extents.size() * width);
  BufferPool::Lease body = pool_.take(body_length);
  if (!body.valid()) {
    return false;
  }
  std::byte* p = body.data();
  for (const StatusExtent& extent : extents) {
    if (extended) {
      store_be<uint64_t>(p, extent.length);
      store_be<uint64_t>(p + 8, extent.flags);
    } else {
      store_be<uint32_t>(p, static_cast<uint32_t>(extent.length));
      store_be<uint32_t>(p + 4, extent.flags);
    }
    p += width;
  }
  const std::size_t fixed = extended ? 2 * sizeof(uint32_t) : sizeof(uint32_t);
  Item& item = chunk(request, extended ? Chunk::kBlockStatusExtended : Chunk::kBlockStatus,
                     fixed + body_length, last);
  put<uint32_t>(item.head, item.head_length, context);
  if (extended) {
    put<uint32_t>(item.head, item.head_length, static_cast<uint32_t>(extents.size()));
  }
  item.body = std::move(body);
  finish(item, body_length);
  return true;
}

void ReplyQueue::error(const Request& request, WireError error, std::string_view message) {
  if (format_ == Format::kSimple) {
    finish(simple(request, error), 0);
    return;
  }
  BufferPool::Lease body = pool_.take(message.size());
  if (!body.valid()) {
    message = {};
  }
  message = message.substr(0, kMaxString);
  const auto length = static_cast<uint16_t>(message.size());
  Item& item = chunk(request, Chunk::kError, sizeof(uint32_t) + sizeof(uint16_t) + length, true);
  put<uint32_t>(item.head, item.head_length, std::to_underlying(error));
  put<uint16_t>(item.head, item.head_length, length);
  if (length != 0) {
    std::memcpy(body.data(), message.data(), length);
    item.body = std::move(body);
  }
  finish(item, length);
}

ReplyQueue::Flushed ReplyQueue::flush() {
  Flushed flushed;
  while (!empty()) {
    std::array<iovec, kMaxVectors> vectors;
    std::size_t count = 0;
    std::size_t skip = sent_of_next_;
    for (std::size_t i = next_; i < items_.size() && count + 2 <= kMaxVectors; ++i) {
      Item& item = items_[i];
      if (skip < item.head_length) {
        vectors[count++] = {item.head.data() + skip, item.head_length - skip};
        skip = 0;
      } else {
        skip -= item.head_length;
      }
      if (item.body_length > skip) {
        vectors[count++] = {item.body.data() + skip, item.body_length - skip};
      }
      skip = 0;
    }
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    const int64_t sent = stream_.try_send(message);
    if (sent >= 0) {
      account_sent(static_cast<std::size_t>(sent), flushed);
    } else if (sent == -EAGAIN) {
      flushed.outcome = Outcome::kBlocked;
      forget_sent();
      return flushed;
    } else {
      flushed.outcome = Outcome::kBroken;
      return flushed;
    }
  }
  items_.clear();
  next_ = 0;
  return flushed;
}

void ReplyQueue::account_sent(std::size_t sent, Flushed& flushed) {
  queued_bytes_ -= sent;
  sent_of_next_ += sent;
  while (next_ < items_.size()) {
    Item& item = items_[next_];
    const std::size_t length = item.head_length + item.body_length;
    if (sent_of_next_ < length) {
      return;
    }
    sent_of_next_ -= length;
    item.body = {};
    flushed.bytes += item.share;
    flushed.requests += item.last ? 1 : 0;
    ++next_;
  }
}

// A client that always leaves something unsent must not make the list grow for ever.
void ReplyQueue::forget_sent() {
  if (next_ > items_.size() / 2) {
    items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(next_));
    next_ = 0;
  }
}

ReplyQueue::Flushed ReplyQueue::drop() {
  Flushed flushed;
  for (std::size_t i = next_; i < items_.size(); ++i) {
    flushed.bytes += items_[i].share;
    flushed.requests += items_[i].last ? 1 : 0;
  }
  items_.clear();
  next_ = 0;
  sent_of_next_ = 0;
  queued_bytes_ = 0;
  return flushed;
}

}  // namespace cairn::nbd
