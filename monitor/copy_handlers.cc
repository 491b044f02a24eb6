// Commands that copy disks: transactions of one action.
#include <memory>
#include <utility>
#include <vector>

#include "monitor/copy_actions.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

io::Task<Result<void>> run_alone(Services& services, std::unique_ptr<Action> action) {
  std::vector<std::unique_ptr<Action>> actions;
  actions.push_back(std::move(action));
  co_return co_await run_actions(services, std::move(actions));
}

}  // namespace

HandlerResult<commands::BlockdevBackup> handle(Services& services, commands::BlockdevBackup,
                                               schema::BlockdevBackup arguments) {
  auto action = make_backup(services, arguments, nullptr);
  co_return co_await run_alone(services, std::move(action));
}

HandlerResult<commands::DriveBackup> handle(Services& services, commands::DriveBackup,
                                            schema::DriveBackup arguments) {
  auto action = make_backup(services, arguments, nullptr);
  co_return co_await run_alone(services, std::move(action));
}

HandlerResult<commands::BlockdevMirror> handle(Services& services, commands::BlockdevMirror,
                                               schema::BlockdevMirrorArguments arguments) {
  auto action = make_mirror(services, arguments);
  co_return co_await run_alone(services, std::move(action));
}

HandlerResult<commands::DriveMirror> handle(Services& services, commands::DriveMirror,
                                            schema::DriveMirror arguments) {
  auto action = make_mirror(services, arguments);
  co_return co_await run_alone(services, std::move(action));
}

}  // namespace cairn::monitor
