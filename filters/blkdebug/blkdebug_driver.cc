#include "filters/blkdebug/blkdebug_driver.h"

#include <algorithm>
#include <utility>

#include "filters/padding.h"
#include "io/timer.h"

namespace cairn::filters::blkdebug {

BlkdebugDriver::BlkdebugDriver(block::Edge& image, Settings settings)
    : FilterDriver(image), settings_(std::move(settings)) {
  settings_.rules.reached(block::FaultPoint::kNone);
}

io::WaiterList* BlkdebugDriver::reached(block::FaultPoint point) {
  settings_.rules.reached(point);
  return breakpoints_.reached(point);
}

io::Task<Result<void>> BlkdebugDriver::pass_rules(RequestKind kind, uint64_t offset,
                                                  uint64_t length) {
  const std::optional<ErrorRule> failure = settings_.rules.failure_of(kind, offset, length);
  if (!failure) {
    co_return Result<void>{};
  }
  if (!failure->immediately) {
    co_await io::yield_now();
  }
  co_return std::unexpected(Error::from_errno(failure->error));
}

uint64_t BlkdebugDriver::present(uint64_t offset, uint64_t length) const {
  return within_child(child().length(), offset, length, settings_.limits.request_alignment);
}

io::Task<Result<void>> BlkdebugDriver::read(uint64_t offset, io::IoVector data) {
  Result<void> result = co_await pass_rules(RequestKind::kRead, offset, data.size());
  if (!result) {
    co_return result;
  }
  const uint64_t length = present(offset, data.size());
  if (length < data.size()) {
    data.fill(std::byte{0}, length, data.size() - length);
    data = data.slice(0, length);
  }
  co_return co_await child().read(offset, std::move(data));
}

io::Task<Result<void>> BlkdebugDriver::write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) {
  Result<void> result = co_await pass_rules(RequestKind::kWrite, offset, data.size());
  if (!result) {
    co_return result;
  }
  const uint64_t length = present(offset, data.size());
  if (length < data.size()) {
    data = data.slice(0, length);
  }
  co_return co_await child().write(offset, std::move(data), flags);
}

io::Task<Result<void>> BlkdebugDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) {
  Result<void> result = co_await pass_rules(RequestKind::kWriteZeroes, offset, length);
  if (!result) {
    co_return result;
  }
  co_return co_await child().write_zeroes(offset, present(offset, length), flags);
}

io::Task<Result<void>> BlkdebugDriver::discard(uint64_t offset, uint64_t length) {
  Result<void> result = co_await pass_rules(RequestKind::kDiscard, offset, length);
  if (!result) {
    co_return result;
  }
  co_return co_await child().discard(offset, present(offset, length));
}

io::Task<Result<void>> BlkdebugDriver::flush() {
  Result<void> result = co_await pass_rules(RequestKind::kFlush, 0, 0);
  if (!result) {
    co_return result;
  }
  co_return co_await child().flush();
}

io::Task<Result<block::BlockStatus>> BlkdebugDriver::status(uint64_t offset, uint64_t length) {
  Result<void> result = co_await pass_rules(RequestKind::kBlockStatus, offset, length);
  if (!result) {
    co_return pass(result);
  }
  co_return co_await child().status(offset, length);
}

block::Permissions BlkdebugDriver::child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const {
  block::Permissions permissions = FilterDriver::child_permissions(role, parents, writable);
  permissions.used |= settings_.take;
  permissions.shared = permissions.shared.without(settings_.unshare);
  return permissions;
}

}  // namespace cairn::filters::blkdebug
