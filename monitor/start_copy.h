// StartCopy: what the actions that start backups and mirrors have in common.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "base/result.h"
#include "block/graph.h"
#include "jobs/copy_job.h"
#include "jobs/job_list.h"
#include "monitor/services.h"
#include "monitor/transaction_actions.h"

namespace cairn::monitor {

using NodeResult = Result<std::shared_ptr<block::Node>>;
using JobResult = Result<std::unique_ptr<jobs::Job>>;

// Of the arguments that all of these commands have.
template <typename Arguments>
jobs::JobSettings job_settings(const Arguments& wanted, schema::JobType type) {
  return {.id = wanted.job_id.value_or(""),
          .type = type,
          .auto_finalize = wanted.auto_finalize.value_or(true),
          .auto_dismiss = wanted.auto_dismiss.value_or(true)};
}

template <typename Arguments>
jobs::CopySettings copy_settings(const Arguments& wanted) {
  constexpr auto kReport = schema::BlockdevOnError::kReport;
  return {.speed = wanted.speed.value_or(0),
          .on_source_error = wanted.on_source_error.value_or(kReport),
          .on_target_error = wanted.on_target_error.value_or(kReport)};
}

// Gives a node back that was opened for a job which does not come about.
inline io::Task<void> give_back(block::Graph& graph, std::shared_ptr<block::Node> node) {
  const Result<void> released = co_await graph.release(std::move(node));
  static_cast<void>(released);
}

class StartCopy : public StartJob {
 public:
  StartCopy(Services& services, std::shared_ptr<jobs::JobGroup> group)
      : StartJob(services.jobs, std::move(group)), graph_(services.graph) {}

 protected:
  [[nodiscard]] block::Graph& graph() const { return graph_; }
  // Both nodes are free for a job with this name.
  [[nodiscard]] Result<void> check_free(const block::Node& source,
                                        const block::Node& target) const {
    Result<void> free = jobs().check_free(source);
    return free ? jobs().check_free(target) : free;
  }

 private:
  block::Graph& graph_;
};

}  // namespace cairn::monitor
