// The commands of the transmission phase. Each runs as a task of its own in its transmission's
// group and ends by queueing exactly one answer. Specification: "Request types".
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "exports/nbd/transmission.h"
#include "io/iovector.h"

namespace cairn::nbd {
namespace {

// Reads from this length on are answered as a hole where the metadata says so: for smaller ones
// asking costs more than it saves.
constexpr uint64_t kSmallestHole = 16384;
// CACHE reads in pieces of this many bytes.
constexpr uint64_t kCachePiece = uint64_t{256} * 1024;

}  // namespace

bool Transmission::wants_durable(const Request& request) const {
  return request.has(kFlagFua) || export_.writethrough();
}

// Answers a request that brings no data back. What the client gets to read is the errno's text
// alone: the engine's messages name files of this host.
void Transmission::finish(const Request& request, const Result<void>& result) {
  if (result) {
    output_.success(request);
  } else {
    const int code = result.error().code();
    output_.error(request, wire_error(code), strerrordesc_np(code));
  }
  replied();
}

io::Task<void> Transmission::do_read(Request request) {
  const bool may_be_hole = request.length >= kSmallestHole && !request.has(kFlagDf) &&
                           output_.format() != ReplyQueue::Format::kSimple;
  bool hole = may_be_hole && node_.try_read_zeroes(request.offset, request.length);
  BufferPool::Lease data;
  Result<void> result;
  if (!hole) {
    data = pool_.take(request.length);
  }
  if (!hole && !data.valid()) {
    result = fail_errno(ENOMEM, "No memory for a read");
  } else if (!hole) {
    io::IoVector vector(data.data(), request.length);
    if (may_be_hole && node_.away()) {
      Result<bool> zeroes = co_await node_.read_or_zeroes(request.offset, std::move(vector));
      hole = zeroes && *zeroes;
      result = zeroes ? Result<void>() : pass(zeroes);
    } else {
      result = co_await node_.read(request.offset, std::move(vector));
    }
  }
  if (result && !hole) {
    output_.read_data(request, std::move(data));
    replied();
    co_return;
  }
  in_flight_bytes_ -= request.length;
  if (hole) {
    output_.read_hole(request);
    replied();
  } else {
    finish(request, result);
  }
}

io::Task<void> Transmission::do_write(Request request, Payload payload) {
  io::IoVector vector = io::IoVector::of_const(payload.bytes);
  const block::WriteFlags flags{.fua = wants_durable(request)};
  const Result<void> result = co_await node_.write(request.offset, std::move(vector), flags);
  in_flight_bytes_ -= request.length;
  finish(request, result);
}

io::Task<void> Transmission::do_flush(Request request) {
  const Result<void> result = co_await node_.flush();
  finish(request, result);
}

io::Task<void> Transmission::do_trim(Request request) {
  Result<void> result = co_await node_.discard(request.offset, request.length);
  if (result && wants_durable(request)) {
    result = co_await node_.flush();
  }
  finish(request, result);
}

io::Task<void> Transmission::do_write_zeroes(Request request) {
  const block::ZeroFlags flags{.fua = wants_durable(request),
                               .may_unmap = !request.has(kFlagNoHole),
                               .no_fallback = request.has(kFlagFastZero)};
  const Result<void> result = co_await node_.write_zeroes(request.offset, request.length, flags);
  finish(request, result);
}

// Reading is what brings data nearer, whatever the caches below are.
io::Task<void> Transmission::do_cache(Request request) {
  const uint64_t end = request.offset + request.length;
  BufferPool::Lease scratch = pool_.take(std::min(request.length, kCachePiece));
  Result<void> result;
  if (!scratch.valid()) {
    result = fail_errno(ENOMEM, "No memory for a read");
  }
  for (uint64_t offset = request.offset; result && offset < end; offset += kCachePiece) {
    io::IoVector vector(scratch.data(), std::min(end - offset, kCachePiece));
    result = co_await node_.read(offset, std::move(vector));
  }
  finish(request, result);
}

}  // namespace cairn::nbd
