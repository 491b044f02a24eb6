// The list of an image's snapshots as people read it.
#pragma once

#include <span>
#include <string>

namespace cairn::schema {
struct SnapshotInfo;
}

namespace cairn::tools {

// A heading and a line for each, every line `indent` columns in; nothing when there are none.
[[nodiscard]] std::string snapshot_list_text(std::span<const schema::SnapshotInfo> snapshots,
                                             int indent = 0);

}  // namespace cairn::tools
