#include "jobs/amend_job.h"

namespace cairn::jobs {

io::Task<Result<void>> AmendJob::run() {
  set_total(1);
  add_done(1);
  co_return Result<void>{};
}

}  // namespace cairn::jobs
