#include "jobs/writable_node.h"

#include <utility>

#include "block/reopen.h"

namespace cairn::jobs {
namespace {

io::Task<Result<void>> change_read_only(block::Graph& graph, std::shared_ptr<block::Node> node,
                                        bool read_only, InDrain drain) {
  if (drain == InDrain::kYes) {
    co_return co_await block::set_read_only(std::move(node), read_only);
  }
  const auto alone = co_await graph.alone();
  co_return co_await block::set_read_only(std::move(node), read_only);
}

}  // namespace

io::Task<Result<void>> WritableNode::take(std::shared_ptr<block::Node> node, InDrain drain) {
  if (!node->read_only()) {
    co_return Result<void>();
  }
  Result<void> changed = co_await change_read_only(graph_, node, false, drain);
  if (changed) {
    node_ = std::move(node);
  }
  co_return changed;
}

io::Task<void> WritableNode::give_back(InDrain drain) {
  const std::shared_ptr<block::Node> node = std::exchange(node_, nullptr);
  // It may have gone with its last user.
  if (node != nullptr && graph_.find(node->name()) == node) {
    const Result<void> changed = co_await change_read_only(graph_, node, true, drain);
    static_cast<void>(changed);
  }
}

}  // namespace cairn::jobs
