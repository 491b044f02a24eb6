// Commands that change an image as a whole: its snapshots, the name of its backing file.
#include <time.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "block/node_info.h"
#include "monitor/handlers.h"
#include "schema/types_block_info.h"

namespace cairn::monitor {
namespace {

// Nodes are no devices, but either name serves.
Result<std::shared_ptr<block::Node>> find_by_device(Services& services, const std::string& name) {
  std::shared_ptr<block::Node> node = services.graph.find(name);
  if (!node) {
    return fail(ENODEV, "Cannot find device='{}' nor node-name='{}'", name, name);
  }
  return node;
}

// An edge that may change the image. Others go on with theirs: nothing they see changes.
Result<std::unique_ptr<block::Edge>> attach_for_change(Services& services,
                                                       std::shared_ptr<block::Node> node) {
  block::Permissions permissions{.used = block::PermissionSet::kWrite,
                                 .shared = block::PermissionSet::all()};
  return services.graph.attach(std::move(node), "", permissions);
}

// Ends an edge; the first failure is the one to tell.
io::Task<Result<void>> detach_after(Services& services, std::unique_ptr<block::Edge> edge,
                                    Result<void> result) {
  Result<void> detached = co_await services.graph.detach(std::move(edge));
  co_return result ? std::move(detached) : std::move(result);
}

}  // namespace

HandlerResult<commands::BlockdevSnapshotInternalSync> handle(
    Services& services, commands::BlockdevSnapshotInternalSync,
    schema::BlockdevSnapshotInternalSyncArguments arguments) {
  auto node = find_by_device(services, arguments.device);
  if (!node) {
    co_return pass(node);
  }
  const auto snapshots = (*node)->driver().snapshots();
  if (!snapshots) {
    co_return fail(ENOTSUP,
                   "Block format '{}' used by device '{}' does not support internal snapshots",
                   (*node)->info().name, arguments.device);
  }
  if ((*node)->read_only()) {
    co_return fail(EACCES, "Device '{}' is read only", arguments.device);
  }
  if (arguments.name.empty()) {
    co_return fail(EINVAL, "Name is empty");
  }
  if (block::find_snapshot_by_name(*snapshots, arguments.name) != nullptr) {
    co_return fail(EEXIST, "Snapshot with name '{}' already exists on device '{}'", arguments.name,
                   arguments.device);
  }
  auto edge = attach_for_change(services, *node);
  if (!edge) {
    co_return pass(edge);
  }
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  block::Snapshot snapshot;
  snapshot.name = arguments.name;
  snapshot.date_seconds = static_cast<uint64_t>(now.tv_sec);
  snapshot.date_nanoseconds = static_cast<uint32_t>(now.tv_nsec);
  Result<void> created = co_await (*edge)->create_snapshot(std::move(snapshot));
  if (!created) {
    created = pass(created, "Failed to create snapshot '" + arguments.name + "' on device '" +
                                arguments.device + "': ");
  }
  co_return co_await detach_after(services, std::move(*edge), std::move(created));
}

HandlerResult<commands::BlockdevSnapshotDeleteInternalSync> handle(
    Services& services, commands::BlockdevSnapshotDeleteInternalSync,
    schema::BlockdevSnapshotDeleteInternalSyncArguments arguments) {
  auto node = find_by_device(services, arguments.device);
  if (!node) {
    co_return pass(node);
  }
  if (!arguments.id && !arguments.name) {
    co_return fail(EINVAL, "Name or id must be provided");
  }
  const auto snapshots = (*node)->driver().snapshots();
  if (!snapshots) {
    co_return fail(ENOTSUP, "Failed to get a snapshot list: Operation not supported");
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
  auto edge = attach_for_change(services, *node);
  if (!edge) {
    co_return pass(edge);
  }
  Result<void> deleted = co_await (*edge)->delete_snapshot(found->id);
  deleted = co_await detach_after(services, std::move(*edge), std::move(deleted));
  if (!deleted) {
    co_return pass(deleted);
  }
  co_return block::describe_snapshot(*found);
}

HandlerResult<commands::ChangeBackingFile> handle(Services& services, commands::ChangeBackingFile,
                                                  schema::ChangeBackingFileArguments arguments) {
  auto device = find_by_device(services, arguments.device);
  if (!device) {
    co_return pass(device);
  }
  std::shared_ptr<block::Node> image = services.graph.find(arguments.image_node_name);
  if (!image) {
    co_return fail(ENODEV, "Cannot find device='' nor node-name='{}'", arguments.image_node_name);
  }
  if (image->backing() == nullptr) {
    co_return fail(EINVAL, "not allowing backing file change on an image without a backing file");
  }
  const block::Node* at = device->get();
  while (at != nullptr && at != image.get()) {
    at = at->backing() == nullptr ? nullptr : &at->backing()->node();
  }
  if (at == nullptr) {
    co_return fail(EINVAL, "'{}' and image file are not in the same chain", arguments.device);
  }
  auto edge = attach_for_change(services, image);
  if (!edge) {
    co_return pass(edge);
  }
  // What is behind the image stays what it is, and so does its format.
  std::string format(image->backing()->node().info().name);
  Result<void> changed =
      co_await (*edge)->change_backing(arguments.backing_file, std::move(format));
  if (!changed) {
    changed = pass(changed, "Could not change backing file to '" + arguments.backing_file + "': ");
  }
  co_return co_await detach_after(services, std::move(*edge), std::move(changed));
}

}  // namespace cairn::monitor
