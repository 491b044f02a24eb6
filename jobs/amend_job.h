// Changing the options of an image that is in use, as a job: what x-blockdev-amend asks for.
//
// All that could be changed this way is the encryption of an image. Images here have none, so that
// every request that passes the checks of its options asks for nothing.
#pragma once

#include <utility>

#include "jobs/job.h"

namespace cairn::jobs {

class AmendJob final : public Job {
 public:
  explicit AmendJob(JobSettings settings) : Job(std::move(settings)) {}

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
};

}  // namespace cairn::jobs
