// Making an image as a job: what blockdev-create asks for.
#pragma once

#include "block/graph.h"
#include "jobs/job.h"
#include "schema/types_block_create.h"

namespace cairn::jobs {

class CreateJob final : public Job {
 public:
  // `graph` must outlive the job.
  CreateJob(JobSettings settings, block::Graph& graph, schema::BlockdevCreateOptions options)
      : Job(std::move(settings)), graph_(graph), options_(std::move(options)) {}

  // Whether images of the driver can be made this way; ENOTSUP.
  [[nodiscard]] static Result<void> check_driver(const block::Graph& graph,
                                                 schema::BlockdevDriver driver);

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> create();

  block::Graph& graph_;
  schema::BlockdevCreateOptions options_;
};

}  // namespace cairn::jobs
