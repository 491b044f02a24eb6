// Backups and mirrors as actions of a transaction; a command is a transaction of one.
#pragma once

#include <memory>

#include "jobs/job_group.h"
#include "monitor/services.h"
#include "monitor/transaction_actions.h"
#include "schema/types_block_copy.h"

namespace cairn::monitor {

// The services and `wanted` outlive the action. The job joins the group, unless that is null.
[[nodiscard]] std::unique_ptr<Action> make_backup(Services& services,
                                                  const schema::BlockdevBackup& wanted,
                                                  std::shared_ptr<jobs::JobGroup> group);
[[nodiscard]] std::unique_ptr<Action> make_backup(Services& services,
                                                  const schema::DriveBackup& wanted,
                                                  std::shared_ptr<jobs::JobGroup> group);
[[nodiscard]] std::unique_ptr<Action> make_mirror(Services& services,
                                                  const schema::BlockdevMirrorArguments& wanted);
[[nodiscard]] std::unique_ptr<Action> make_mirror(Services& services,
                                                  const schema::DriveMirror& wanted);

}  // namespace cairn::monitor
