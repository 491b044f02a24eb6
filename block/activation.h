// Activation: giving nodes up, so that another program can use their images, and taking them back.
//
// A node is given up with the nodes below it that nobody else uses. First its driver writes out all
// it has, persistent bitmaps included, as if the image were closed; then the locks go. To take it
// back, what is below it first, the locks are taken, and the image is opened anew.
//
// The caller holds Graph::Alone.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"

namespace cairn::block {

// Nothing to do for a node that is inactive. EPERM when a node or a user above it does not allow
// it.
[[nodiscard]] io::Task<Result<void>> inactivate(std::shared_ptr<Node> node);
[[nodiscard]] io::Task<Result<void>> activate(std::shared_ptr<Node> node);

[[nodiscard]] io::Task<Result<void>> inactivate_all(Graph& graph);
[[nodiscard]] io::Task<Result<void>> activate_all(Graph& graph);

}  // namespace cairn::block
