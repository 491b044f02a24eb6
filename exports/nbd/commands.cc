// The commands of the transmission phase. Each runs as a task of its own in its connection's group
// and ends by queueing exactly one answer. Specification: "Request types".
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "exports/nbd/connection.h"
#include "io/iovector.h"

namespace cairn::nbd {
namespace {

// Reads from this length on are answered as a hole where the metadata says so: for smaller ones
// asking costs more than it saves.
constexpr uint64_t kSmallestHole = 16384;
// CACHE reads in pieces of this many bytes.
constexpr uint64_t kCachePiece = uint64_t{256} * 1024;
// A block status reply has at most so many extents a context, and takes at most so many look-ups;
// the client asks again for the rest.
constexpr std::size_t kMaxExtents = 1024;
constexpr int kMaxLookups = 4096;

// Collects the extents of one metadata context; neighbours with the same flags become one.
class ExtentCollector {
 public:
  explicit ExtentCollector(std::size_t limit) : limit_(limit) {}

  void add(uint64_t length, uint32_t flags) {
    if (full_) {
      return;
    }
    if (!extents_.empty() && extents_.back().flags == flags) {
      extents_.back().length += length;
    } else if (extents_.size() == limit_) {
      full_ = true;
    } else {
      extents_.push_back({length, flags});
    }
  }

  [[nodiscard]] bool full() const { return full_; }
  [[nodiscard]] const std::vector<StatusExtent>& extents() const { return extents_; }

 private:
  std::size_t limit_;
  std::vector<StatusExtent> extents_;
  bool full_ = false;
};

uint32_t allocation_flags(const block::BlockStatus& status) {
  return (status.data ? 0 : kStateHole) | (status.zero ? kStateZero : 0);
}

// 0: nowhere; 1: in the node itself; more: so far down the chain of backing nodes.
uint32_t depth_of(const block::ChainStatus& found) {
  return found.status.allocated ? static_cast<uint32_t>(found.depth) + 1 : 0;
}

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

io::Task<void> Connection::do_block_status(Request request) {
  const std::size_t limit = request.has(kFlagReqOne) ? 1 : kMaxExtents;
  ExtentCollector allocation(limit);
  ExtentCollector depth(limit);
  const uint64_t end = request.offset + request.length;
  uint64_t offset = request.offset;
  for (int i = 0; i < kMaxLookups && offset < end; ++i) {
    const auto found = co_await export_->root().chain_status(offset, end - offset);
    if (!found) {
      finish(request, fail(found.error().code(), "Block status failed"));
      co_return;
    }
    const uint64_t length = std::min(found->status.length, end - offset);
    allocation.add(length, allocation_flags(found->status));
    depth.add(length, depth_of(*found));
    const bool enough = (!agreement_.allocation || allocation.full()) &&
                        (!agreement_.allocation_depth || depth.full());
    if (enough) {
      break;
    }
    offset += length;
  }
  bool queued = true;
  if (agreement_.allocation) {
    queued = output_.block_status(request, kContextAllocation, allocation.extents(),
                                  !agreement_.allocation_depth);
  }
  if (queued && agreement_.allocation_depth) {
    queued = output_.block_status(request, kContextDepth, depth.extents(), true);
  }
  if (!queued) {
    finish(request, fail_errno(ENOMEM, "No memory for a reply"));
    co_return;
  }
  replied();
}

}  // namespace cairn::nbd
