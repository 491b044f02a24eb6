#include "jobs/filter_node.h"

#include <optional>
#include <string>
#include <utility>

namespace cairn::jobs {
namespace {

io::Task<Result<std::shared_ptr<block::Node>>> insert_alone(block::Graph& graph,
                                                            std::shared_ptr<block::Node> below,
                                                            block::NewFilter wanted) {
  block::GraphEdit edit(graph);
  const std::string context = wanted.error_context;
  auto filter = edit.insert_filter(below, std::move(wanted));
  if (!filter) {
    co_return pass(filter, context);
  }
  if (auto prepared = edit.prepare(); !prepared) {
    co_return pass(prepared);
  }
  // Nobody may use it yet, and it is to outlive the edit.
  const std::shared_ptr<block::Node> held = *filter;
  Result<void> done = co_await edit.commit();
  if (!done) {
    co_return pass(done);
  }
  co_return held;
}

io::Task<Result<void>> bypass_alone(block::Graph& graph, std::shared_ptr<block::Node> filter) {
  block::GraphEdit edit(graph);
  edit.bypass_filter(filter);
  if (auto prepared = edit.prepare(); !prepared) {
    co_return prepared;
  }
  co_return co_await edit.commit();
}

}  // namespace

io::Task<Result<std::shared_ptr<block::Node>>> insert_filter(block::Graph& graph,
                                                             std::shared_ptr<block::Node> below,
                                                             block::NewFilter wanted,
                                                             InDrain drain) {
  std::optional<block::Graph::Alone> alone;
  if (drain == InDrain::kNo) {
    auto mine = co_await graph.alone();
    alone.emplace(std::move(mine));
  }
  co_return co_await insert_alone(graph, std::move(below), std::move(wanted));
}

io::Task<Result<void>> bypass_filter(block::Graph& graph, std::shared_ptr<block::Node> filter,
                                     InDrain drain) {
  std::optional<block::Graph::Alone> alone;
  if (drain == InDrain::kNo) {
    auto mine = co_await graph.alone();
    alone.emplace(std::move(mine));
  }
  co_return co_await bypass_alone(graph, std::move(filter));
}

}  // namespace cairn::jobs
