#include "protocols/nbd/nbd_driver.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/bytes.h"
#include "block/node.h"

namespace cairn::nbd::client {

block::Limits NbdDriver::limits() const {
  const uint32_t unit = std::max(info().min_block, 1U);
  // What a server takes that does not say: "Block size constraints".
  const uint32_t most =
      info().max_block == 0 ? kMaxPayload : std::min(info().max_block, kMaxPayload);
  block::Limits limits;
  limits.request_alignment = unit;
  limits.max_transfer = align_down(most, unit);
  limits.zero_alignment = unit;
  limits.discard_alignment = unit;
  if (!info().extended) {
    // The length of a request has 32 bits.
    limits.max_zeroes = align_down(std::numeric_limits<uint32_t>::max(), unit);
    limits.max_discard = limits.max_zeroes;
  }
  limits.native_fua = offers(kSendFua);
  return limits;
}

io::Task<Result<void>> NbdDriver::read(uint64_t offset, io::IoVector data) {
  const uint64_t there = std::min(data.size(), length() - std::min(offset, length()));
  data.fill(std::byte{0}, there, data.size() - there);
  if (there == 0) {
    co_return Result<void>();
  }
  Exchange exchange(Command::kRead, offset, there);
  exchange.data = there == data.size() ? std::move(data) : data.slice(0, there);
  auto running = session_->run(exchange);
  co_return co_await std::move(running);
}

io::Task<Result<void>> NbdDriver::write(uint64_t offset, io::IoVector data,
                                        block::WriteFlags flags) {
  const uint64_t there = std::min(data.size(), length() - std::min(offset, length()));
  if (!data.is_zero(there, data.size() - there)) {
    co_return fail(ENOSPC, "The export of the NBD server at '{}' ends at byte {}",
                   session_->server(), length());
  }
  if (there == 0) {
    co_return Result<void>();
  }
  Exchange exchange(Command::kWrite, offset, there);
  exchange.flags = flags.fua ? kFlagFua : uint16_t{0};
  exchange.data = there == data.size() ? std::move(data) : data.slice(0, there);
  auto running = session_->run(exchange);
  co_return co_await std::move(running);
}

io::Task<Result<void>> NbdDriver::plain(Command command, uint64_t offset, uint64_t length,
                                        uint16_t flags) {
  const uint64_t end = this->length();
  const uint64_t there = std::min(length, end - std::min(offset, end));
  if (there == 0 && length != 0) {
    co_return Result<void>();
  }
  Exchange exchange(command, offset, there);
  exchange.flags = flags;
  auto running = session_->run(exchange);
  co_return co_await std::move(running);
}

io::Task<Result<void>> NbdDriver::write_zeroes(uint64_t offset, uint64_t length,
                                               block::ZeroFlags flags) {
  if (!offers(kSendWriteZeroes)) {
    co_return fail(ENOTSUP, "The NBD server can not write zeroes");
  }
  if (flags.no_fallback && !offers(kSendFastZero)) {
    co_return fail(ENOTSUP, "The NBD server can not tell whether it writes zeroes fast");
  }
  uint16_t wire = flags.may_unmap ? 0 : kFlagNoHole;
  wire |= flags.no_fallback ? kFlagFastZero : 0;
  auto running = plain(Command::kWriteZeroes, offset, length, wire);
  co_return co_await std::move(running);
}

io::Task<Result<void>> NbdDriver::discard(uint64_t offset, uint64_t length) {
  if (!offers(kSendTrim)) {
    co_return fail(ENOTSUP, "The NBD server can not discard");
  }
  auto running = plain(Command::kTrim, offset, length, 0);
  co_return co_await std::move(running);
}

io::Task<Result<void>> NbdDriver::flush() {
  if (!offers(kSendFlush)) {
    co_return Result<void>();
  }
  auto running = plain(Command::kFlush, 0, 0, 0);
  co_return co_await std::move(running);
}

io::Task<Result<block::BlockStatus>> NbdDriver::status(uint64_t offset, uint64_t length) {
  block::BlockStatus status{
      .length = length, .data = true, .allocated = true, .host = node_, .host_offset = offset};
  if (offset >= this->length()) {  // in the last sector, behind the end
    status.data = false;
    status.zero = true;
    co_return status;
  }
  if (!info().context) {
    co_return status;
  }
  const uint64_t unit = std::max(info().min_block, 1U);
  // What has one extent alone is a request of 32 bits even where the length may have 64.
  const uint64_t most = info().extended ? align_down(INT64_MAX, unit)
                                        : align_down(std::numeric_limits<uint32_t>::max(), unit);
  Exchange exchange(Command::kBlockStatus, offset,
                    std::min({length, most, this->length() - offset}));
  exchange.flags = kFlagReqOne;
  auto running = session_->run(exchange);
  Result<void> done = co_await std::move(running);
  if (!done) {
    co_return pass(done);
  }
  const uint64_t told = std::min(exchange.extent_length, exchange.length);
  // The server must keep to its own unit; of one that does not, what is cut counts as data.
  const uint64_t whole = offset + told == this->length() ? told : align_down(told, unit);
  if (whole == 0) {
    status.length = std::min(unit, length);
    co_return status;
  }
  status.data = (exchange.extent_flags & kStateHole) == 0;
  status.zero = (exchange.extent_flags & kStateZero) != 0;
  if (!status.data && !status.zero) {
    // Nothing is there, and nobody says what it reads as.
    status.allocated = false;
    status.host = nullptr;
  }
  // The rest of the last sector is as the last byte.
  status.length = offset + whole == this->length() ? length : whole;
  co_return status;
}

io::Task<Result<void>> NbdDriver::resize(uint64_t length, block::ResizeOptions options) {
  if (length == this->length() || (!options.exact && length < this->length())) {
    co_return Result<void>();
  }
  co_return fail(ENOTSUP, "Cannot resize NBD nodes");
}

Result<bool> NbdDriver::adopt_options(const block::NodeOptions& node,
                                      const schema::BlockdevOptions& /*options*/) {
  if (!node.read_only && offers(kReadOnly)) {
    return fail_errno(EACCES, "Could not open image");
  }
  return true;
}

io::Task<Result<void>> NbdDriver::close() {
  auto closing = session_->close();
  co_await std::move(closing);
  co_return Result<void>();
}

}  // namespace cairn::nbd::client
