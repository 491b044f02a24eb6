// ActiveCommit: commits the image that is in use, while it is written to. When the base has caught
// up the job is ready, and goes on copying what is written until it is told to complete: then all
// that use the image use the base.
//
// What is still to be copied is kept in a dirty bitmap of the image, which marks writes when they
// begin and when they have ended. A piece is unmarked before it is read, so that nothing that is
// written meanwhile is missed. The last of it is copied while no request is in flight.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "block/dirty_bitmap.h"
#include "jobs/commit_job.h"

namespace cairn::jobs {

class ActiveCommit final : public CommitJob {
 public:
  ActiveCommit(block::Graph& graph, CommitJobOptions options)
      : CommitJob(graph, std::move(options)) {}

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> prepare() override;
  [[nodiscard]] io::Task<void> clean() override;
  [[nodiscard]] Result<void> complete() override;
  [[nodiscard]] bool end_softly() override;
  [[nodiscard]] block::NewFilter new_filter(std::optional<std::string> name) const override;
  [[nodiscard]] Result<void> keep_nodes() override;

  // Whether the job may pause where it is, and waits for its speed limit.
  enum class Pace : uint8_t { kOrderly, kFast };

  [[nodiscard]] io::Task<Result<void>> mark_what_is_there();
  [[nodiscard]] io::Task<Result<void>> copy_marked(Pace pace);
  [[nodiscard]] io::Task<std::optional<PieceFailure>> copy_range(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> end_alone();
  [[nodiscard]] bool caught_up(int rounds) const;
  void end(bool pivot);

  block::DirtyBitmap* bitmap_ = nullptr;
  std::optional<block::DirtyBitmap::Use> use_;
  bool ending_ = false;  // somebody has told it to
  bool pivots_ = false;  // and the base is to take the image's place
};

}  // namespace cairn::jobs
