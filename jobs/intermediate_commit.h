// IntermediateCommit: commits an image that others have as their backing file. They get the base in
// its place, and their headers say so.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jobs/commit_job.h"

namespace cairn::jobs {

class IntermediateCommit final : public CommitJob {
 public:
  IntermediateCommit(block::Graph& graph, CommitJobOptions options)
      : CommitJob(graph, std::move(options)) {}

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> prepare() override;
  [[nodiscard]] block::NewFilter new_filter(std::optional<std::string> name) const override;
  [[nodiscard]] Result<void> keep_nodes() override;
  // Where the image ends it hides what a longer base has there from longer images above it.
  [[nodiscard]] uint64_t end_of_work() const;
  [[nodiscard]] io::Task<Result<Piece>> next_piece(uint64_t offset, uint64_t end);
  [[nodiscard]] io::Task<Result<void>> replace_image(std::vector<block::Edge*> overlays);
  [[nodiscard]] io::Task<Result<void>> change_header(block::Edge* overlay);
};

}  // namespace cairn::jobs
