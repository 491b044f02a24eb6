#include "exports/ublk/block_requests.h"

#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "base/sector.h"
#include "io/iovector.h"

namespace cairn::ublk {
namespace {

RequestKind kind_of(const RequestDescription& asked) {
  return static_cast<RequestKind>(asked.kind_and_flags & UINT8_MAX);
}

}  // namespace

io::Task<int32_t> BlockRequests::serve(RequestDescription asked,
                                       std::span<std::byte> memory) const {
  const RequestKind kind = kind_of(asked);
  const bool transfers = kind == RequestKind::kRead || kind == RequestKind::kWrite;
  const uint64_t length = asked.sectors * kSector;
  const auto offset = checked_mul(asked.first_sector, kSector);
  if (!offset || (transfers && length > memory.size())) {
    co_return -EINVAL;
  }
  Result<void> done;
  if (kind == RequestKind::kRead) {
    auto reading = node_.read(*offset, io::IoVector(memory.data(), length));
    done = co_await std::move(reading);
  } else if (kind == RequestKind::kFlush) {
    auto flushing = node_.flush();
    done = co_await std::move(flushing);
  } else if (!settings_.writable) {
    co_return -EROFS;
  } else {
    auto changing = change(asked, *offset, length, memory);
    done = co_await std::move(changing);
  }
  if (!done) {
    co_return -done.error().code();
  }
  co_return transfers ? static_cast<int32_t>(length) : 0;
}

io::Task<Result<void>> BlockRequests::change(RequestDescription asked, uint64_t offset,
                                             uint64_t length, std::span<std::byte> memory) const {
  const bool durable = settings_.writethrough || (asked.kind_and_flags & kDurable) != 0;
  switch (kind_of(asked)) {
    case RequestKind::kWrite: {
      auto writing = node_.write(offset, io::IoVector(memory.data(), length), {.fua = durable});
      co_return co_await std::move(writing);
    }
    case RequestKind::kDiscard: {
      auto discarding = node_.discard(offset, length);
      co_return co_await std::move(discarding);
    }
    case RequestKind::kWriteZeroes: {
      const bool may_unmap = (asked.kind_and_flags & kKeepAllocated) == 0;
      auto zeroing = node_.write_zeroes(offset, length, {.fua = durable, .may_unmap = may_unmap});
      co_return co_await std::move(zeroing);
    }
    case RequestKind::kRead:
    case RequestKind::kFlush:
      break;
  }
  co_return fail(EOPNOTSUPP, "a request of an unknown kind");
}

}  // namespace cairn::ublk
