// Changing the options of an image that is in use, as a job: what x-blockdev-amend asks for.
//
// All that can be changed this way is the encryption of an image.
#pragma once

#include <memory>
#include <utility>

#include "block/graph.h"
#include "jobs/job.h"
#include "schema/types_block_create.h"

namespace cairn::jobs {

class AmendJob final : public Job {
 public:
  // `graph` must outlive the job. `force`: also what loses the data.
  AmendJob(JobSettings settings, block::Graph& graph, std::shared_ptr<block::Node> node,
           schema::BlockdevAmendOptions options, bool force)
      : Job(std::move(settings)),
        graph_(graph),
        node_(std::move(node)),
        options_(std::move(options)),
        force_(force) {}

  // Whether the driver of the options has any that can be changed.
  [[nodiscard]] static bool possible(const schema::BlockdevAmendOptions& options);

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> amend();

  block::Graph& graph_;
  std::shared_ptr<block::Node> node_;
  schema::BlockdevAmendOptions options_;
  bool force_;
};

}  // namespace cairn::jobs
