// Commands about exports, where they are served, and the NBD server.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "chardev/address.h"
#include "monitor/handlers.h"
#include "monitor/setup.h"

namespace cairn::monitor {

namespace {

Result<void> remove_export(Services& services, std::string_view id,
                           std::optional<schema::BlockExportRemoveMode> mode) {
  const bool hard = mode == schema::BlockExportRemoveMode::kHard;
  return services.exports.remove(id,
                                 hard ? exports::RemoveMode::kHard : exports::RemoveMode::kSafe);
}

// An export, a job or the like.
bool has_outside_user(const block::Node& node) {
  return std::ranges::any_of(node.parents(),
                             [](const block::Edge* edge) { return edge->parent() == nullptr; });
}

}  // namespace

HandlerResult<commands::NbdServerStart> handle(Services& services, commands::NbdServerStart,
                                               schema::NbdServerOptionsLegacy options) {
  Result<void> started = co_await start_nbd_server(services, options);
  co_return started;
}

HandlerResult<commands::NbdServerStop> handle(Services& services, commands::NbdServerStop,
                                              schema::NoArguments) {
  Result<void> stopped = co_await services.nbd_server.stop();
  co_return stopped;
}

HandlerResult<commands::BlockExportAdd> handle(Services& services, commands::BlockExportAdd,
                                               schema::BlockExportOptions options) {
  const auto* disk = std::get_if<schema::BlockExportOptionsVhostUserBlk>(&options.branch);
  if (disk != nullptr && !services.may_name_descriptors) {
    if (auto checked = chardev::check_from_monitor(disk->addr); !checked) {
      co_return checked;
    }
  }
  Result<void> added = co_await services.exports.add(options);
  co_return added;
}

HandlerResult<commands::BlockExportDel> handle(Services& services, commands::BlockExportDel,
                                               schema::BlockExportDelArguments arguments) {
  co_return remove_export(services, arguments.id, arguments.mode);
}

HandlerResult<commands::NbdServerAdd> handle(Services& services, commands::NbdServerAdd,
                                             schema::NbdServerAddOptions options) {
  Result<void> added = co_await add_nbd_export(services, options);
  co_return added;
}

HandlerResult<commands::NbdServerRemove> handle(Services& services, commands::NbdServerRemove,
                                                schema::NbdServerRemoveArguments arguments) {
  co_return remove_export(services, arguments.name, arguments.mode);
}

HandlerResult<commands::QueryBlockExports> handle(Services& services, commands::QueryBlockExports,
                                                  schema::NoArguments) {
  std::vector<schema::BlockExportInfo> result;
  for (const exports::ExportInfo& info : services.exports.query()) {
    schema::BlockExportInfo entry;
    entry.id = info.id;
    entry.type = schema::from_string<schema::BlockExportType>(info.type).value();
    entry.node_name = info.node_name;
    entry.shutting_down = info.shutting_down;
    result.push_back(std::move(entry));
  }
  co_return result;
}

HandlerResult<commands::XBlockdevSetIothread> handle(
    Services& services, commands::XBlockdevSetIothread,
    schema::XBlockdevSetIothreadArguments arguments) {
  const std::shared_ptr<block::Node> node = services.graph.find(arguments.node_name);
  if (node == nullptr) {
    co_return fail(ENOENT, "Failed to find node with node-name='{}'", arguments.node_name);
  }
  if (!arguments.force.value_or(false) && has_outside_user(*node)) {
    co_return fail(EBUSY,
                   "Node {} is associated with a BlockBackend and could be in use (use force=true "
                   "to override this check)",
                   node->name());
  }
  exports::Thread thread;
  if (const auto* name = std::get_if<std::string>(&arguments.iothread.value)) {
    auto found = find_thread(services.objects, *name);
    if (!found) {
      co_return fail(ENOENT, "Cannot find iothread {}", *name);
    }
    thread = std::move(*found);
  }
  co_return services.exports.threads().move(node, thread);
}

}  // namespace cairn::monitor
