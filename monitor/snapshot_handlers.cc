// Commands about snapshots, inside an image and in others.
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "block/node_info.h"
#include "block/snapshot.h"
#include "monitor/find_node.h"
#include "monitor/handlers.h"
#include "monitor/snapshot_actions.h"
#include "schema/types_block_info.h"

namespace cairn::monitor {

namespace {

io::Task<Result<void>> run_alone(Services& services, std::unique_ptr<Action> action) {
  std::vector<std::unique_ptr<Action>> actions;
  actions.push_back(std::move(action));
  co_return co_await run_actions(services, std::move(actions));
}

}  // namespace

HandlerResult<commands::BlockdevSnapshotSync> handle(Services& services,
                                                     commands::BlockdevSnapshotSync,
                                                     schema::BlockdevSnapshotSync arguments) {
  co_return co_await run_alone(services, make_snapshot(services, arguments));
}

HandlerResult<commands::BlockdevSnapshot> handle(Services& services, commands::BlockdevSnapshot,
                                                 schema::BlockdevSnapshot arguments) {
  co_return co_await run_alone(services, make_snapshot(services, arguments));
}

HandlerResult<commands::BlockdevSnapshotInternalSync> handle(
    Services& services, commands::BlockdevSnapshotInternalSync,
    schema::BlockdevSnapshotInternal arguments) {
  co_return co_await run_alone(services, make_snapshot(services, arguments));
}

HandlerResult<commands::BlockdevSnapshotDeleteInternalSync> handle(
    Services& services, commands::BlockdevSnapshotDeleteInternalSync,
    schema::BlockdevSnapshotDeleteInternalSyncArguments arguments) {
  auto node = find_root_node(services.graph, arguments.device);
  if (!node) {
    co_return pass(node);
  }
  if (!arguments.id && !arguments.name) {
    co_return fail(EINVAL, "Name or id must be provided");
  }
  const auto snapshots = list_snapshots(**node);
  if (!snapshots) {
    co_return std::unexpected(snapshots.error());
  }
  std::optional<block::Snapshot> found;
  for (const block::Snapshot& snapshot : *snapshots) {
    const bool matches = (!arguments.id || snapshot.id == *arguments.id) &&
                         (!arguments.name || snapshot.name == *arguments.name);
    if (matches && !found) {
      found = snapshot;
    }
  }
  if (!found) {
    co_return fail(ENOENT, "Snapshot with id '{}' and name '{}' does not exist on device '{}'",
                   arguments.id.value_or("null"), arguments.name.value_or("null"),
                   arguments.device);
  }
  // Others go on with theirs: nothing they see changes.
  auto edge = services.graph.attach(*node, "", {.used = block::PermissionSet::kWrite});
  if (!edge) {
    co_return pass(edge);
  }
  Result<void> deleted = co_await (*edge)->delete_snapshot(found->id);
  Result<void> detached = co_await services.graph.detach(std::move(*edge));
  if (!deleted || !detached) {
    co_return pass(deleted ? detached : deleted);
  }
  co_return block::describe_snapshot(*found);
}

}  // namespace cairn::monitor
