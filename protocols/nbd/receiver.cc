#include "protocols/nbd/receiver.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace cairn::nbd::client {

io::Task<Result<void>> Receiver::need(std::size_t count) {
  assert(count <= kCapacity);
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (kCapacity - begin_ < count) {
    std::memmove(memory_.get(), memory_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  while (!has(count)) {
    const std::span<std::byte> room(memory_.get() + end_, kCapacity - end_);
    auto reading = stream_.read_some(room);
    const Result<std::size_t> got = co_await reading;
    if (!got) {
      co_return std::unexpected(got.error());
    }
    if (*got == 0) {
      co_return fail(ECONNRESET, "The server closed the connection");
    }
    end_ += *got;
  }
  co_return Result<void>();
}

std::span<const std::byte> Receiver::take(std::size_t count) {
  assert(has(count));
  const std::span<const std::byte> taken(memory_.get() + begin_, count);
  begin_ += count;
  return taken;
}

io::Task<Result<void>> Receiver::read_into(io::IoVector target) {
  const std::size_t buffered = std::min<uint64_t>(target.size(), end_ - begin_);
  target.copy_from(0, take(buffered));
  if (buffered == target.size()) {
    co_return Result<void>();
  }
  const io::IoVector rest = target.slice(buffered, target.size() - buffered);
  for (const iovec& segment : rest.segments()) {
    const std::span<std::byte> bytes(static_cast<std::byte*>(segment.iov_base), segment.iov_len);
    auto reading = stream_.read_exact(bytes);
    Result<void> result = co_await std::move(reading);
    if (!result) {
      co_return result;
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> Receiver::skip(uint64_t count) {
  while (count != 0) {
    if (!has(1)) {
      auto more = need(1);
      Result<void> result = co_await std::move(more);
      if (!result) {
        co_return result;
      }
    }
    const std::size_t piece = std::min<uint64_t>(count, end_ - begin_);
    begin_ += piece;
    count -= piece;
  }
  co_return Result<void>();
}

}  // namespace cairn::nbd::client
