// Describing nodes, as `info` and the monitor's queries do.
#pragma once

#include "base/result.h"
#include "io/task.h"

namespace cairn::schema {
struct BlockGraphInfo;
struct BlockNodeInfo;
struct SnapshotInfo;
}  // namespace cairn::schema

namespace cairn::block {

class Node;
struct Snapshot;

[[nodiscard]] schema::SnapshotInfo describe_snapshot(const Snapshot& snapshot);

// What `node`, which outlives the task, can tell about its image. Opens nothing.
[[nodiscard]] io::Task<Result<schema::BlockNodeInfo>> describe_image(const Node& node);

// The same with all that is below it.
[[nodiscard]] io::Task<Result<schema::BlockGraphInfo>> describe_tree(const Node& node);

// Bytes of host storage that the node's own image takes, without its backing files; negative when
// that can not be told.
[[nodiscard]] int64_t allocated_size(const Node& node);

}  // namespace cairn::block
