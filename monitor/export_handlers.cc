// Commands about exports and the NBD server.
#include "monitor/handlers.h"
#include "monitor/setup.h"

namespace cairn::monitor {

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
  Result<void> added = co_await add_export(services, options);
  co_return added;
}

HandlerResult<commands::BlockExportDel> handle(Services& services, commands::BlockExportDel,
                                               schema::BlockExportDelArguments arguments) {
  const bool hard = arguments.mode == schema::BlockExportRemoveMode::kHard;
  co_return services.exports.remove(arguments.id,
                                    hard ? exports::RemoveMode::kHard : exports::RemoveMode::kSafe);
}

HandlerResult<commands::NbdServerAdd> handle(Services& services, commands::NbdServerAdd,
                                             schema::NbdServerAddOptions options) {
  Result<void> added = co_await add_nbd_export(services, options);
  co_return added;
}

HandlerResult<commands::NbdServerRemove> handle(Services& services, commands::NbdServerRemove,
                                                schema::NbdServerRemoveArguments arguments) {
  const bool hard = arguments.mode == schema::BlockExportRemoveMode::kHard;
  co_return services.exports.remove(arguments.name,
                                    hard ? exports::RemoveMode::kHard : exports::RemoveMode::kSafe);
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

}  // namespace cairn::monitor
