// CopyJob: a job that copies in the background what a BlockCopy has pending: in parallel, at the
// job's speed, with pauses, and with a policy for what fails.
//
// Requests are counted in flight at the node of an edge that the job keeps, its entrance: a drain
// waits for them, and they wait for drains there and nowhere else.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "block/block_copy.h"
#include "io/semaphore.h"
#include "io/task.h"
#include "io/task_group.h"
#include "jobs/block_job.h"

namespace cairn::jobs {

// What backups and mirrors are asked for alike.
struct CopySettings {
  int64_t speed = 0;      // bytes a second; 0: no limit
  unsigned workers = 64;  // most requests in flight
  schema::BlockdevOnError on_source_error = schema::BlockdevOnError::kReport;
  schema::BlockdevOnError on_target_error = schema::BlockdevOnError::kReport;
};

class CopyJob : public BlockJob {
 public:
  CopyJob(JobSettings settings, block::Graph& graph, const CopySettings& wanted)
      : BlockJob(std::move(settings), graph, wanted.speed), wanted_(wanted) {}

 protected:
  // Copies what is pending, from the disk's beginning to its end, once. Ends early when the job is
  // cancelled. What failed and is to be tried again is still pending afterwards.
  [[nodiscard]] io::Task<Result<void>> copy_once(block::BlockCopy& copy, block::Edge& entrance);
  // The same until nothing is pending.
  [[nodiscard]] io::Task<Result<void>> copy_all(block::BlockCopy& copy, block::Edge& entrance);
  // After a request that failed: the error with which the job has to end; nothing when it is to be
  // tried again.
  [[nodiscard]] std::optional<Error> after_failure(bool reading, const Error& error);

 private:
  struct Round;

  [[nodiscard]] io::Task<void> begin_step(Round& round);
  [[nodiscard]] io::Task<void> copy_part(Round& round, uint64_t offset, uint64_t length,
                                         io::Semaphore::Units place);

  const CopySettings wanted_;
};

}  // namespace cairn::jobs
