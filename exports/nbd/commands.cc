// The commands of the transmission phase. Each runs as a task of its own in its connection's group
// and ends by queueing exactly one answer. Specification: "Request types".
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "exports/nbd/connection.h"
#include "io/iovector.h"

namespace cairn::nbd {
namespace {

// Reads from this length on are answered as a hole where the metadata says so: for smaller ones
// asking costs more than it saves.
constexpr uint64_t kSmallestHole = 16384;
// CACHE reads in pieces of this many bytes.
constexpr uint64_t kCachePiece = uint64_t{256} * 1024;

}  // namespace

bool Connection::wants_durable(const Request& request) const {
  return request.has(kFlagFua) || export_->writethrough();
}

// Answers a request that brings no data back. What the client gets to read is the errno's text
// alone: the engine's messages name files of this host.
void Connection::finish(const Request& request, const Result<void>& result) {
  if (result) {
    output_.success(request);
  } else {
    const int code = result.error().code();
    output_.error(request, wire_error(code), strerrordesc_np(code));
  }
  replied();
}

io::Task<void> Connection::do_read(Request request) {
  const bool may_be_hole = request.length >= kSmallestHole && !request.has(kFlagDf) &&
                           output_.format() != ReplyQueue::Format::kSimple;
  if (may_be_hole && export_->root().try_read_zeroes(request.offset, request.length)) {
    in_flight_bytes_ -= request.length;
    output_.read_hole(request);
    replied();
    co_return;
  }
  BufferPool::Lease data = pool_.take(request.length);
  Result<void> result;
  if (data.valid()) {
    io::IoVector vector(data.data(), request.length);
    result = co_await export_->root().read(request.offset, std::move(vector));
  } else {
    result = fail_errno(ENOMEM, "No memory for a read");
  }
  if (result) {
    output_.read_data(request, std::move(data));
    replied();
  } else {
    in_flight_bytes_ -= request.length;
    finish(request, result);
  }
}

io::Task<void> Connection::do_write(Request request, Payload payload) {
  io::IoVector vector = io::IoVector::of_const(payload.bytes);
  const block::WriteFlags flags{.fua = wants_durable(request)};
  const Result<void> result =
      co_await export_->root().write(request.offset, std::move(vector), flags);
  in_flight_bytes_ -= request.length;
  finish(request, result);
}

io::Task<void> Connection::do_flush(Request request) {
  const Result<void> result = co_await export_->root().flush();
  finish(request, result);
}

io::Task<void> Connection::do_trim(Request request) {
  Result<void> result = co_await export_->root().discard(request.offset, request.length);
  if (result && wants_durable(request)) {
    result = co_await export_->root().flush();
  }
  finish(request, result);
}

io::Task<void> Connection::do_write_zeroes(Request request) {
  const block::ZeroFlags flags{.fua = wants_durable(request),
                               .may_unmap = !request.has(kFlagNoHole),
                               .no_fallback = request.has(kFlagFastZero)};
  const Result<void> result =
      co_await export_->root().write_zeroes(request.offset, request.length, flags);
  finish(request, result);
}

// Reading is what brings data nearer, whatever the caches below are.
io::Task<void> Connection::do_cache(Request request) {
  const uint64_t end = request.offset + request.length;
  BufferPool::Lease scratch = pool_.take(std::min(request.length, kCachePiece));
  Result<void> result;
  if (!scratch.valid()) {
    result = fail_errno(ENOMEM, "No memory for a read");
  }
  for (uint64_t offset = request.offset; result && offset < end; offset += kCachePiece) {
    io::IoVector vector(scratch.data(), std::min(end - offset, kCachePiece));
    result = co_await export_->root().read(offset, std::move(vector));
  }
  finish(request, result);
}

}  // namespace cairn::nbd
