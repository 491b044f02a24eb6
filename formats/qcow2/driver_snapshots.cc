// Qcow2Driver: snapshots. No request is in flight meanwhile.
#include <cerrno>
#include <utility>

#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

Result<std::vector<block::Snapshot>> Qcow2Driver::snapshots() const {
  return snapshots_.table().list();
}

// An external data file has one place for a cluster, and no room for what it held before.
Result<void> Qcow2Driver::check_snapshots_possible() const {
  if (image_.geometry().external_data) {
    return std::unexpected(Error::from_errno(ENOTSUP));
  }
  return {};
}

// What has changed is on disk when the header is; freeing what the old state used can wait.
io::Task<Result<void>> Qcow2Driver::finish_snapshot(Result<void> result) {
  // Without them their tables are protected no more, which is no reason to fail.
  const Result<void> guarded = co_await protect_inactive_l2();
  static_cast<void>(guarded);
  const Result<void> settled = co_await settle();
  static_cast<void>(settled);
  co_return result;
}

io::Task<Result<void>> Qcow2Driver::create_snapshot(block::Snapshot snapshot) {
  Result<void> result = check_snapshots_possible();
  if (!result) {
    co_return result;
  }
  result = co_await settle();
  if (result) {
    result = co_await snapshots_.create(std::move(snapshot));
  }
  co_return co_await finish_snapshot(std::move(result));
}

io::Task<Result<void>> Qcow2Driver::apply_snapshot(std::string id) {
  Result<void> result = check_snapshots_possible();
  if (!result) {
    co_return result;
  }
  result = co_await settle();
  if (result) {
    result = co_await snapshots_.apply(std::move(id));
  }
  co_return co_await finish_snapshot(std::move(result));
}

io::Task<Result<void>> Qcow2Driver::delete_snapshot(std::string id) {
  Result<void> result = check_snapshots_possible();
  if (!result) {
    co_return result;
  }
  result = co_await settle();
  if (result) {
    result = co_await snapshots_.remove(std::move(id));
  }
  co_return co_await finish_snapshot(std::move(result));
}

io::Task<Result<void>> Qcow2Driver::show_snapshot(std::string id) {
  return snapshots_.show(std::move(id));
}

}  // namespace cairn::qcow2
