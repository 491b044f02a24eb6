// Snapshots as actions of a transaction; a command is a transaction of one.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "block/snapshot.h"
#include "monitor/services.h"
#include "monitor/transaction_actions.h"
#include "schema/types_block_core.h"

namespace cairn::monitor {

// The snapshots inside an image. ENOTSUP where there can be none.
[[nodiscard]] Result<std::vector<block::Snapshot>> list_snapshots(const block::Node& node);

// The services and `wanted` outlive the action.
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshotSync& wanted);
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshot& wanted);
[[nodiscard]] std::unique_ptr<Action> make_snapshot(Services& services,
                                                    const schema::BlockdevSnapshotInternal& wanted);

}  // namespace cairn::monitor
