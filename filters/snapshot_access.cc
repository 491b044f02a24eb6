#include "filters/snapshot_access.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "block/request_scope.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

Result<block::SnapshotView*> SnapshotAccess::view() const {
  block::SnapshotView* view = file_.node().driver().snapshot_view();
  if (view == nullptr) {
    return fail(ENOTSUP, "Node '{}' keeps no snapshot", file_.node().name());
  }
  return view;
}

block::Permissions SnapshotAccess::child_permissions(block::ChildRole /*role*/,
                                                     block::Permissions parents,
                                                     bool /*writable*/) const {
  using P = block::PermissionSet;
  return {.used = parents.used & P::kConsistentRead, .shared = P::all().without(P::kResize)};
}

io::Task<Result<void>> SnapshotAccess::flush() { co_return Result<void>(); }

io::Task<Result<void>> SnapshotAccess::read(uint64_t offset, io::IoVector data) {
  const block::RequestScope scope(file_.node());
  Result<block::SnapshotView*> snapshot = view();
  if (!snapshot) {
    co_return pass(snapshot);
  }
  co_return co_await (*snapshot)->read_snapshot(offset, std::move(data));
}

io::Task<Result<void>> SnapshotAccess::discard(uint64_t offset, uint64_t length) {
  const block::RequestScope scope(file_.node());
  Result<block::SnapshotView*> snapshot = view();
  if (!snapshot) {
    co_return pass(snapshot);
  }
  co_return co_await (*snapshot)->discard_snapshot(offset, length);
}

io::Task<Result<block::BlockStatus>> SnapshotAccess::status(uint64_t offset, uint64_t length) {
  const block::RequestScope scope(file_.node());
  Result<block::SnapshotView*> snapshot = view();
  if (!snapshot) {
    co_return pass(snapshot);
  }
  co_return co_await (*snapshot)->snapshot_status(offset, length);
}

namespace {

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_snapshot_access(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsGenericFormat>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kData);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  co_return std::make_unique<SnapshotAccess>(**file);
}

// It goes by the name of the node that it stands above.
std::string name_below_snapshot_access(const block::Node& node,
                                       const schema::BlockdevOptions& /*options*/) {
  return node.child("file")->node().filename();
}

}  // namespace

const block::DriverInfo kSnapshotAccessDriver = {
    .name = "snapshot-access",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_snapshot_access,
    .plain_name = name_below_snapshot_access,
    .can_reopen = false,
};

}  // namespace cairn::filters
