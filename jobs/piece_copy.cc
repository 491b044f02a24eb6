#include "jobs/piece_copy.h"

#include <utility>

namespace cairn::jobs {
namespace {

using schema::IoOperationType;

std::optional<PieceFailure> outcome(IoOperationType operation, Result<void> result) {
  if (result) {
    return std::nullopt;
  }
  return PieceFailure{.operation = operation, .error = std::move(result.error())};
}

}  // namespace

io::Task<std::optional<PieceFailure>> PieceCopy::copy(block::Edge& source, block::Edge& target,
                                                      uint64_t offset, uint64_t length, bool zero) {
  if (!zero) {
    if (buffer_.size() == 0) {
      auto buffer = io::AlignedBuffer::allocate(kMost);
      if (!buffer) {
        co_return outcome(IoOperationType::kRead, pass(buffer));
      }
      buffer_ = std::move(*buffer);
    }
    Result<void> read = co_await source.read(offset, buffer_.data(), length);
    if (!read) {
      co_return outcome(IoOperationType::kRead, std::move(read));
    }
    zero = io::IoVector(buffer_.data(), length).is_zero();
  }
  Result<void> written;
  if (zero) {
    written = co_await target.write_zeroes(offset, length);
  } else {
    written = co_await target.write(offset, buffer_.data(), length);
  }
  co_return outcome(IoOperationType::kWrite, std::move(written));
}

}  // namespace cairn::jobs
