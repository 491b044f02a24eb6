// Nodes that become read-only and writable again in the middle of a round: everything that was
// acknowledged is durable then, bitmaps included, and what comes after it goes on from there.
#include <cerrno>

#include "block/reopen.h"
#include "tests/sim/history.h"

namespace cairn::testing {

io::Task<Result<void>> History::set_read_only(bool read_only) {
  const auto alone = co_await graph_.alone();
  std::shared_ptr<block::Node> top = root_->shared_node();
  co_return co_await block::set_read_only(std::move(top), read_only);
}

io::Task<void> History::reopen() {
  using block::PermissionSet;
  const block::Permissions before = root_->permissions();
  const block::Permissions reader{.used = PermissionSet::kConsistentRead,
                                  .shared = PermissionSet::all()};
  if (!graph_.set_permissions(*root_, reader)) {
    find("the simulator can not stop writing");
    co_return;
  }
  world_.note("start of reopening");
  const ContentModel::Handle flush = model_->begin_flush();
  const Result<void> frozen = co_await set_read_only(true);
  bitmaps_stored();
  if (!frozen && frozen.error().code() == EINVAL) {
    // The image has become one of version 2, where an option that it was opened with is none.
    world_.note("reopening refused");
    retired_ = !graph_.set_permissions(*root_, before);
    co_return;
  }
  ended("reopen read-only", {}, frozen);
  if (frozen && world_.powered()) {
    model_->end_flush(flush);
  }
  if (frozen && random_.chance(25)) {
    retired_ = true;  // it stays so to its end
    co_return;
  }
  Result<void> thawed;
  if (frozen) {
    thawed = co_await set_read_only(false);
  }
  ended("reopen writable", {}, thawed);
  if (!thawed || !graph_.set_permissions(*root_, before)) {
    retired_ = true;
    if (thawed && !troubled()) {
      find("the simulator can not write again");
    }
  }
}

}  // namespace cairn::testing
