// Snapshots as actions of a transaction; a command is a transaction of one.
#pragma once

#include <memory>

#include "monitor/services.h"
#include "monitor/transaction_actions.h"
#include "schema/types_block_core.h"

namespace cairn::monitor {

// The services and `wanted` outlive the action.
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshotSync& wanted);
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshot& wanted);
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshotInternal& wanted);

}  // namespace cairn::monitor
