// JobGroup: jobs that end together.
//
// None is finalized before all have done their work; when one fails or is cancelled, so are the
// others. A job that belongs to no group is alone in one of its own.
#pragma once

#include <cstddef>
#include <vector>

#include "io/cancel.h"
#include "io/event.h"

namespace cairn::jobs {

class Job;

class JobGroup {
 public:
  JobGroup() = default;
  JobGroup(const JobGroup&) = delete;
  JobGroup& operator=(const JobGroup&) = delete;

 private:
  friend class JobList;

  std::vector<Job*> members_;  // in the order they were added
  std::size_t at_work_ = 0;    // whose run() is not over
  bool failed_ = false;
  bool settling_ = false;      // its end has begun: too late to cancel
  io::Event finalized_;        // for those that do not finalize themselves
  io::CancelSource given_up_;  // waiting for that
};

}  // namespace cairn::jobs
