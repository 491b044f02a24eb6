// Reopening: nodes in use get other options and other children, all of them or none.
//
// How it goes: the options are checked, and what may not change refused; the drivers write out what
// they hold; edges, options and permissions change as one edit of the graph; then a driver that can
// not go on with other options is replaced by one that is opened anew on the node's children, from
// the leaves up. Until the last of them is there everything can go back: the old drivers still are,
// and have nothing in memory that is not on disk.
//
// The caller holds Graph::Alone.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/types_block_options.h"

namespace cairn::block {

// Gives every node that is named among `wanted` the options there; what they leave out goes back to
// its default. A child that was made for the node is reopened with it: with the options that are
// given in its place, or, when it is referred to by its name, with what it has and what its parent
// says in words. EINVAL and EPERM with the field's words.
[[nodiscard]] io::Task<Result<void>> reopen(Graph& graph,
                                            std::vector<schema::BlockdevOptions> wanted);

// Makes a node, and the children that were made for it, read-only or writable; the rest is kept.
[[nodiscard]] io::Task<Result<void>> set_read_only(std::shared_ptr<Node> node, bool read_only);

}  // namespace cairn::block
