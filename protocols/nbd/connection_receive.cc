// Taking replies apart ("Simple reply message", "Structured reply chunk message", "Extended reply
// chunk message"). Everything here is said by the server and is checked before it is used; an error
// ends the connection.
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "protocols/nbd/connection.h"

namespace cairn::nbd::client {

namespace {

// The message of an error, with what else belongs to the chunk.
constexpr uint64_t kMaxErrorChunk = kMaxString + 16;
// A server may tell of more extents than it was asked for; this many bytes of them are skipped.
constexpr uint64_t kMaxExtentsChunk = uint64_t{1} << 20;

template <typename T>
T field(std::span<const std::byte> bytes, std::size_t at) {
  return load_be<T>(bytes.data() + at);
}

// "Error values"; what is not in the list means EINVAL.
int errno_of(uint32_t error) {
  switch (static_cast<WireError>(error)) {
    case WireError::kNone:
      return 0;
    case WireError::kPerm:
      return EPERM;
    case WireError::kIo:
      return EIO;
    case WireError::kNoMemory:
      return ENOMEM;
    case WireError::kNoSpace:
      return ENOSPC;
    case WireError::kOverflow:
      return EOVERFLOW;
    case WireError::kNotSupported:
      return ENOTSUP;
    case WireError::kShutdown:
      return ESHUTDOWN;
    case WireError::kInvalid:
      break;
  }
  return EINVAL;
}

}  // namespace

Exchange* Connection::find(uint64_t cookie) const {
  Exchange* exchange = slots_[cookie % kMaxInFlight];
  return exchange != nullptr && exchange->cookie == cookie ? exchange : nullptr;
}

io::Task<void> Connection::receive_all() {
  while (alive_) {
    auto receiving = receive_reply();
    const Result<void> received = co_await std::move(receiving);
    if (!received) {
      break_off(received.error());
    }
  }
  for (Exchange* exchange : slots_) {
    if (exchange != nullptr) {
      exchange->lost = true;
      finish(*exchange);
    }
  }
}

io::Task<Result<Connection::Reply>> Connection::receive_header() {
  const uint32_t expected = info_.extended ? kExtendedReplyMagic : kStructuredReplyMagic;
  if (!receiver_.has(4)) {
    auto magic_first = receiver_.need(4);
    Result<void> got = co_await std::move(magic_first);
    if (!got) {
      co_return pass(got);
    }
  }
  const auto magic = field<uint32_t>(receiver_.bytes(), 0);
  const bool simple = magic == kSimpleReplyMagic && !info_.extended;
  if (!simple && (magic != expected || !info_.structured)) {
    co_return fail(EPROTO, "The server sent a reply with the bad magic 0x{:08x}", magic);
  }
  const std::size_t size = simple           ? kSimpleReplySize
                           : info_.extended ? kExtendedReplySize
                                            : kStructuredReplySize;
  if (!receiver_.has(size)) {
    auto rest = receiver_.need(size);
    Result<void> got = co_await std::move(rest);
    if (!got) {
      co_return pass(got);
    }
  }
  const std::span<const std::byte> header = receiver_.take(size);
  Reply reply{.simple = simple};
  const auto cookie = field<uint64_t>(header, 8);
  if (simple) {
    reply.done = true;
    reply.error = field<uint32_t>(header, 4);
  } else {
    reply.done = (field<uint16_t>(header, 4) & kReplyDone) != 0;
    reply.type = field<uint16_t>(header, 6);
    reply.length = info_.extended ? field<uint64_t>(header, 24) : field<uint32_t>(header, 16);
  }
  reply.exchange = find(cookie);
  if (reply.exchange == nullptr) {
    co_return fail(EPROTO, "The server replied to a request that was not made (cookie 0x{:x})",
                   cookie);
  }
  co_return reply;
}

io::Task<Result<void>> Connection::receive_reply() {
  auto header = receive_header();
  const Result<Reply> reply = co_await std::move(header);
  if (!reply) {
    co_return std::unexpected(reply.error());
  }
  Exchange& exchange = *reply->exchange;
  io::Task<Result<void>> body;
  const auto type = static_cast<Chunk>(reply->type);
  if (reply->simple) {
    exchange.error = errno_of(reply->error);
    if (exchange.command == Command::kRead && exchange.error == 0) {
      if (info_.structured) {
        co_return fail(EPROTO, "The server answered a read without a structured reply");
      }
      body = receiver_.read_into(exchange.data);
      static_cast<void>(exchange.coverage.add(0, exchange.length));
    }
  } else if ((reply->type & kReplyIsError) != 0) {
    body = receive_error(exchange, reply->length);
  } else if (type == Chunk::kNone) {
    if (reply->length != 0 || !reply->done) {
      co_return fail(EPROTO, "The server sent an empty chunk in a wrong form");
    }
  } else if (type == Chunk::kOffsetData && exchange.command == Command::kRead) {
    body = receive_data(exchange, reply->length);
  } else if (type == Chunk::kOffsetHole && exchange.command == Command::kRead) {
    body = receive_hole(exchange, reply->length);
  } else if (exchange.command == Command::kBlockStatus &&
             type == (info_.extended ? Chunk::kBlockStatusExtended : Chunk::kBlockStatus)) {
    body = receive_extents(exchange, reply->length, info_.extended);
  } else {
    co_return fail(EPROTO, "The server sent a chunk of type {} in reply to command {}", reply->type,
                   static_cast<uint16_t>(exchange.command));
  }
  if (body.valid()) {
    Result<void> received = co_await std::move(body);
    if (!received) {
      co_return received;
    }
  }
  if (!reply->done) {
    co_return Result<void>();
  }
  Result<void> complete = check_complete(exchange);
  if (complete) {
    finish(exchange);
  }
  co_return complete;
}

Result<void> Connection::check_complete(const Exchange& exchange) const {
  if (exchange.error != 0) {
    return {};
  }
  if (exchange.command == Command::kRead && !exchange.coverage.complete(exchange.length)) {
    return fail(EPROTO, "The server sent only a part of the data that was asked for");
  }
  if (exchange.command == Command::kBlockStatus && exchange.extent_length == 0) {
    return fail(EPROTO, "The server answered a request for block status without any");
  }
  return {};
}

// "NBD_REPLY_TYPE_OFFSET_DATA"
io::Task<Result<void>> Connection::receive_data(Exchange& exchange, uint64_t length) {
  if (length <= 8) {
    co_return fail(EPROTO, "The server sent a chunk of data that is too short");
  }
  auto place = receiver_.need(8);
  Result<void> got = co_await std::move(place);
  if (!got) {
    co_return got;
  }
  const uint64_t at = field<uint64_t>(receiver_.take(8), 0) - exchange.offset;
  length -= 8;
  // One that is before the request has wrapped round to a huge number.
  if (at > exchange.length || length > exchange.length - at || !exchange.coverage.add(at, length)) {
    co_return fail(EPROTO, "The server sent data that was not asked for");
  }
  auto reading = receiver_.read_into(exchange.data.slice(at, length));
  co_return co_await std::move(reading);
}

// "NBD_REPLY_TYPE_OFFSET_HOLE"
io::Task<Result<void>> Connection::receive_hole(Exchange& exchange, uint64_t length) {
  if (length != 12) {
    co_return fail(EPROTO, "The server sent a hole in a wrong form");
  }
  auto place = receiver_.need(12);
  Result<void> got = co_await std::move(place);
  if (!got) {
    co_return got;
  }
  const std::span<const std::byte> hole = receiver_.take(12);
  const uint64_t at = field<uint64_t>(hole, 0) - exchange.offset;
  const uint64_t size = field<uint32_t>(hole, 8);
  if (size == 0 || at > exchange.length || size > exchange.length - at ||
      !exchange.coverage.add(at, size)) {
    co_return fail(EPROTO, "The server sent a hole that was not asked for");
  }
  exchange.data.fill(std::byte{0}, at, size);
  co_return got;
}

// "NBD_REPLY_TYPE_BLOCK_STATUS", "NBD_REPLY_TYPE_BLOCK_STATUS_EXT"
io::Task<Result<void>> Connection::receive_extents(Exchange& exchange, uint64_t length,
                                                   bool extended) {
  const uint64_t head = extended ? 8 : 4;
  const uint64_t entry = extended ? 16 : 8;
  if (length < head + entry || (length - head) % entry != 0 || length > kMaxExtentsChunk) {
    co_return fail(EPROTO, "The server sent block status in a wrong form");
  }
  auto first = receiver_.need(head + entry);
  Result<void> got = co_await std::move(first);
  if (!got) {
    co_return got;
  }
  const std::span<const std::byte> bytes = receiver_.take(head + entry);
  if (field<uint32_t>(bytes, 0) != info_.context) {
    co_return fail(EPROTO, "The server sent block status of a context that was not asked for");
  }
  if (extended && field<uint32_t>(bytes, 4) != (length - head) / entry) {
    co_return fail(EPROTO, "The server sent block status in a wrong form");
  }
  if (exchange.extent_length != 0) {
    co_return fail(EPROTO, "The server sent block status twice");
  }
  exchange.extent_length = extended ? field<uint64_t>(bytes, 8) : field<uint32_t>(bytes, 4);
  exchange.extent_flags = extended ? field<uint64_t>(bytes, 16) : field<uint32_t>(bytes, 8);
  if (exchange.extent_length == 0) {
    co_return fail(EPROTO, "The server sent block status of nothing");
  }
  auto skipping = receiver_.skip(length - head - entry);
  co_return co_await std::move(skipping);
}

// "Error types": NBD_REPLY_TYPE_ERROR, NBD_REPLY_TYPE_ERROR_OFFSET, and what is to come.
io::Task<Result<void>> Connection::receive_error(Exchange& exchange, uint64_t length) {
  if (length < 6 || length > kMaxErrorChunk) {
    co_return fail(EPROTO, "The server sent an error in a wrong form");
  }
  auto all = receiver_.need(length);
  Result<void> got = co_await std::move(all);
  if (!got) {
    co_return got;
  }
  const std::span<const std::byte> bytes = receiver_.take(length);
  const auto error = field<uint32_t>(bytes, 0);
  const auto text = field<uint16_t>(bytes, 4);
  if (error == 0 || text > length - 6) {
    co_return fail(EPROTO, "The server sent an error in a wrong form");
  }
  if (exchange.error == 0) {  // the first one is what went wrong
    exchange.error = errno_of(error);
    exchange.message = printable(bytes.subspan(6, text));
  }
  co_return got;
}

}  // namespace cairn::nbd::client
