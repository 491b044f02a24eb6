// Jobs that write to an image which others only read from: it becomes writable for as long as the
// job runs.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "io/task.h"
#include "jobs/job.h"

namespace cairn::jobs {

class WritableNode {
 public:
  explicit WritableNode(block::Graph& graph) : graph_(graph) {}

  // Makes it writable if it is not.
  [[nodiscard]] io::Task<Result<void>> take(std::shared_ptr<block::Node> node, InDrain drain);
  // Makes it read-only again if it was. Where that fails it stays as it is.
  [[nodiscard]] io::Task<void> give_back(InDrain drain);
  // It stays writable.
  void keep() { node_.reset(); }

 private:
  block::Graph& graph_;
  std::shared_ptr<block::Node> node_;  // that was read-only
};

}  // namespace cairn::jobs
